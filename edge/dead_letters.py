"""Commands nobody could conclude: the edge that takes the notice ends the task, so that every task has an end."""

import asyncio

import msgspec
import structlog
from aio_pika.abc import AbstractConnection, AbstractIncomingMessage

from contracts import topology
from contracts.commands import AnyCommand, DetectImage, TaskId, kind_of
from contracts.crashpoints import crashpoint
from contracts.detections import Counts
from contracts.events import TaskEnded
from contracts.failures import NOT_READ, Failure, FailureCode, FailureRecord
from contracts.message_spans import Passed, processed
from contracts.results import last_checkpoint, latest_epoch
from contracts.storage import Layout, Seal, create_record, read_record
from contracts.wire import decode_command
from edge.again_later import left_alone_if_broken
from edge.broker import complete_topology
from edge.deliveries import consuming
from edge.metrics import DEAD_LETTERS, UNREADABLE, task_ended
from edge.outbox import Outbox
from edge.settings import EdgeSettings

_PREFETCH = 10

_log = structlog.get_logger()


class _Addressee(msgspec.Struct, frozen=True, rename="camel"):
    """The least a dead letter must say for its task to be ended."""

    task_id: TaskId


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """A dead letter, read."""

    task_id: str
    failure: FailureRecord
    command: AnyCommand | None = None
    """None: only the task id could be read."""

    @property
    def media_id(self) -> str:
        """The task id while it is not known."""
        return (self.command and self.command.medium.media_id) or self.task_id

    def is_kept(self, layout: Layout) -> bool:
        """False for a synchronous image that nobody wrote down: only its listener waits for the end."""
        is_fleeting = isinstance(self.command, DetectImage) and self.command.is_fleeting
        return not is_fleeting or layout.task_record(self.task_id).exists()


class DeadLetters:
    """Ends the tasks of dead-lettered commands."""

    def __init__(self, settings: EdgeSettings, outbox: Outbox) -> None:
        self._retry_s = settings.dead_letter_retry_s
        self._layout = Layout(settings.storage)
        self._outbox = outbox

    async def serve(self, connection: AbstractConnection) -> None:
        """Take notices until the connection is gone; one is acknowledged when its task has an end that was published."""
        await complete_topology(connection)
        async with consuming(connection, topology.DEAD_LETTER_NOTICES, prefetch=_PREFETCH) as messages:
            async for message in messages:
                notice = read_notice(message)
                with processed(_passed(message)):
                    await self._take(notice)
                crashpoint("edge.notice.done")
                await message.ack()
                DEAD_LETTERS.labels(notice.failure.code.value if notice else UNREADABLE).inc()

    async def _take(self, notice: Notice | None) -> None:
        if notice is None:
            return
        with (
            structlog.contextvars.bound_contextvars(task_id=notice.task_id, media_id=notice.media_id),
            left_alone_if_broken(task_id=notice.task_id),  # its letter is kept, and here it would come again and again
        ):
            await self._end_at_last(notice)

    async def end(self, notice: Notice) -> None:
        """End the task unless it has an end, and publish it: whoever wrote one may never have come to that.

        Raises `OSError`, `Failure` broker_unavailable.
        """
        event = await asyncio.to_thread(self._write_end, notice)
        crashpoint("edge.notice.ended")
        await self._outbox.publish_end(event)

    async def _end_at_last(self, notice: Notice) -> None:
        """`end`, for as long as storage or broker are away: a notice given back would be dropped after a few times."""
        while True:
            try:
                return await self.end(notice)
            except (OSError, Failure) as error:
                _log.warning("a dead letter has to wait", task_id=notice.task_id, reason=str(error))
                await asyncio.sleep(self._retry_s)

    def _write_end(self, notice: Notice) -> TaskEnded:
        """The end of the task: that which it has, else this one."""
        event = _end_of(notice, self._layout)
        if notice.is_kept(self._layout):
            path = self._layout.end(notice.task_id)
            if not create_record(path, event):
                return read_record(path, TaskEnded) or event
            task_ended(notice.command and kind_of(notice.command), event.failure)
        _log.warning("dead letter ends its task", task_id=notice.task_id, code=notice.failure.code)
        return event


def read_notice(message: AbstractIncomingMessage) -> Notice | None:
    """What a dead letter says; None if not even its task can be told, so that nobody can be waiting for it."""
    try:
        command = decode_command(message.body)
    except Failure as failure:
        return _read_addressee(message, failure)
    return Notice(task_id=command.task_id, command=command, failure=_reason(message, None))


def _read_addressee(message: AbstractIncomingMessage, failure: Failure) -> Notice | None:
    try:
        task_id = msgspec.json.decode(message.body, type=_Addressee).task_id
    except NOT_READ:
        _log.warning("unreadable dead letter", code=failure.code, detail=failure.detail)
        return None
    return Notice(task_id=task_id, failure=_reason(message, failure))


def _passed(message: AbstractIncomingMessage) -> Passed:
    return Passed(
        exchange=topology.DEAD,
        queue=topology.DEAD_LETTER_NOTICES,
        id=message.message_id,
        body_bytes=len(message.body),
        headers=message.headers,
    )


def _reason(message: AbstractIncomingMessage, failure: Failure | None) -> FailureRecord:
    """What the consumer that gave up said; else what is wrong with the command; else what the broker says."""
    code = str(message.headers.get(topology.FAILURE_CODE_HEADER, ""))
    detail = str(message.headers.get(topology.FAILURE_DETAIL_HEADER, ""))[: topology.DETAIL_CHARACTERS_MAX]
    if code:
        return FailureRecord(code=FailureCode(code), detail=detail)
    if failure is not None:
        return failure.record()
    match message.headers.get("x-first-death-reason"):
        case "rejected":
            return FailureRecord(code=FailureCode.INTERNAL, detail="a consumer refused the command without a reason")
        case "expired" | "maxlen" as why:
            return FailureRecord(
                code=FailureCode.NO_ANSWER, detail=f"no consumer took the command before it left its queue: {why}"
            )
        case _:
            return FailureRecord(
                code=FailureCode.DELIVERED_TOO_OFTEN, detail="every consumer that took it was lost with it"
            )


def _end_of(notice: Notice, layout: Layout) -> TaskEnded:
    checkpoint = last_checkpoint(layout, notice.task_id)
    seal = read_record(layout.seal(notice.task_id), Seal)
    media_id = seal.media_id if seal else notice.command and notice.command.medium.media_id
    return TaskEnded(
        task_id=notice.task_id,
        media_id=media_id or notice.task_id,
        epoch=max(1, latest_epoch(layout, notice.task_id)),
        percent=checkpoint.percent if checkpoint else 0,
        is_quiet=notice.command is not None and notice.command.is_quiet,
        owner=notice.command and notice.command.owner,
        sequence=(checkpoint.sequence if checkpoint else 0) + 1,
        counts=checkpoint.counts if checkpoint else Counts(),
        failure=notice.failure,
    )
