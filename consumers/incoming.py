"""What a delivery brings beside its body: the trace it belongs to, and whose lines of the log those are from then on."""

from collections.abc import Generator
from contextlib import contextmanager

import structlog
from faststream.rabbit import RabbitMessage

from contracts import tracing
from contracts.commands import AnyCommand
from contracts.message_spans import Passed, processed
from contracts.tracing import ATTEMPT, MEDIA_ID, TASK_ID


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
