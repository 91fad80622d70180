"""The engine in this process: the events of one file, as a consumer would publish them."""

import os
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

from contracts.detections import Counts, video_time
from contracts.events import AnyEvent, FrameDetected, TaskEnded, TaskProgressed
from contracts.failures import Failure, FailureCode
from contracts.media import MediumKind, kind_by_extension
from contracts.options import DetectionOptions
from contracts.results import Checkpoint
from edge.digest import content_hash
from engine.batching import Workers
from engine.growing_file import MediumFile
from engine.images import StillPicture, read_picture
from engine.loading import load_detector
from engine.watching import Finished, FrameReport, Progressed, watch_video

PERCENT_BEFORE_END_MAX = 99


class Look:
    """One look at one file. Use `events` once; then `save_video`."""

    def __init__(self, file: Path, *, model: Path, options: DetectionOptions, is_every_look_kept: bool = False) -> None:
        """Raises `Failure`: `medium_missing` if there is no such file."""
        if not file.is_file():
            raise Failure(FailureCode.MEDIUM_MISSING, f"{file} is no file")
        self._file = file
        self._model = model
        self._options = options
        self._task_id = str(uuid.uuid4())
        self._media_id = _media_id(file)

    def events(self, stop: threading.Event) -> Iterator[AnyEvent]:
        """Reports and progress in order, and the end, unless `stop` was set before.

        Raises `Failure` if the model cannot be loaded or nothing of the file can be read.
        """
        picture = self._as_picture()
        if picture is not None:
            yield from self._image_events(picture)
        else:
            yield from self._video_events(stop)

    def _as_picture(self) -> StillPicture | None:
        """The file as a picture, None if it is to be tried as a video: by its extension, else by its content."""
        match kind_by_extension(self._file.name):
            case MediumKind.IMAGE:
                return read_picture(self._file)
            case MediumKind.VIDEO:
                return None
            case None:
                try:
                    return read_picture(self._file)
                except Failure as failure:
                    if failure.code is not FailureCode.UNSUPPORTED_MEDIA:
                        raise
                    return None

    def _image_events(self, picture: StillPicture) -> Iterator[AnyEvent]:
        workers = self._workers(count=1, threads=_cores())  # one picture: all cores for it
        try:
            detections = workers.detect_image(picture, self._options)
        finally:
            workers.close()
        yield FrameDetected(
            task_id=self._task_id,
            media_id=self._media_id,
            sequence=1,
            percent=PERCENT_BEFORE_END_MAX,
            annotations=detections,
        )
        counts = Counts(decoded=1, sampled=1, inferred=1, reported=1)
        yield TaskEnded(task_id=self._task_id, media_id=self._media_id, sequence=2, percent=100, counts=counts)

    def _video_events(self, stop: threading.Event) -> Iterator[AnyEvent]:
        workers = self._workers(count=_cores(), threads=1)
        reported = 0
        try:
            medium = MediumFile(path=self._file, extent=None)
            for step in watch_video(medium, workers=workers, options=self._options, stop=stop):
                match step:
                    case FrameReport():
                        reported = step.sequence
                        yield self._report(step)
                    case Progressed():
                        yield self._progress(step)
                    case Finished():
                        yield self._end(step, sequence=reported + 1)
                    case Checkpoint():
                        pass  # nobody resumes a run
        finally:
            workers.close()

    def _workers(self, *, count: int, threads: int) -> Workers:
        return Workers(load_detector(self._model, threads=threads), count=count)

    def _report(self, report: FrameReport) -> FrameDetected:
        return FrameDetected(
            task_id=self._task_id,
            media_id=self._media_id,
            sequence=report.sequence,
            percent=report.percent,
            frame_index=report.frame_index,
            video_time=video_time(report.at_s),
            annotations=report.detections,
        )

    def _progress(self, step: Progressed) -> TaskProgressed:
        return TaskProgressed(
            task_id=self._task_id,
            media_id=self._media_id,
            percent=step.percent,
            counts=step.counts,
            waiting_for=step.waiting_for,
        )

    def _end(self, step: Finished, *, sequence: int) -> TaskEnded:
        return TaskEnded(
            task_id=self._task_id,
            media_id=self._media_id,
            sequence=sequence,
            percent=step.percent,
            counts=step.counts,
            is_partial=step.is_partial,
            failure=step.failure,
        )


def _cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0))


def _media_id(path: Path) -> str:
    with path.open("rb") as file:
        return content_hash(file.fileno(), size_bytes=path.stat().st_size)
