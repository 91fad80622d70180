"""Where messages go: every name of RabbitMQ, in this file only (DESIGN: two classes of queue, one log).

Commands wait in quorum queues and are never lost; events lie in one stream, whose offsets are the SSE ids; presence and
control are fanned out and never stored.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

import msgspec

from contracts.commands import AnyCommand, TaskKind, kind_of
from contracts.events import AnyEvent, FrameDetected, TaskEnded
from contracts.failures import FailureRecord

DELIVERY_LIMIT = 20
"""Deliveries of one command before the broker dead-letters it: a backstop, tasks end by themselves before. A long one that
loses its connection more often goes on with a fresh message."""
DELIVERY_COUNT_HEADER = "x-delivery-count"
"""The broker's own: how often it gave a message out before."""
LOG_SEGMENT_BYTES = 16_000_000
"""Retention is looked at when a segment rolls, so segments are small."""

COMMANDS = "detections.commands"
EVENTS = "detections.events"
EVENTS_LOG = "detections.events.log"
PRESENCE = "detections.presence"
CONTROL = "detections.control"
DEAD = "detections.dead"
DEAD_LETTERS = "detections.dead-letters"
DEAD_LETTER_NOTICES = "detections.dead-letters.notices"
OUTBOX = "detections.outbox"
OUTBOX_LATER = tuple(f"{OUTBOX}.later.{step}" for step in (1, 2, 3, 4))
"""Where a wake-up waits its time, shorter ones in the first; it then goes back to `OUTBOX`. A queue for each length, since a
message with a long wait would hold up those behind it."""
IMAGE_COMMANDS = f"{COMMANDS}.{TaskKind.IMAGE}"
VIDEO_COMMANDS = f"{COMMANDS}.{TaskKind.VIDEO}"
SHOTS_COMMANDS = f"{COMMANDS}.{TaskKind.SHOTS}"

LOG_MARKER_TYPE = "Marker"
"""Type of the small messages an edge puts straight into the log to learn where it ends; readers skip them."""

TASK_ID_HEADER = "x-task-id"
FAILURE_CODE_HEADER = "x-failure-code"
FAILURE_DETAIL_HEADER = "x-failure-detail"
DETAIL_CHARACTERS_MAX = 1_000
"""Of that header: the broker closes a connection whose headers do not fit into one frame of 128 KiB."""


_QUORUM: Mapping[str, str | int] = {"x-queue-type": "quorum"}
_MORTAL: Mapping[str, str | int] = {
    **_QUORUM,
    "x-dead-letter-strategy": "at-least-once",  # the default loses what dies while the target is away
    "x-overflow": "reject-publish",  # without which the broker falls back to that default
}
_COMMAND = {**_MORTAL, "x-dead-letter-exchange": DEAD, "x-delivery-limit": DELIVERY_LIMIT}
_LATER = {**_MORTAL, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": OUTBOX}
_LOG: Mapping[str, str | int] = {
    "x-queue-type": "stream",
    "x-max-age": "7D",
    "x-max-length-bytes": 1_000_000_000,
    "x-stream-max-segment-size-bytes": LOG_SEGMENT_BYTES,
}


class Exchange(msgspec.Struct, frozen=True):
    name: str
    type: str


class Queue(msgspec.Struct, frozen=True):
    name: str
    arguments: Mapping[str, str | int]


class Binding(msgspec.Struct, frozen=True):
    queue: str
    exchange: str
    routing_key: str = ""


class Topology(msgspec.Struct, frozen=True):
    """Everything that exists before the first message; all of it durable."""

    exchanges: tuple[Exchange, ...]
    queues: tuple[Queue, ...]
    bindings: tuple[Binding, ...]


def topology() -> Topology:
    """The whole topology. Queue arguments hold what must be; lengths and ages an operator tunes are policies."""
    return Topology(
        exchanges=(
            Exchange(COMMANDS, "direct"),
            Exchange(EVENTS, "topic"),
            Exchange(PRESENCE, "fanout"),
            Exchange(CONTROL, "fanout"),
            Exchange(DEAD, "fanout"),
        ),
        queues=(
            Queue(IMAGE_COMMANDS, _COMMAND),
            Queue(VIDEO_COMMANDS, _COMMAND),
            Queue(SHOTS_COMMANDS, _COMMAND),
            Queue(EVENTS_LOG, _LOG),
            Queue(OUTBOX, _QUORUM),
            *(Queue(name, _LATER) for name in OUTBOX_LATER),
            Queue(DEAD_LETTERS, _QUORUM),
            Queue(DEAD_LETTER_NOTICES, _QUORUM),
        ),
        bindings=(
            Binding(IMAGE_COMMANDS, COMMANDS, TaskKind.IMAGE.value),
            Binding(VIDEO_COMMANDS, COMMANDS, TaskKind.VIDEO.value),
            Binding(SHOTS_COMMANDS, COMMANDS, TaskKind.SHOTS.value),
            Binding(EVENTS_LOG, EVENTS, "#"),
            Binding(OUTBOX, EVENTS, "frame.owned"),
            Binding(OUTBOX, EVENTS, "end.owned"),
            Binding(DEAD_LETTERS, DEAD),
            Binding(DEAD_LETTER_NOTICES, DEAD),
        ),
    )


def failure_headers(failure: FailureRecord) -> dict[str, str]:
    """What a dead letter says of its failure; a long detail is cut."""
    return {
        FAILURE_CODE_HEADER: failure.code.value,
        FAILURE_DETAIL_HEADER: failure.detail[:DETAIL_CHARACTERS_MAX],
    }


def own_queue(exchange: str, process: str) -> str:
    """The queue in which one process hears what is fanned out: its rights on the broker are for this prefix."""
    return f"{exchange}.{process}"


def command_key(command: AnyCommand) -> str:
    """The routing key on `COMMANDS`: one queue per kind, so that images never wait behind long videos."""
    return kind_of(command).value


def event_key(event: AnyEvent) -> str:
    """The routing key on `EVENTS`, `<event>.<owned or free>`; never a task id, which would flood the metrics' labels."""
    whose = "free" if event.owner is None else "owned"
    match event:
        case FrameDetected():
            return f"frame.{whose}"
        case TaskEnded():
            return f"end.{whose}"
        case _:
            return f"progress.{whose}"


class _Queue(Protocol):
    async def bind(self, exchange: Any, routing_key: str | None = None) -> Any: ...


class Channel(Protocol):
    """What `declare` and `complete` need of an aio-pika channel."""

    async def declare_exchange(self, name: str, type: Any, *, durable: bool) -> Any: ...  # noqa: A002 - aio-pika's name
    async def declare_queue(self, name: str, *, durable: bool, arguments: Any) -> _Queue: ...
    async def get_exchange(self, name: str) -> Any: ...
    async def get_queue(self, name: str, *, ensure: bool = True) -> _Queue: ...
    def close(self) -> Awaitable[Any]: ...


async def declare(channel: Channel) -> None:
    """Create all of it. Idempotent; raises what the channel raises if something exists with other arguments."""
    parts = topology()
    await create(channel, {part.name for part in (*parts.exchanges, *parts.queues)})


async def complete(open_channel: Callable[[], Awaitable[Channel]], *, absent: type[Exception]) -> None:
    """Create what is missing, after a look, which needs no rights: where all was set up, nobody needs any.

    absent: what the library raises for a name that is not there; the broker closes the channel with it. Raises what the
    channel raises if something is missing and its user may not create it.
    """
    channel = await open_channel()
    missing: set[str] = set()
    parts = topology()
    for part in (*parts.exchanges, *parts.queues):
        try:
            await _look_for(channel, part)
        except absent:
            missing.add(part.name)
            channel = await open_channel()
    await create(channel, missing)
    await channel.close()


async def _look_for(channel: Channel, part: Exchange | Queue) -> None:
    match part:
        case Exchange():
            await channel.get_exchange(part.name)
        case Queue():
            await channel.get_queue(part.name)


async def create(channel: Channel, names: set[str]) -> None:
    """Create those of these names, with their bindings. Raises what the channel raises if one is there and differs."""
    parts = topology()
    for exchange in parts.exchanges:
        if exchange.name in names:
            await channel.declare_exchange(exchange.name, exchange.type, durable=True)
    for part in parts.queues:
        if part.name in names:
            await channel.declare_queue(part.name, durable=True, arguments=part.arguments)
    for binding in parts.bindings:
        if names & {binding.queue, binding.exchange}:
            queue = await channel.get_queue(binding.queue, ensure=False)
            await queue.bind(binding.exchange, binding.routing_key)
