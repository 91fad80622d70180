"""What `detections top` knows: consumers and tasks by what was heard of them lately, and how many events there were."""

import time
from collections import Counter, deque
from collections.abc import Callable

import msgspec

from contracts.events import AnyEvent, ConsumerSeen, FrameDetected, TaskEnded
from detections.management import QueueSeen

CONSUMER_SILENT_S = 5.0
"""After so long without a heartbeat (one a second) a consumer is gone."""
TASK_SILENT_S = 30.0
"""After so long without a word (about one a second) a task is left out: nobody works on it now."""
TASKS_MAX = 1_000
"""Tasks that are known at a time; who was silent longest is forgotten first."""
RATE_WINDOW_S = 10


class TaskSeen(msgspec.Struct, frozen=True, kw_only=True):
    """A task that somebody works on."""

    task_id: str
    media_id: str
    percent: int
    attempt: int
    reports: int


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """Events a second, over the last `RATE_WINDOW_S` or since we listen."""

    reports: float
    progress: float
    ends: float


class Board:
    """Fed by whoever listens, read by whoever draws; all in one thread."""

    def __init__(self, *, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self._consumers: dict[str, tuple[float, ConsumerSeen]] = {}
        self._tasks: dict[str, tuple[float, TaskSeen]] = {}
        self._seconds: deque[tuple[int, Counter[str]]] = deque(maxlen=RATE_WINDOW_S + 1)
        self._began_s = clock_s()
        self.queues: list[QueueSeen] = []
        self.troubles: dict[str, str] = {}
        """What cannot be shown, and why."""

    def hear_consumer(self, consumer: ConsumerSeen) -> None:
        self._consumers[consumer.id] = (self._clock_s(), consumer)

    def hear_event(self, event: AnyEvent) -> None:
        """Count an event, and what it says of its task."""
        self._count(type(event).__name__)
        _, before = self._tasks.pop(event.task_id, (0.0, None))
        if isinstance(event, TaskEnded):
            return
        reports = event.sequence if isinstance(event, FrameDetected) else before.reports if before else 0
        task = TaskSeen(
            task_id=event.task_id,
            media_id=event.media_id,
            percent=event.percent,
            attempt=event.epoch,
            reports=reports,
        )
        self._tasks[event.task_id] = (self._clock_s(), task)
        if len(self._tasks) > TASKS_MAX:
            del self._tasks[next(iter(self._tasks))]

    @property
    def consumers(self) -> list[ConsumerSeen]:
        """Those that live, by name."""
        since_s = self._clock_s() - CONSUMER_SILENT_S
        self._consumers = {name: seen for name, seen in self._consumers.items() if seen[0] > since_s}
        return sorted((consumer for _, consumer in self._consumers.values()), key=lambda consumer: consumer.id)

    @property
    def tasks(self) -> list[TaskSeen]:
        """Those that are worked on, the oldest id first: they keep their place while their percent moves."""
        since_s = self._clock_s() - TASK_SILENT_S
        self._tasks = {name: seen for name, seen in self._tasks.items() if seen[0] > since_s}
        return sorted((task for _, task in self._tasks.values()), key=lambda task: task.task_id)

    @property
    def rates(self) -> Rates:
        now_s = self._clock_s()
        counted: Counter[str] = Counter()
        for second, count in self._seconds:
            if second > now_s - RATE_WINDOW_S:
                counted += count
        window_s = max(1.0, min(now_s - self._began_s, RATE_WINDOW_S))
        return Rates(
            reports=counted["FrameDetected"] / window_s,
            progress=counted["TaskProgressed"] / window_s,
            ends=counted["TaskEnded"] / window_s,
        )

    def _count(self, kind: str) -> None:
        second = int(self._clock_s())
        if not self._seconds or self._seconds[-1][0] != second:
            self._seconds.append((second, Counter()))
        self._seconds[-1][1][kind] += 1
