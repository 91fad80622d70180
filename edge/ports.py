"""What an upload needs of the rest of the edge: a way out for commands, the events of one task, and who is alive."""

from collections.abc import AsyncIterator
from contextlib import AbstractContextManager
from typing import Protocol

import msgspec

from contracts.commands import AnyCommand
from contracts.events import AnyEvent, TaskEnded


class CommandsOut(Protocol):
    """The outbox."""

    is_blocked: bool
    """The broker is in alarm: it takes nothing now, and that may last."""

    async def publish(self, command: AnyCommand) -> None:
        """Return when the broker has it for good. Raises `Failure(broker_unavailable)` within a bounded time."""
        ...

    async def cancel(self, task_id: str) -> None:
        """Tell all consumers. Raises `Failure(broker_unavailable)`."""
        ...

    async def wake(self, task_id: str) -> None:
        """Have the Annotations service told of what there is to tell of a task. Raises `Failure(broker_unavailable)`."""
        ...

    async def publish_end(self, event: TaskEnded) -> None:
        """The last event of a task that an edge ended. Raises `Failure(broker_unavailable)`."""
        ...


class TaskFeed(Protocol):
    """The feed."""

    def listen_to_task(self, task_id: str) -> AbstractContextManager[AsyncIterator[AnyEvent]]:
        """Events of that task from now on, quiet ones too."""
        ...


class ConsumersSeen(Protocol):
    """The presence table."""

    def has_live_consumer(self) -> bool: ...


class Neighbours(msgspec.Struct, frozen=True, kw_only=True):
    """All of it together."""

    outbox: CommandsOut
    feed: TaskFeed
    presence: ConsumersSeen
