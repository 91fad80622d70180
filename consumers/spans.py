"""How long decoding and inference of one attempt took: a span for each of the two, however many frames there are."""

import threading
import time
from collections.abc import Generator, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

from contracts import tracing
from contracts.tracing import Begun
from engine.decode_thread import Looked, Result, Searched
from engine.growing_file import GrowingFile
from engine.video import EVERYTHING, OpenVideo, ReadableVideo, VideoLimits, Wanted
from engine.video_frame import DecodedFrame


class StageSpan:
    """What was done of one kind, by whatever threads."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._first_ns = self._last_ns = 0
        self._busy_s = 0.0
        self._items = self._failed = 0

    @contextmanager
    def one(self) -> Generator[None]:
        """Around one of them."""
        began_ns = time.time_ns()
        try:
            yield
        except BaseException:
            self.add(began_ns, has_failed=True)
            raise
        self.add(began_ns)

    def await_one(self, future: "Future[Any]") -> None:
        """One of them has begun, and is over when the future is."""
        began_ns = time.time_ns()
        future.add_done_callback(
            lambda done: self.add(began_ns, has_failed=done.cancelled() or done.exception() is not None)
        )

    def add(self, began_ns: int, *, has_failed: bool = False) -> None:
        """One of them is over, which began then (Unix time)."""
        ended_ns = time.time_ns()
        with self._lock:
            self._first_ns = min(self._first_ns or began_ns, began_ns)
            self._last_ns = max(self._last_ns, ended_ns)
            self._busy_s += (ended_ns - began_ns) / 1e9
            self._items += 1
            self._failed += has_failed

    def record(self) -> None:
        """A span from the beginning of the first to the end of the last, child of where we are; none if there were none."""
        if not self._items:
            return
        attributes = {
            "detections.stage.items": self._items,
            "detections.stage.failed": self._failed,
            "detections.stage.busy_s": round(self._busy_s, 6),
        }
        begun = Begun(name=self._name, attributes=attributes, started_ns=self._first_ns)
        tracing.record(begun, ended_ns=self._last_ns)


class Spans:
    """The stages of one attempt, measured if traces are recorded."""

    def __init__(self) -> None:
        self._is_measured = tracing.is_recording()
        self.decode, self.infer, self.infer_shots = StageSpan("decode"), StageSpan("infer"), StageSpan("infer shots")

    def measured(self, open_video: OpenVideo) -> OpenVideo:
        """The same way to open a video, with its decoding measured."""
        if not self._is_measured:
            return open_video

        @contextmanager
        def opened(
            source: GrowingFile, *, limits: VideoLimits, wanted: Wanted = EVERYTHING
        ) -> Generator[ReadableVideo]:
            with open_video(source, limits=limits, wanted=wanted) as video:
                yield _Measured(video, self.decode)

        return opened

    def offered(self, result: Result) -> None:
        """What was submitted of a video, as the engine tells it."""
        match result:
            case _ if not self._is_measured:
                pass
            case Looked(detections=Future() as detections):
                self.infer.await_one(detections)
            case Searched(odds=odds):
                self.infer_shots.await_one(odds)
            case _:
                pass

    def record(self) -> None:
        """Spans of what was done."""
        for stage in (self.decode, self.infer, self.infer_shots):
            stage.record()


class _Measured:
    """A video, and how long each of its frames takes."""

    def __init__(self, video: ReadableVideo, stage: StageSpan) -> None:
        self._video = video
        self._stage = stage

    @property
    def damaged(self) -> int:
        return self._video.damaged

    @property
    def decoded(self) -> int:
        return self._video.decoded

    def is_partial(self) -> bool:
        return self._video.is_partial()

    def frames(self) -> Iterator[DecodedFrame]:
        began_ns = time.time_ns()
        try:
            for frame in self._video.frames():
                self._stage.add(began_ns)
                yield frame
                began_ns = time.time_ns()
        except Exception:
            self._stage.add(began_ns, has_failed=True)
            raise
