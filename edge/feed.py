"""The events of the log, read once for all listeners of this edge.

One reader puts them into one ring; every listener stands at a place of its own in it and waits for the same wake-up. Nothing
is queued per listener: one that reads slowly is held by its socket, and when its place has left the ring it reads the log
itself (`replay`). A connection that breaks is opened again and read on from the next offset.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import contextmanager

import structlog
from aio_pika.abc import AbstractConnection

from contracts.events import AnyEvent
from contracts.failures import Failure, FailureCode
from edge import log
from edge.broker import complete_topology
from edge.first_reports import FIRST_REPORTS
from edge.first_writes import FirstWrites
from edge.quota import Quota
from edge.ring import Ring, encode_event
from edge.settings import EdgeSettings
from edge.shown import Shown

TICKS_PER_HEARTBEAT = 3
"""All listeners share one clock: a wake-up without news, so many times per heartbeat."""
MARKERS_TOGETHER_S = 0.01
"""Those who ask for the end of the log within this time share one marker."""

_log = structlog.get_logger()


class TaskEvents(AsyncIterator[AnyEvent]):
    """The events of one task from now on, each once, quiet ones too."""

    def __init__(self, *, backlog_max: int) -> None:
        self._backlog: asyncio.Queue[AnyEvent] = asyncio.Queue(backlog_max)
        self._fell_behind = False

    def offer(self, event: AnyEvent) -> None:
        """Add an event; a full backlog ends the iteration instead of losing one silently."""
        try:
            self._backlog.put_nowait(event)
        except asyncio.QueueFull:
            self._fell_behind = True

    async def __anext__(self) -> AnyEvent:
        """The next event, however long it takes. Raises `Failure` internal when events came faster than they were taken."""
        if self._fell_behind and self._backlog.empty():
            raise Failure(FailureCode.INTERNAL, f"more than {self._backlog.maxsize} events of one task were waiting")
        return await self._backlog.get()


class Feed:
    """What has just happened, for everybody on this edge who wants to know."""

    def __init__(self, settings: EdgeSettings, mark: log.Mark) -> None:
        self.ring = Ring(events_max=settings.ring_events_max, bytes_max=settings.ring_bytes_max)
        self.quota = Quota(each_max=settings.listeners_per_client_max, what="listeners of one client")
        self.first_writes = FirstWrites()
        self.ticks = 0
        self.is_closing = False
        self._settings = settings
        self._mark = mark
        self._shown = Shown(tasks_max=settings.tasks_remembered_max)
        self._head_at_start: int | None = None
        self._changed = asyncio.Event()
        self._places: set[Callable[[], int]] = set()
        self._tasks: dict[str, list[TaskEvents]] = {}
        self._markers: dict[str, asyncio.Event] = {}
        self._marking: asyncio.Task[None] | None = None

    @property
    def listeners(self) -> int:
        return len(self._places)

    def lag_events(self) -> int:
        """Events that the listener who is furthest behind has not been sent; some wait beyond the end."""
        behind = (self.ring.next - place() for place in tuple(self._places))
        return max(0, max(behind, default=0))

    @property
    def is_live(self) -> bool:
        """Whether everything up to the end of the log, as it was when this edge began to read, has been read."""
        return self._head_at_start is not None and self.head >= self._head_at_start

    @property
    def head(self) -> int:
        """Offset of the last message read."""
        return self.ring.next - 1

    @contextmanager
    def listen_to_task(self, task_id: str) -> Generator[TaskEvents]:
        """The events of one task, from this moment on: enter before the command is published."""
        events = TaskEvents(backlog_max=self._settings.task_backlog_events_max)
        self._tasks.setdefault(task_id, []).append(events)
        try:
            yield events
        finally:
            self._tasks[task_id].remove(events)
            if not self._tasks[task_id]:
                del self._tasks[task_id]

    @contextmanager
    def counted(self, place: Callable[[], int]) -> Generator[None]:
        """Count a listener while it is there. place: the offset that it goes on from."""
        self._places.add(place)
        try:
            yield
        finally:
            self._places.discard(place)

    async def changed(self) -> None:
        """Return at the next event, the next tick, or when the edge stops."""
        await self._changed.wait()

    def close(self) -> None:
        """Let every listener go; called once, when the edge stops."""
        self.is_closing = True
        self._wake()

    async def tick(self) -> None:
        """Wake everybody now and then for ever, so that nobody needs a timer of his own."""
        while True:
            await asyncio.sleep(self._settings.stream_heartbeat_s / TICKS_PER_HEARTBEAT)
            self.ticks += 1
            self._wake()

    async def serve(self, connection: AbstractConnection) -> None:
        """Read the log on this connection until it is gone. Raises `BrokerLostError`, `Failure` broker_unavailable."""
        async with asyncio.timeout(self._settings.log_head_timeout_s):
            await complete_topology(connection)
            head = await log.find_head(connection, self._mark, prefetch=self._settings.log_prefetch)
        start = self._start(head)
        _log.info("reading the log", head=head, start=start)
        async with log.reading(connection, start, prefetch=self._settings.log_prefetch) as messages:
            async for message in messages:
                self.take(message)

    async def reaches(self, offset: int) -> bool:
        """Whether the log has this offset: asked of the log itself if this reader has not come so far yet.

        Raises `Failure` broker_unavailable, `TimeoutError`.
        """
        if offset <= self.head:
            return True
        if self._marking is None:
            self._marking = asyncio.create_task(self._read_to_the_end())
        await asyncio.shield(self._marking)
        return offset <= self.head

    def take(self, message: log.Logged) -> None:
        """Show one message of the log to everybody."""
        if message.offset < self.ring.next:
            return
        event = None if message.event is None else self._shown.admit(message.event)
        if event is None:
            self.ring.append(message.offset, None)
        else:
            for events in self._tasks.get(event.task_id, ()):  # first: somebody waits for this answer
                events.offer(event)
            self.ring.append(message.offset, encode_event(message.offset, event))
            FIRST_REPORTS.see(event)
            self.first_writes.took(message)
        if message.marker in self._markers:
            self._markers[message.marker].set()
        self._wake()

    def _start(self, head: int) -> int:
        """Where to read from: on from the last event, or, if that log is gone or this is the first, a window before its end."""
        is_same_log = self._head_at_start is not None and self.ring.next <= head + 1
        if not is_same_log:
            self._head_at_start = head
            self._shown = Shown(tasks_max=self._settings.tasks_remembered_max)
            self.ring.restart(max(0, head + 1 - self._settings.log_window_events))
        return self.ring.next

    async def _read_to_the_end(self) -> None:
        await asyncio.sleep(MARKERS_TOGETHER_S)
        self._marking = None  # whoever asks from now on needs a later marker
        name = log.new_marker()
        self._markers[name] = asyncio.Event()
        try:
            async with asyncio.timeout(self._settings.log_head_timeout_s):
                await self._mark(name)
                await self._markers[name].wait()
        finally:
            del self._markers[name]

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
