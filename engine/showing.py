"""A picture on its way through a detector: its views one by one, what was seen in each, and what comes of it."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Protocol

import msgspec
import structlog

from contracts.detections import Detection
from contracts.failures import Failure, FailureCode
from contracts.options import DetectionOptions
from engine.picture import Crop, Picture
from engine.postprocess import Boxes
from engine.preprocess import View
from engine.sight import Sight
from engine.tiling import TileBoxes

Detections = Future[list[Detection]]


class Detects(Protocol):
    """What workers need of a detector; it is used by all of them at once."""

    @property
    def gathering(self) -> Sight | None:
        """How views of several pictures are seen in one inference; None: a view a call is best."""
        ...

    def tiles(self, picture: Picture, options: DetectionOptions) -> tuple[Crop, ...]:
        """The parts in which the picture is looked at."""
        ...

    def view(self, picture: Picture, tile: Crop) -> View:
        """That part of the picture, as the model is shown it."""
        ...

    def look(self, views: Sequence[View], *, score_min: float) -> list[Boxes]:
        """What the model sees in each view. Raises `Failure(inference_failed)`."""
        ...

    def conclude(self, picture: Picture, seen: list[TileBoxes], options: DetectionOptions) -> list[Detection]:
        """The detections of a picture, of what was seen in all its parts."""
        ...

    def close(self) -> None:
        """Free the model."""
        ...


class Serving:
    """A detector in use. Once it has been retired it is closed when the last picture that was shown to it is done."""

    def __init__(self, detector: Detects) -> None:
        self.detector = detector
        self._lock = threading.Lock()
        self._pictures = 0
        self._is_retired = False

    def begin(self) -> None:
        """One more picture is shown to it."""
        with self._lock:
            self._pictures += 1

    def end(self) -> None:
        """A picture is done."""
        with self._lock:
            self._pictures -= 1
            is_over = self._is_retired and self._pictures == 0
        if is_over:
            self.detector.close()

    def retire(self) -> None:
        """No further picture begins."""
        with self._lock:
            self._is_retired = True
            is_over = self._pictures == 0
        if is_over:
            self.detector.close()


class Look(msgspec.Struct, frozen=True):
    """One view of a picture, in the hands of a worker."""

    showing: "Showing"
    at: int
    """Which of the picture's tiles it is."""
    view: View


class Showing:
    """One picture shown to one detector. Thread-safe.

    Its future gets the detections, or the failure of the first view that failed; then no further view is taken.
    """

    def __init__(
        self,
        serving: Serving,
        picture: Picture,
        options: DetectionOptions,
        *,
        stop: threading.Event | None = None,
        is_hurried: bool = False,
        done: Callable[[], None] = lambda: None,
    ) -> None:
        """is_hurried: somebody waits for it. done: called once, when nobody looks at it any more."""
        self.serving = serving
        self.options = options
        self.is_hurried = is_hurried
        self.future = Detections()
        self._picture = picture
        self._stop = stop
        self._done = done
        self._tiles = serving.detector.tiles(picture, options)
        self._seen: list[Boxes | None] = [None] * len(self._tiles)
        self._lock = threading.Lock()
        self._taken = 0
        self._unseen = len(self._tiles)
        self._in_hands = 0
        self._is_over = False
        serving.begin()

    @property
    def views(self) -> int:
        """All of them."""
        return len(self._tiles)

    @property
    def has_views(self) -> bool:
        """Whether there are views to be taken."""
        return not self._is_over and self._taken < len(self._tiles)

    @property
    def is_stopped(self) -> bool:
        """Whether nobody wants it any more; it is then to be ended."""
        return self._stop is not None and self._stop.is_set()

    def view(self) -> View:
        """The next view. Only while it has views, and by one thread at a time, as `take`."""
        return self.serving.detector.view(self._picture, self._tiles[self._taken])

    def take(self, view: View) -> Look | None:
        """The next view, to be looked at; `saw` or `dropped` gives it back. None if the picture is over by now."""
        with self._lock:
            if not self.has_views:
                return None
            look = Look(self, self._taken, view)
            self._taken += 1
            self._in_hands += 1
        return look

    def saw(self, at: int, boxes: Boxes) -> None:
        """What one view shows; the last one makes the detections."""
        self._seen[at] = boxes
        with self._lock:
            self._unseen -= 1
            is_last = self._unseen == 0
        if is_last:
            try:
                detections = self._conclusion()
            except Exception as error:  # noqa: BLE001 - whatever a picture does happens to that picture alone
                self.fail(error)
            else:
                self._end(detections)
        self.dropped()

    def fail(self, error: Exception) -> None:
        """One view could not be looked at, so the picture cannot."""
        self._end(failure_of(error))

    def dropped(self) -> None:
        """A view that was taken is in nobody's hands any more."""
        with self._lock:
            self._in_hands -= 1
            is_done = self._in_hands == 0 and not self.has_views
        if is_done:
            self._finish()

    def cancel(self, failure: Failure | None = None) -> None:
        """No further view is taken. failure: what its future gets; None: the future is cancelled."""
        if self._end(failure):
            self._finish()

    def _conclusion(self) -> list[Detection]:
        seen = [
            TileBoxes(tile=tile, boxes=boxes)
            for tile, boxes in zip(self._tiles, self._seen, strict=True)
            if boxes is not None
        ]
        return self.serving.detector.conclude(self._picture, seen, self.options)

    def _end(self, outcome: list[Detection] | Failure | None) -> bool:
        """Tell the outcome, if there is none yet; True if that leaves the picture in nobody's hands."""
        with self._lock:
            if self._is_over:
                return False
            self._is_over = True
            is_idle = self._in_hands == 0
        if outcome is None:
            self.future.cancel()
        elif self.future.set_running_or_notify_cancel():
            if isinstance(outcome, Failure):
                self.future.set_exception(outcome)
            else:
                self.future.set_result(outcome)
        return is_idle

    def _finish(self) -> None:
        self._done()
        self.serving.end()


def failure_of(error: Exception) -> Failure:
    """What went wrong with a picture; an exception that nobody named is a failed inference.

    It has no traceback: whose frames hold the picture, and a failure that is kept would keep its pixels.
    """
    if isinstance(error, Failure):
        failure, cause = error, error.__cause__
    else:
        structlog.get_logger(__name__).debug("a picture failed", exc_info=error)
        failure, cause = Failure(FailureCode.INFERENCE_FAILED, f"{type(error).__name__}: {error}"), error
    failure.__context__ = None
    failure.__cause__ = cause and cause.with_traceback(None)
    return failure.with_traceback(None)
