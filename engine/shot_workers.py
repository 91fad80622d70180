"""Threads that look at windows of small frames for the cuts in them; all videos of a process share them and the model.

On a CPU one window a call and a call a core is best, as for pictures (ENGINE.md 5). Where the runtime gathers, a call takes
whatever waits, of all videos: nothing waits for the sake of a larger batch.
"""

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from time import perf_counter
from typing import Protocol

import msgspec

from contracts.failures import Failure, FailureCode
from engine.crew import Crew
from engine.gathering import INFERENCES_MAX
from engine.shot_model import Odds
from engine.shot_windows import Window
from engine.showing import failure_of
from engine.stages import STOPWATCH, Stage

GATHERED_MAX = 4
"""Windows of one inference where the runtime gathers: each is 1.3 million bytes as float32."""
WINDOWS_MAX = 11
"""Windows of one video at a time, 0.4 MB each: with the frames that wait for the next window fewer than 5 MB."""
GATHERED_WINDOWS_MAX = WINDOWS_MAX - GATHERED_MAX
"""The same where they are copied into a batch."""


class WindowOdds(msgspec.Struct, frozen=True):
    """What the model says of the 50 middle frames of a window."""

    boundary: Odds
    """float32[50], 0..1."""
    transition: Odds
    """float32[50], 0..1."""


class LooksForShots(Protocol):
    """What the threads need of a model (`engine.shot_model.ShotModel`)."""

    @property
    def rows_best(self) -> int | None:
        """Windows of a call that uses the runtime well; None: any number."""
        ...

    def look(self, windows: Sequence[Window]) -> tuple[Odds, Odds]:
        """Boundary and transition, float32[N, 50] each. Raises `Failure`."""
        ...

    def close(self) -> None: ...


class _Asked(msgspec.Struct, frozen=True):
    window: Window
    odds: "Future[WindowOdds]"


class ShotWorkers:
    """They own the model. Every method may be called from any thread."""

    def __init__(self, model: LooksForShots, *, count: int) -> None:
        """Start the threads. count: cores that may be used.

        Raises `Failure(engine_unavailable)` where there is no room for another thread; then the model is closed.
        """
        self.model = model
        gathers = model.rows_best != 1
        self._rows_max = min(model.rows_best or GATHERED_MAX, GATHERED_MAX)
        self.windows_max = min(count + 1, WINDOWS_MAX) if not gathers else GATHERED_WINDOWS_MAX
        """Windows that a video may have here at a time."""
        self._waiting: deque[_Asked] = deque()
        """Bounded by its callers: each keeps to `windows_max`."""
        self.lost: str | None = None
        """Why, once the model does not answer any more: its server went away, or its GPU is lost to this process."""
        self._came = threading.Condition()
        self._is_closed = False
        names = (f"shot-worker-{number}" for number in range(min(count, INFERENCES_MAX) if gathers else count))
        self._crew = Crew()
        self._crew.begin((threading.Thread(target=self._work, name=name) for name in names), close=self.close)

    def submit(self, window: Window) -> "Future[WindowOdds]":
        """What the model will say of a window; cancelled, also at once, if the workers are closed."""
        asked = _Asked(window, Future())
        with self._came:
            if self._is_closed:
                asked.odds.cancel()
            else:
                self._waiting.append(asked)
                self._came.notify()
        return asked.odds

    def close(self) -> None:
        """Cancel what waits and return when every thread has ended, each after what is in its hands; close the model."""
        with self._came:
            self._is_closed = True
            while self._waiting:
                self._waiting.popleft().odds.cancel()
            self._came.notify_all()
        self._crew.join()
        self.model.close()

    def _work(self) -> None:
        for batch in self._batches():
            self._look(batch)
            del batch  # its windows are not kept until the next one comes

    def _batches(self) -> Iterator[list[_Asked]]:
        while True:
            with self._came:
                self._came.wait_for(lambda: self._waiting or self._is_closed)
                if not self._waiting:
                    return
                batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._rows_max))]
            running = [asked for asked in batch if asked.odds.set_running_or_notify_cancel()]
            if running:
                yield running

    def _look(self, batch: list[_Asked]) -> None:
        """The outermost loop of a thread: whatever a window does to the model happens to that window alone."""
        started_s = perf_counter()
        try:
            boundary, transition = self.model.look([asked.window for asked in batch])
        except Exception as error:  # noqa: BLE001 - see above
            failure = failure_of(error)
            is_away = failure.code is FailureCode.ENGINE_UNAVAILABLE
            if is_away:
                self.lost = failure.detail
            if len(batch) == 1 or is_away:
                _refuse(batch, failure)
                return
            for asked in batch:
                self._look([asked])
        else:
            STOPWATCH.took(Stage.SHOTS, perf_counter() - started_s)
            for row, asked in enumerate(batch):
                asked.odds.set_result(WindowOdds(boundary[row], transition[row]))


def _refuse(batch: list[_Asked], failure: Failure) -> None:
    for asked in batch:
        asked.odds.set_exception(failure)
