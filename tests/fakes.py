"""The rest of an edge, as small real classes: what is published is kept, what is told is heard, the broker can be away."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from contracts.commands import AnyCommand
from contracts.events import AnyEvent, TaskEnded
from contracts.failures import Failure, FailureCode


class FakeOutbox:
    """Keeps what was published; while `is_away` or `is_blocked` it refuses as the real one does."""

    def __init__(self) -> None:
        self.is_away = False
        self.is_blocked = False
        self.commands: list[AnyCommand] = []
        self.cancelled: list[str] = []
        self.ends: list[TaskEnded] = []
        self.woken: list[str] = []
        self.published = asyncio.Event()

    async def publish(self, command: AnyCommand) -> None:
        self._refuse_while_away()
        self.commands.append(command)
        self.published.set()

    async def cancel(self, task_id: str) -> None:
        self._refuse_while_away()
        self.cancelled.append(task_id)

    async def wake(self, task_id: str) -> None:
        self._refuse_while_away()
        self.woken.append(task_id)

    async def publish_end(self, event: TaskEnded) -> None:
        self._refuse_while_away()
        self.ends.append(event)

    def _refuse_while_away(self) -> None:
        if self.is_away or self.is_blocked:
            raise Failure(FailureCode.BROKER_UNAVAILABLE, "not connected")


class FakeFeed:
    """Tells the listeners of a task what `tell` is given."""

    def __init__(self) -> None:
        self._listeners: dict[str, list[asyncio.Queue[AnyEvent]]] = {}

    @property
    def listeners(self) -> int:
        return sum(map(len, self._listeners.values()))

    @contextmanager
    def listen_to_task(self, task_id: str) -> Iterator[AsyncIterator[AnyEvent]]:
        events: asyncio.Queue[AnyEvent] = asyncio.Queue()
        self._listeners.setdefault(task_id, []).append(events)
        try:
            yield _each(events)
        finally:
            self._listeners[task_id].remove(events)

    def tell(self, event: AnyEvent) -> None:
        for listener in self._listeners.get(event.task_id, []):
            listener.put_nowait(event)


class FakePresence:
    """A table with one consumer, or none."""

    def __init__(self, *, is_alive: bool = True) -> None:
        self.is_alive = is_alive

    def has_live_consumer(self) -> bool:
        return self.is_alive


async def _each(events: "asyncio.Queue[AnyEvent]") -> AsyncIterator[AnyEvent]:
    while True:
        yield await events.get()
