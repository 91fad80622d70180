"""The decoder's side of a search for shots: each frame is made small, and each full window goes to the workers."""

import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future

import msgspec
import numpy as np

from engine.growing_file import StoppedError
from engine.orientation import Size
from engine.shot_windows import HEIGHT, STEP, WIDTH, Window, Windows
from engine.shot_workers import ShotWorkers, WindowOdds
from engine.video import Wish
from engine.video_frame import DecodedFrame

POLL_S = 0.05
"""How often it looks whether it should stop while the workers have enough windows."""


class Searched(msgspec.Struct, frozen=True, kw_only=True):
    """Frames that the workers were asked about, or never will be."""

    first_frame: int
    times_s: tuple[float, ...]
    """Of each frame, since the stream's first; 50 of them, fewer at the end, up to 74 that were given up."""
    percent: int
    size: Size
    odds: "Future[WindowOdds]"


class ShotFeed:
    """The windows of one video on their way to the workers, made by its decode thread."""

    def __init__(self, workers: ShotWorkers, *, behind: int, halt: threading.Event) -> None:
        """behind: frames of the video that are done; what needs only them is not looked at again."""
        self._workers = workers
        self._windows = Windows(behind=behind)
        self._halt = halt
        self._times_s: deque[float] = deque()
        """Of the frames that were not asked about."""
        self._in_flight: deque[Future[WindowOdds]] = deque()
        self._percent = 0
        self._size = Size(WIDTH, HEIGHT)

    @property
    def wish(self) -> Wish:
        """The frames that it will look at; asked before the first one."""
        return Wish(after_index=self._windows.added - 1, size=lambda _: Size(WIDTH, HEIGHT))

    def add(self, frame: DecodedFrame, *, percent: int) -> Iterator[Searched]:
        """Take the next frame; what it makes full goes to the workers. Raises `StoppedError` while they have no room."""
        self._percent, self._size = percent, Size(frame.width, frame.height)
        if frame.index >= self._windows.asked:
            self._times_s.append(frame.at_s)
        if frame.index < self._windows.added:
            return
        window = self._windows.add(frame.scaled(width=WIDTH, height=HEIGHT))
        if window is not None:
            yield self._submitted(window)

    def end(self) -> Iterator[Searched]:
        """The last windows, when no more frames come."""
        for window in self._windows.end():
            yield self._submitted(window)

    def given_up(self) -> Iterator[Searched]:
        """The frames that nobody was asked about, when those behind them will not come: no shot is certain to end there."""
        if self._times_s:
            odds: Future[WindowOdds] = Future()
            nothing = np.zeros(len(self._times_s), np.float32)
            odds.set_result(WindowOdds(nothing, nothing))
            yield self._searched(self._windows.asked, tuple(self._times_s), odds)

    def forget(self) -> None:
        """Drop what the workers have not begun: nobody will ask for it. Called when the decode thread has ended."""
        for odds in self._in_flight:
            odds.cancel()

    def _submitted(self, window: Window) -> Searched:
        self._wait_for_room()
        odds = self._workers.submit(window)
        self._in_flight.append(odds)
        times_s = tuple(self._times_s.popleft() for _ in range(min(STEP, len(self._times_s))))
        return self._searched(self._windows.asked - STEP, times_s, odds)

    def _searched(self, first_frame: int, times_s: tuple[float, ...], odds: "Future[WindowOdds]") -> Searched:
        return Searched(first_frame=first_frame, times_s=times_s, percent=self._percent, size=self._size, odds=odds)

    def _wait_for_room(self) -> None:
        while len(self._in_flight) >= self._workers.windows_max:
            if self._halt.is_set():
                raise StoppedError
            try:
                self._in_flight[0].exception(timeout=POLL_S)
            except TimeoutError:
                continue
            except CancelledError:
                pass  # the workers were closed: whoever takes the results is told
            self._in_flight.popleft()
