"""How long media wait for their first report: from their first byte here until its event is read from the log."""

import time
from collections.abc import Callable

from contracts.events import AnyEvent, FrameDetected, TaskEnded
from edge.metrics import FIRST_DETECTION_SECONDS

MEDIA_MAX = 10_000
"""Media waited for at a time; more push out the oldest, whose time is then not known."""


class FirstReports:
    """The media of this edge that have no report yet. Used from the event loop alone."""

    def __init__(self, *, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self._begun_s: dict[str, float] = {}

    def begin(self, task_id: str) -> None:
        """The medium of a task begins to arrive."""
        self._begun_s[task_id] = self._clock_s()
        if len(self._begun_s) > MEDIA_MAX:
            self._begun_s.pop(next(iter(self._begun_s)))

    def forget(self, task_id: str) -> None:
        """Its medium came to nothing before it was a task."""
        self._begun_s.pop(task_id, None)

    def see(self, event: AnyEvent) -> None:
        """An event was read."""
        match event:
            case FrameDetected():
                begun_s = self._begun_s.pop(event.task_id, None)
                if begun_s is not None:
                    medium = "image" if event.video_time is None else "video"
                    FIRST_DETECTION_SECONDS.labels(medium).observe(self._clock_s() - begun_s)
            case TaskEnded():
                self.forget(event.task_id)
            case _:
                pass


FIRST_REPORTS = FirstReports()
"""Those of this process."""
