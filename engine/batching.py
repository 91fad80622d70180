"""Many streams and single images share one detector and the machine's cores, fairly.

On a CPU the best use of the cores is one thread per core, each with a whole frame (measured: ENGINE.md 5); batches gain
nothing there. Images go first, since somebody waits for them, but a flood of them cannot stop the videos. The streams take
turns. A stream whose upload starves has nothing here, so it holds no worker.
"""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from typing import Protocol

import msgspec

from contracts.detections import Detection
from contracts.failures import Failure, FailureCode
from contracts.options import DetectionOptions
from engine.picture import Picture

IMAGES_IN_A_ROW_MAX = 8
"""Images taken before a waiting video has its turn."""


class Detects(Protocol):
    """What workers need of a detector; it is called by all of them at once."""

    def detect(self, picture: Picture, options: DetectionOptions) -> list[Detection]:
        """The objects in the picture. Raises `Failure(inference_failed)`."""
        ...


Detections = Future[list[Detection]]


class _Item(msgspec.Struct, frozen=True):
    picture: Picture
    options: DetectionOptions
    future: Detections
    done: Callable[[], None]


class Workers:
    """Threads that look at pictures. Every method may be called from any thread."""

    def __init__(self, detector: Detects, *, count: int) -> None:
        """Start `count` threads, one per core."""
        self._detector = detector
        self._in_flight_max = count + 1
        """Frames of one stream at a time: each worker has one and one waits, so memory is a few frames."""
        self._changed = threading.Condition()
        self._images: deque[_Item] = deque()
        self._images_in_a_row = 0
        self._streams: dict[str, deque[_Item]] = {}
        """Frames that wait, in the order of their turns; a stream without any has no entry."""
        self._in_flight: dict[str, int] = {}
        self._is_closed = False
        self._threads = [threading.Thread(target=self._work, name=f"worker-{index}") for index in range(count)]
        for thread in self._threads:
            thread.start()

    def submit(self, picture: Picture, options: DetectionOptions, *, stream: str) -> Detections:
        """The detections to come; waits while the stream has enough frames in flight.

        The future is cancelled, also at once, if the stream is forgotten or the workers are closed.
        """
        future = Detections()
        with self._changed:
            self._in_flight.setdefault(stream, 0)
            self._changed.wait_for(lambda: self._has_room(stream))
            if self._is_closed or stream not in self._in_flight:
                future.cancel()
                return future
            self._in_flight[stream] += 1
            item = _Item(picture, options, future, lambda: self._leave(stream))
            self._streams.setdefault(stream, deque()).append(item)
            self._changed.notify_all()
        return future

    def detect_image(self, picture: Picture, options: DetectionOptions) -> list[Detection]:
        """The detections in a single picture, before any waiting frame.

        Raises `Failure`: `inference_failed`, `engine_unavailable` once closed.
        """
        future = Detections()
        with self._changed:
            if self._is_closed:
                raise Failure(FailureCode.ENGINE_UNAVAILABLE, "the engine is closed")
            self._images.append(_Item(picture, options, future, lambda: None))
            self._changed.notify_all()
        try:
            return future.result()
        except CancelledError as error:
            raise Failure(FailureCode.ENGINE_UNAVAILABLE, "the engine was closed") from error

    def use(self, detector: Detects) -> None:
        """Show every further picture to this detector; what is being looked at ends on the one before."""
        self._detector = detector

    def forget(self, stream: str) -> None:
        """Drop what waits of a stream and let go whoever waits to submit to it; what is being looked at goes on."""
        with self._changed:
            _cancel(self._streams.pop(stream, deque()))
            self._in_flight.pop(stream, None)
            self._changed.notify_all()

    def close(self) -> None:
        """Cancel what waits and return when every thread has ended, each after the picture in its hands."""
        with self._changed:
            self._is_closed = True
            for waiting in (self._images, *self._streams.values()):
                _cancel(waiting)
            self._streams.clear()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _has_room(self, stream: str) -> bool:
        in_flight = self._in_flight.get(stream)
        return self._is_closed or in_flight is None or in_flight < self._in_flight_max

    def _leave(self, stream: str) -> None:
        with self._changed:
            if stream in self._in_flight:
                self._in_flight[stream] -= 1
                self._changed.notify_all()

    def _work(self) -> None:
        while (item := self._next()) is not None:
            if item.future.set_running_or_notify_cancel():
                self._look(item)
            item.done()
            del item  # its frame is not kept until the next one comes

    def _look(self, item: _Item) -> None:
        """The outermost loop of a worker: whatever a picture does to the detector happens to that picture alone."""
        try:
            detections = self._detector.detect(item.picture, item.options)
        except Failure as failure:
            item.future.set_exception(failure)
        except Exception as error:  # noqa: BLE001 - see above
            failure = Failure(FailureCode.INFERENCE_FAILED, f"{type(error).__name__}: {error}")
            failure.__cause__ = error
            item.future.set_exception(failure)
        else:
            item.future.set_result(detections)

    def _next(self) -> _Item | None:
        """What to do next, waiting for it; None when the workers are closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or self._images or self._streams)
            return None if self._is_closed else self._taken()

    def _taken(self) -> _Item:
        if self._images and (not self._streams or self._images_in_a_row < IMAGES_IN_A_ROW_MAX):
            self._images_in_a_row += 1
            return self._images.popleft()
        self._images_in_a_row = 0
        stream = next(iter(self._streams))
        waiting = self._streams.pop(stream)
        item = waiting.popleft()
        if waiting:
            self._streams[stream] = waiting  # at the end: the others have their turn first
        return item


def _cancel(items: deque[_Item]) -> None:
    while items:
        items.popleft().future.cancel()
