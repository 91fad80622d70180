"""A delivery: its body, the trace it belongs to, and whose lines of the log those are from then on."""

from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager

import msgspec
import structlog
from aio_pika.exceptions import CONNECTION_EXCEPTIONS
from faststream.rabbit import RabbitMessage

from consumers.outgoing import Undelivered
from contracts import topology, tracing
from contracts.broker_calls import broker_call
from contracts.commands import AnyCommand
from contracts.message_spans import Passed, processed
from contracts.tracing import ATTEMPT, MEDIA_ID, TASK_ID


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """A message from a command queue; it is acked when what is done with it returns."""

    body: bytes
    is_redelivered: bool = False
    is_worn: bool = False
    """True: it was given out half as often as the broker does it before it gives it up."""
    hang_up: Callable[[], Awaitable[None]]
    """Ends the deliveries from this queue to this consumer. Raises `Undelivered`."""


def delivery_of(message: RabbitMessage) -> Delivery:
    """The message, as it came."""
    raw = message.raw_message
    times_before = raw.headers.get(topology.DELIVERY_COUNT_HEADER)

    async def hang_up() -> None:
        try:
            with broker_call():
                await raw.channel.basic_cancel(raw.consumer_tag or "")
        except CONNECTION_EXCEPTIONS as error:
            raise Undelivered(f"no longer a consumer: {error!r}") from error

    return Delivery(
        body=message.body,
        is_redelivered=bool(raw.redelivered),
        is_worn=isinstance(times_before, int) and times_before >= topology.DELIVERY_LIMIT // 2,
        hang_up=hang_up,
    )


@contextmanager
def taken(message: RabbitMessage) -> Generator[None]:
    """The trace of a command around what is done with it; what is noted meanwhile ends with it."""
    raw = message.raw_message
    exchange, key = raw.exchange or "", raw.routing_key or ""
    passed = Passed(
        exchange=exchange,
        routing_key=key,
        queue=f"{exchange}.{key}" if exchange else key,  # as `topology` names those of commands
        id=raw.message_id,
        body_bytes=len(message.body),
        headers=message.headers,
    )
    try:
        with processed(passed):
            yield
    finally:
        structlog.contextvars.clear_contextvars()


def note_task(command: AnyCommand) -> None:
    """What is logged and recorded from here on is about the task of this command."""
    media_id = command.medium.media_id or command.task_id  # as in its events, while it is not known
    structlog.contextvars.bind_contextvars(task_id=command.task_id, media_id=media_id)
    tracing.note({TASK_ID: command.task_id, MEDIA_ID: media_id})


def note_attempt(epoch: int) -> None:
    """And about this attempt at it."""
    structlog.contextvars.bind_contextvars(attempt=epoch)
    tracing.note({ATTEMPT: epoch})


def note_medium(media_id: str) -> None:
    """The medium has its id."""
    structlog.contextvars.bind_contextvars(media_id=media_id)
    tracing.note({MEDIA_ID: media_id})
