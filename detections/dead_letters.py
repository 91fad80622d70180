"""`detections dead-letters`: what came to nothing is listed, shown, and sent on its way again; nothing is lost by looking.

A letter that was only looked at is put back as a new message, confirmed, before the old one is acknowledged: a broker counts
how often it gave a message out, and from 4.0 on drops one that came back too often. Killed in between, a letter is there
twice; one is never missing.
"""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, TypeVar
from uuid import uuid4

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from contracts import topology
from contracts.commands import AnyCommand
from contracts.failures import NOT_READ, Failure, FailureCode
from contracts.message_spans import trace_of
from contracts.posts import DeadPost
from contracts.storage import is_of_an_upload
from contracts.trace_context import TraceContext
from contracts.wire import CONTENT_TYPE, decode_command, decode_outgoing, encode
from detections.broker_connection import broker_failures, connect
from detections.broker_setup import AMQP_URL_DEFAULT
from detections.exits import take_signals_as_ctrl_c

if TYPE_CHECKING:
    from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

TIMEOUT_S = 15.0
"""To reach the broker, and for each letter."""
SHOWN_CHARACTERS_MAX = 200
"""Of one text in a letter that is shown: a frame has a million."""

_Done = TypeVar("_Done")

AmqpUrl = Annotated[str, typer.Option(help="The broker.", envvar="AMQP_URL")]


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """A dead letter, read."""

    id: str
    """Of its content: it stays when the letter is put back."""
    kind: str
    task_id: str
    code: str
    detail: str
    at: datetime | None
    body: bytes
    content: DeadPost | AnyCommand | None
    """None: nobody can read it, so it cannot be sent on its way again."""
    trace: TraceContext | None = None
    """Where it belongs, also when it is sent again."""


def register(commands: typer.Typer) -> None:
    """Add the commands."""
    said = "Messages that came to nothing, kept for the operator."
    letters = typer.Typer(help=said, no_args_is_help=True, callback=take_signals_as_ctrl_c)
    for name, command in (("list", list_letters), ("show", show), ("replay", replay)):
        letters.command(name)(command)
    commands.add_typer(letters, name="dead-letters")


def list_letters(amqp_url: AmqpUrl = AMQP_URL_DEFAULT) -> None:
    """One line for each: its id, when, what, of which task, and why."""
    table = Table("id", "at", "what", "task", "code", "detail", box=None)
    for letter in _run(amqp_url, _looked_at(amqp_url)):
        at = f"{letter.at:%Y-%m-%d %H:%M:%S}" if letter.at else ""
        table.add_row(letter.id, at, letter.kind, letter.task_id, letter.code, letter.detail)
    Console(width=200, soft_wrap=True, markup=False).print(table)


def show(letter_id: Annotated[str, typer.Argument(help="As listed.")], amqp_url: AmqpUrl = AMQP_URL_DEFAULT) -> None:
    """All of one letter, as JSON; long texts (frames) are cut."""
    letter = next((each for each in _run(amqp_url, _looked_at(amqp_url)) if each.id == letter_id), None)
    if letter is None:
        raise Failure(FailureCode.TASK_NOT_FOUND, f"there is no dead letter {letter_id}")
    try:
        content = _shortened(msgspec.json.decode(letter.body))
    except NOT_READ:
        content = _shortened(letter.body.decode(errors="replace"))
    shown = {"id": letter.id, "code": letter.code, "detail": letter.detail, "letter": content}
    print(msgspec.json.format(msgspec.json.encode(shown), indent=2).decode())


def replay(
    letter_ids: Annotated[list[str] | None, typer.Argument(help="As listed.", show_default=False)] = None,
    *,
    everything: Annotated[bool, typer.Option("--all", help="Every letter that can be read.")] = False,
    amqp_url: AmqpUrl = AMQP_URL_DEFAULT,
) -> None:
    """Send letters on their way again: a post is tried once more, a command becomes a new task.

    A post that fails again is back among the dead letters. The command of an upload is left: its task can be retried.
    """
    if not letter_ids and not everything:
        raise typer.BadParameter("name letters, or say --all")
    wanted = None if everything else set(letter_ids or ())
    lines = _run(amqp_url, _replayed(amqp_url, wanted))
    for line in lines:
        print(line)
    if wanted is not None and len(lines) < len(wanted):
        raise Failure(FailureCode.TASK_NOT_FOUND, f"{len(wanted) - len(lines)} of them are not there or cannot be read")


async def _looked_at(amqp_url: str) -> list[Letter]:
    """Every letter, all of them put back."""
    async with _channel(amqp_url) as channel:
        return [letter async for letter, message in _letters(channel) if await _put_back(channel, message)]


async def _replayed(amqp_url: str, wanted: set[str] | None) -> list[str]:
    """A line for each letter that was sent on its way, or is to be retried; the others are put back."""
    lines: list[str] = []
    async with _channel(amqp_url) as channel:
        async for letter, message in _letters(channel):
            if letter.content is None or (wanted is not None and letter.id not in wanted):
                await _put_back(channel, message)
                continue
            if not isinstance(letter.content, DeadPost) and is_of_an_upload(letter.content.medium):
                lines.append(f"{letter.id}: left here, its upload is gone: POST /tasks/{letter.task_id}/retry")
                await _put_back(channel, message)
                continue
            lines.append(await _send(channel, letter, letter.content))
            await message.ack()
    return lines


async def _send(channel: "AbstractChannel", letter: Letter, content: DeadPost | AnyCommand) -> str:
    import aio_pika

    letter_id = letter.id
    match content:
        case DeadPost():
            exchange, key, said = channel.default_exchange, topology.OUTBOX, f"{letter_id}: post {content.post.key}"
        case command:  # its task has ended, and a task ends once
            content = msgspec.structs.replace(command, task_id=str(uuid4()), created_at=None, continuation=0)
            exchange = await channel.get_exchange(topology.COMMANDS, ensure=False)
            key, said = topology.command_key(content), f"{letter_id}: task {content.task_id}"
    message = aio_pika.Message(
        encode(content),
        content_type=CONTENT_TYPE,
        type=type(content).__name__,
        headers={topology.TASK_ID_HEADER: content.task_id, **(letter.trace.headers if letter.trace else {})},
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
    )
    await exchange.publish(message, key)
    return said


async def _letters(channel: "AbstractChannel") -> AsyncGenerator[tuple[Letter, "AbstractIncomingMessage"]]:
    """As many letters as there are now, each to be acknowledged."""
    queue = await channel.declare_queue(topology.DEAD_LETTERS, passive=True)
    for _ in range(queue.declaration_result.message_count or 0):
        message = await queue.get(timeout=TIMEOUT_S, fail=False)
        if message is None:
            return
        yield _read(message), message


async def _put_back(channel: "AbstractChannel", message: "AbstractIncomingMessage") -> bool:
    import aio_pika

    copy = aio_pika.Message(
        message.body,
        headers=message.headers,
        content_type=message.content_type,
        type=message.type,
        message_id=message.message_id,
        timestamp=message.timestamp,
        app_id=message.app_id,
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
    )
    await channel.default_exchange.publish(copy, topology.DEAD_LETTERS)
    await message.ack()
    return True


def _read(message: "AbstractIncomingMessage") -> Letter:
    content = _content(message.body)
    headers = message.headers
    return Letter(
        id=hashlib.sha256(message.body).hexdigest()[:12],
        kind=type(content).__name__ if content is not None else "unreadable",
        task_id=content.task_id if content is not None else str(headers.get(topology.TASK_ID_HEADER, "")),
        code=str(headers.get(topology.FAILURE_CODE_HEADER) or headers.get("x-first-death-reason") or ""),
        detail=str(headers.get(topology.FAILURE_DETAIL_HEADER, "")),
        at=content.at if isinstance(content, DeadPost) else message.timestamp,
        body=message.body,
        content=content,
        trace=trace_of(headers),
    )


def _content(body: bytes) -> DeadPost | AnyCommand | None:
    try:
        return decode_command(body)
    except Failure:
        pass
    try:
        said = decode_outgoing(body)
    except Failure:
        return None
    return said if isinstance(said, DeadPost) else None


def _shortened(content: Any) -> Any:
    match content:
        case dict():
            return {name: _shortened(value) for name, value in content.items()}
        case list():
            return [_shortened(value) for value in content]
        case str() if len(content) > SHOWN_CHARACTERS_MAX:
            return f"{content[:SHOWN_CHARACTERS_MAX]}… ({len(content)} characters)"
        case _:
            return content


@asynccontextmanager
async def _channel(amqp_url: str) -> AsyncGenerator["AbstractChannel"]:
    connection = await connect(amqp_url, name="detections dead-letters", timeout_s=TIMEOUT_S)
    async with connection:
        yield await connection.channel(publisher_confirms=True, on_return_raises=True)


def _run(amqp_url: str, work: Coroutine[Any, Any, _Done]) -> _Done:
    """Raises `Failure(broker_unavailable)`."""
    with broker_failures(amqp_url):
        return asyncio.run(work)
