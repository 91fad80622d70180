"""Reading `detections.events.log`: a stream whose offsets are the ids that listeners see.

Every reading starts at an exact offset and is a channel of its own; what it has read is known by the offset of each message,
never by what the library remembers.
"""

import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Literal

import msgspec
import structlog
from aio_pika.abc import AbstractConnection, AbstractIncomingMessage

from contracts.events import AnyEvent
from contracts.failures import Failure
from contracts.message_spans import trace_of
from contracts.topology import EVENTS_LOG, LOG_MARKER_TYPE
from contracts.trace_context import TraceContext
from contracts.wire import decode_event
from edge.broker import BrokerLostError
from edge.deliveries import consuming

OFFSET_HEADER = "x-stream-offset"
_ACKS_PER_PREFETCH = 4
"""Messages are acknowledged in groups of a quarter of the prefetch: fewer frames, and the broker never waits for us."""

_log = structlog.get_logger()

Mark = Callable[[str], Awaitable[None]]
"""Puts a marker of this name at the end of the log."""


class Logged(msgspec.Struct, frozen=True, gc=False):
    """One message of the log."""

    offset: int
    event: AnyEvent | None = None
    """None: a marker, or something nobody could read."""
    marker: str | None = None
    trace: TraceContext | None = None
    body_bytes: int = 0


@asynccontextmanager
async def reading(
    connection: AbstractConnection, offset: int | Literal["last"], *, prefetch: int
) -> AsyncGenerator[AsyncIterator[Logged]]:
    """The messages from `offset` on, in order, for ever; "last" begins a little before the end.

    An offset older than the log begins at its oldest message. Iterating raises `BrokerLostError` when the connection or the
    queue is gone.
    """
    arguments = {OFFSET_HEADER: offset}
    async with consuming(connection, EVENTS_LOG, prefetch=prefetch, arguments=arguments) as messages:
        yield _logged(messages, ack_every=max(1, prefetch // _ACKS_PER_PREFETCH))


async def find_head(connection: AbstractConnection, mark: Mark, *, prefetch: int) -> int:
    """The offset of the last message of the log: a marker of ours, put there after the reading had begun."""
    name = new_marker()
    async with reading(connection, "last", prefetch=prefetch) as messages:
        await mark(name)
        async for message in messages:
            if message.marker == name:
                return message.offset
    raise BrokerLostError(EVENTS_LOG)


def new_marker() -> str:
    """A name that no other marker has."""
    return secrets.token_hex(8)


async def _logged(messages: AsyncIterator[AbstractIncomingMessage], *, ack_every: int) -> AsyncIterator[Logged]:
    unacknowledged = 0
    async for message in messages:
        unacknowledged += 1
        if unacknowledged >= ack_every:
            await message.ack(multiple=True)
            unacknowledged = 0
        yield read_message(message)


def read_message(message: AbstractIncomingMessage) -> Logged:
    """What a delivery of the log says."""
    offset = message.headers[OFFSET_HEADER]
    if not isinstance(offset, int):
        raise TypeError(f"{OFFSET_HEADER} is {offset!r}")
    if message.type == LOG_MARKER_TYPE:
        return Logged(offset, marker=message.body.decode("ascii", "replace"))
    try:
        event = decode_event(message.body)
        return Logged(offset, event=event, trace=trace_of(message.headers), body_bytes=len(message.body))
    except Failure as failure:
        _log.warning("unreadable message in the log", offset=offset, code=failure.code, detail=failure.detail)
        return Logged(offset)
