"""A picture, read and looked at: for somebody who waits, or as if it were a video of one frame."""

import threading
from collections.abc import Generator
from pathlib import Path

import msgspec

from consumers.checkpoints import Watched
from consumers.narrator import READ_PERCENT
from consumers.spans import Spans
from contracts.commands import DetectImage
from contracts.detections import PICTURE_COUNTS, Detection
from contracts.failures import Failure, FailureCode
from contracts.results import Checkpoint
from engine.account import Finished, FrameReport
from engine.batching import Workers
from engine.images import PictureLimits, read_picture
from engine.picture import Picture


class PictureLook(msgspec.Struct, frozen=True, kw_only=True):
    """How a picture is looked at."""

    workers: Workers
    limits: PictureLimits
    spans: Spans
    stop: threading.Event

    def read(self, path: Path) -> Picture:
        """Raises `Failure` as `read_picture`."""
        with self.spans.decode.one():
            return read_picture(path, limits=self.limits)

    def detect(self, picture: Picture, command: DetectImage) -> list[Detection]:
        """Raises `Failure` as `Workers.detect_image`."""
        with self.spans.infer.one():
            return self.workers.detect_image(picture, command.options, stop=self.stop)

    def at_once(self, path: Path, command: DetectImage) -> list[Detection]:
        """What it shows. Raises `Failure` as `read` and `detect`; `cancelled`."""
        if self.stop.is_set():
            raise Failure(FailureCode.CANCELLED, "as asked")
        return self.detect(self.read(path), command)

    def watched(self, path: Path, command: DetectImage, *, resume: Checkpoint | None) -> Generator[Watched, None, None]:
        """Its one report and its end, as if it were a video of one frame; nothing if it is stopped before."""
        if resume is None:
            picture = self.read(path)
            try:
                detections = self.detect(picture, command)
            except Failure as failure:
                if failure.code is FailureCode.CANCELLED:
                    return
                raise
            yield FrameReport(
                sequence=1,
                frame_index=0,
                at_s=0.0,
                detections=detections,
                percent=READ_PERCENT,
                picture=picture if command.is_posted else None,
            )
            yield Checkpoint(frame_index=0, at_s=0.0, counts=PICTURE_COUNTS, sequence=1, percent=READ_PERCENT)
        yield Finished(counts=PICTURE_COUNTS, percent=100, is_partial=False, failure=None)
