"""Many streams and single images share one detector and the machine, fairly: every view of every picture goes through here.

A view is what a model is shown at once: a whole frame or image, or a tile of a large one. On a CPU the best use of the cores
is one thread per core, each with a whole view (measured: ENGINE.md 5); batches gain nothing there. Where the runtime gathers,
the same threads write views into batches and take those through the model (see `gathering`). A stream whose upload starves
has nothing here, so it holds no worker.
"""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from functools import partial

import msgspec

from contracts.detections import Detection
from contracts.failures import Failure, FailureCode
from contracts.options import DetectionOptions
from engine.crew import Crew
from engine.gathering import BATCH_MAX, BATCH_WAIT_S, INFERENCES_MAX, Batch, Batches
from engine.orientation import Size
from engine.picture import Crop, Picture, Rgb
from engine.showing import Detections, Detects, Look, Serving, Showing
from engine.turns import Turns

FRAMES_MIN = 2
"""Frames of one stream that may be in flight however many streams there are: one is looked at and one waits."""
STOP_POLL_S = 0.25
"""How often whoever waits for an image looks whether it is still wanted: a server may be silent for long."""

Step = Callable[[], None]


class Workers:
    """Threads that look at pictures. They own the detector that they use. Every method may be called from any thread."""

    def __init__(
        self,
        detector: Detects,
        *,
        count: int,
        batch_max: int = BATCH_MAX,
        batch_wait_s: float = BATCH_WAIT_S,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start `count` threads, one per core.

        batch_max: views of one inference where the runtime gathers. batch_wait_s: what the first of them waits for others.
        Raises `Failure(engine_unavailable)` where there is no room for another thread; then the detector is closed.
        """
        self._count = count
        self._batch_max = batch_max
        self._serving = Serving(detector)
        self._lock = threading.RLock()
        self._work_came = threading.Condition(self._lock)
        self._room_came = threading.Condition(self._lock)
        self._turns = Turns()
        self._batches = Batches(rows_max=batch_max, wait_s=batch_wait_s, now_s=now_s)
        self._in_flight: dict[str, int] = {}
        """Frames of each stream, from `submit` until nobody looks at them any more."""
        self._is_closed = False
        self._crew = Crew()
        self._crew.begin(
            (
                threading.Thread(target=self._work, args=(core,), name=f"worker-{index}")
                for index, core in enumerate(_cores_of(count, detector))
            ),
            close=self.close,
        )

    @property
    def detector(self) -> Detects:
        """The detector in use."""
        return self._serving.detector

    def use(self, detector: Detects) -> None:
        """Show every further picture to this detector.

        What is in flight ends on the one before, which is closed when its last picture is done.
        """
        with self._lock:
            before, self._serving = self._serving, Serving(detector)
            self._batches.forget_tensors()
            is_late = self._is_closed
        before.retire()
        if is_late:
            self._serving.retire()

    def shown_as(self, picture: Size, options: DetectionOptions) -> Size | None:
        """The one size in which a picture of that size is looked at now; None if it is looked at in parts."""
        detector, outline = self._serving.detector, _Outline(picture.width, picture.height)
        tiles = detector.tiles(outline, options)
        if len(tiles) != 1 or (tiles[0].width, tiles[0].height) != (picture.width, picture.height):
            return None
        placed = detector.view(outline, tiles[0]).placement
        return Size(placed.width, placed.height)

    @property
    def held_max(self) -> int:
        """Frames in flight that keep everybody busy now: so many of one stream, where it is the only one."""
        wanted = self._count + 1  # each worker has one and one waits
        if (sight := self._serving.detector.gathering) is not None:
            wanted += INFERENCES_MAX * min(sight.rows_max or self._batch_max, self._batch_max)
        return wanted

    def submit(self, picture: Picture, options: DetectionOptions, *, stream: str) -> Detections:
        """The detections to come; waits while the stream has enough frames in flight.

        The future is cancelled, also at once, if the stream is forgotten or the workers are closed.
        """
        with self._lock:
            self._in_flight.setdefault(stream, 0)
            self._room_came.wait_for(lambda: self._has_room(stream))
            if self._is_closed or stream not in self._in_flight:
                future = Detections()
                future.cancel()
                return future
            showing = Showing(self._serving, picture, options, done=partial(self._leave, stream))
            self._in_flight[stream] += 1
            self._add(showing, stream=stream)
        return showing.future

    def detect_image(
        self, picture: Picture, options: DetectionOptions, *, stop: threading.Event | None = None
    ) -> list[Detection]:
        """The detections in a single picture, before any waiting frame.

        Raises `Failure`: `inference_failed`, `cancelled` within `STOP_POLL_S` once `stop` is set, whatever the engine is
        doing, `engine_unavailable` once closed.
        """
        with self._lock:
            if self._is_closed:
                raise Failure(FailureCode.ENGINE_UNAVAILABLE, "the engine is closed")
            showing = Showing(self._serving, picture, options, stop=stop, is_hurried=True)
            self._add(showing, stream=None)
        try:
            while True:
                with contextlib.suppress(TimeoutError):
                    return showing.future.result(STOP_POLL_S)
                if stop is not None and stop.is_set():
                    showing.cancel(Failure(FailureCode.CANCELLED, "as asked"))
        except CancelledError as error:
            raise Failure(FailureCode.ENGINE_UNAVAILABLE, "the engine was closed") from error

    def forget(self, stream: str) -> None:
        """Drop what waits of a stream and let go whoever waits to submit to it; what is being looked at goes on."""
        with self._lock:
            waiting = self._turns.forget(stream)
            self._in_flight.pop(stream, None)
            self._room_came.notify_all()
        for showing in waiting:
            showing.cancel()

    def close(self) -> None:
        """Cancel what waits and return when every thread has ended, each after what is in its hands, and close the detector."""
        with self._lock:
            self._is_closed = True
            waiting = self._turns.clear()
            self._work_came.notify_all()
            self._room_came.notify_all()
        for showing in waiting:
            showing.cancel()
        self._crew.join()
        for look in self._batches.clear():
            look.showing.cancel()
            look.showing.dropped()
        self._serving.retire()

    def _has_room(self, stream: str) -> bool:
        in_flight = self._in_flight.get(stream)
        return self._is_closed or in_flight is None or in_flight < self._frames_max(stream)

    def _frames_max(self, stream: str) -> int:
        """Frames of one stream at a time: its share of what keeps everybody busy, so memory is a few frames."""
        busy = sum(1 for name, count in self._in_flight.items() if count or name == stream)
        return max(FRAMES_MIN, self.held_max // busy)

    def _leave(self, stream: str) -> None:
        with self._lock:
            if stream in self._in_flight:
                self._in_flight[stream] -= 1
                self._room_came.notify_all()

    def _add(self, showing: Showing, *, stream: str | None) -> None:
        self._turns.add(showing, stream=stream)
        self._work_came.notify(showing.views)

    def _work(self, core: int | None) -> None:
        if core is not None:
            os.sched_setaffinity(0, {core})  # this thread alone
        while (step := self._next()) is not None:
            step()
            del step  # its picture is not kept until the next one comes

    def _next(self) -> Step | None:
        """What to do next, waiting for it; None when the workers are closed."""
        with self._lock:
            while not self._is_closed:
                if step := self._found():
                    if self._batches.patience_s() is not None:
                        self._work_came.notify()  # somebody else has to see that a batch becomes due
                    return step
                self._work_came.wait(self._batches.patience_s())
        return None

    def _found(self) -> Step | None:
        batch = self._batches.start(nothing_waits=not self._turns)
        if batch is not None:
            return partial(self._take_through, batch)
        while (showing := self._turns.first()) is not None:
            if not showing.has_views:
                self._turns.pass_on()
            elif showing.is_stopped:
                self._turns.pass_on()
                return partial(showing.cancel, Failure(FailureCode.CANCELLED, "stopped between two views"))
            else:
                return self._look_of(showing)
        return None

    def _look_of(self, showing: Showing) -> Step | None:
        """How the next view of a picture is looked at; None if there is no room for it now."""
        view, sight = showing.view(), showing.serving.detector.gathering
        batch = None
        if sight is not None:
            batch = self._batches.place(showing, sight, view)
            if batch is None:
                return None
        look = showing.take(view)
        self._turns.pass_on()
        if look is None:
            return self._found()
        if batch is None:
            return partial(_look_alone, look)
        return partial(self._write, batch, batch.add(look))

    def _write(self, batch: Batch, row: int) -> None:
        """Put a view into its row; a picture that cannot be written fails, its row means nothing."""
        try:
            batch.write(row)
        except Exception as error:  # noqa: BLE001 - whatever a picture does happens to that picture alone
            batch.looks[row].showing.fail(error)
        with self._lock:
            batch.unwritten -= 1  # whoever wrote the last row looks next whether the batch can start

    def _take_through(self, batch: Batch) -> None:
        """Look at a whole batch; if that fails of a view, at each of them alone."""
        views = [look.view for look in batch.looks]
        scores_min = [look.showing.options.probability_threshold for look in batch.looks]
        try:
            seen = batch.sight.look_at(batch.tensor, views, scores_min=scores_min)
        except Exception as error:  # noqa: BLE001 - told by the view whose fault it is
            for look in batch.looks:
                if isinstance(error, Failure) and error.code is FailureCode.ENGINE_UNAVAILABLE:
                    look.showing.fail(error)  # no fault of any view: alone each would wait for the engine again
                    look.showing.dropped()
                else:
                    _look_alone(look)
        else:
            for look, boxes in zip(batch.looks, seen, strict=True):
                look.showing.saw(look.at, boxes)
        with self._lock:
            self._batches.end(batch, is_kept=batch.sight is self._serving.detector.gathering)
            self._work_came.notify_all()


class _Outline(msgspec.Struct, frozen=True):
    """A picture of which only the size is known."""

    width: int
    height: int

    def scaled(self, *, width: int, height: int, crop: Crop | None = None) -> Rgb:  # noqa: ARG002 - a protocol
        """Raises `LookupError`."""
        raise LookupError("there is no such picture")


def _cores_of(count: int, detector: Detects) -> Sequence[int | None]:
    """On which core each worker stays, None: on any (ADR 63).

    Where every core has a worker and inference is what keeps it busy, moving them costs 1.7 % of the frames a second.
    """
    cores = sorted(os.sched_getaffinity(0))
    return cores if count == len(cores) and detector.gathering is None else [None] * count


def _look_alone(look: Look) -> None:
    """The outermost loop of a worker: whatever a picture does to the detector happens to that picture alone."""
    showing = look.showing
    try:
        [boxes] = showing.serving.detector.look([look.view], score_min=showing.options.probability_threshold)
    except Exception as error:  # noqa: BLE001 - see above
        showing.fail(error)
        showing.dropped()
    else:
        showing.saw(look.at, boxes)
