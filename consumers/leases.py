"""Who works on a task: whoever creates `results.<epoch>.jsonl`. The lease beside it says so to everybody else."""

import asyncio
import contextlib
import errno
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import structlog

from consumers.checkpoints import Standing, has_checkpoint, stand_on
from consumers.ending import reserve_end
from contracts.commands import AnyCommand, DetectImage
from contracts.crashpoints import crashpoint
from contracts.events import TaskEnded
from contracts.results import latest_epoch
from contracts.storage import Layout, Lease, TaskRecord, create_record, read_record, replace_record
from contracts.threads import to_its_end
from contracts.trace_context import current_trace

HEARTBEAT_PERIOD_S = 2.0
STALE_AFTER_S = 10.0
"""A lease whose heartbeat is older belongs to nobody; clocks of the machines must agree to a few seconds."""
ATTEMPTS_MAX = 3
"""Attempts in a row that may cost a consumer its life without a new checkpoint; then the task is poison."""

logger = structlog.get_logger(__name__)


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """The task is ours from `standing` on."""

    epoch: int
    standing: Standing
    barren_attempts: int
    """Attempts in a row that cost their consumer its life and brought nothing."""


class Busy(msgspec.Struct, frozen=True):
    """Somebody else works on the task."""


class AlreadyEnded(msgspec.Struct, frozen=True):
    """The task has an end, which may not have been published."""

    event: TaskEnded


Claim = Held | Busy | AlreadyEnded


def utc_now() -> datetime:
    return datetime.now(UTC)


class Leases:
    """Claims tasks for one consumer and keeps the claims."""

    def __init__(self, layout: Layout, *, owner: str, now: Callable[[], datetime] = utc_now) -> None:
        self._layout = layout
        self._owner = owner
        self._now = now

    def claim(self, command: AnyCommand, *, is_handed_on: bool) -> Claim:
        """Try to become the one who works on the task.

        is_handed_on: the command was delivered before or is a continuation, so whoever had it is gone.
        """
        task_id = command.task_id
        if (ended := self._end(task_id)) is not None:
            return ended
        epoch = latest_epoch(self._layout, task_id)
        lease = read_record(self._layout.lease(task_id), Lease)
        if epoch > 0 and not is_handed_on and not self._is_free(lease, task_id, epoch):
            return Busy()
        if not _create(self._layout.results(task_id, epoch=epoch + 1)):
            return Busy()
        crashpoint("consumer.claim.created")
        standing = stand_on(self._layout, task_id, epoch=epoch + 1)
        crashpoint("consumer.claim.stands")
        held = Held(epoch=epoch + 1, standing=standing, barren_attempts=self._barren_attempts(command, epoch))
        reserve_end(self._layout, task_id, epoch=held.epoch)
        crashpoint("consumer.claim.reserved")
        self._write(task_id, held, is_released=False)
        crashpoint("consumer.claim.leased")
        self._note_the_start(command)
        crashpoint("consumer.claim.noted")
        return self._end(task_id) or held  # asked again: it may have ended while we claimed it

    def renew(self, task_id: str, held: Held) -> bool:
        """Say that the task is still worked on; False if somebody else has taken it over. Raises `OSError`."""
        if self._is_taken_over(task_id, held):
            self._note_it_lives(task_id, held)
            return False
        self._write(task_id, held, is_released=False)
        crashpoint("consumer.lease.renewed")
        return True

    def release(self, task_id: str, held: Held) -> bool:
        """Hand the task on: whoever comes next need not wait, and the attempt does not count against the task.

        False if somebody else has taken it over. Where the storage is away, the lease will be stale by itself.
        """
        self._note_it_lives(task_id, held)
        try:
            if self._is_taken_over(task_id, held):
                return False
            self._write(task_id, held, is_released=True)
        except OSError as error:
            logger.warning("lease not released", task_id=task_id, error=str(error))
        crashpoint("consumer.lease.released")
        return True

    def excuse(self, task_id: str, held: Held) -> None:
        """From now on the loss of this consumer is no attempt of this task: something else is suspected of it."""
        with contextlib.suppress(OSError):  # the attempt counts, which it may once
            _excused(self._layout, task_id, epoch=held.epoch).touch()

    def excuse_no_more(self, task_id: str, held: Held) -> None:
        """The suspect has gone, and the consumer lives."""
        with contextlib.suppress(OSError):
            _excused(self._layout, task_id, epoch=held.epoch).unlink()

    def is_cancelled(self, task_id: str) -> bool:
        """Whether somebody asked for the end of the task."""
        return self._layout.cancel(task_id).exists()

    def _is_taken_over(self, task_id: str, held: Held) -> bool:
        """Raises `OSError` where not even our own results are: the storage is away, which says nothing of others."""
        latest = latest_epoch(self._layout, task_id)
        if latest < held.epoch:
            raise FileNotFoundError(errno.ENOENT, "the storage is away", str(self._layout.task(task_id)))
        return latest > held.epoch

    def _write(self, task_id: str, held: Held, *, is_released: bool) -> None:
        lease = Lease(
            owner=self._owner,
            epoch=held.epoch,
            heartbeat_at=self._now(),
            is_released=is_released,
        )
        replace_record(self._layout.lease(task_id), lease)

    def _end(self, task_id: str) -> AlreadyEnded | None:
        event = read_record(self._layout.end(task_id), TaskEnded)
        return None if event is None else AlreadyEnded(event)

    def _is_free(self, lease: Lease | None, task_id: str, epoch: int) -> bool:
        if lease is None or lease.epoch < epoch:  # its holder has claimed it and not yet said so
            written_s = self._layout.results(task_id, epoch=epoch).stat().st_mtime
            return self._is_stale(datetime.fromtimestamp(written_s, UTC))
        return lease.is_released or self._is_stale(lease.heartbeat_at)

    def _is_stale(self, heartbeat_at: datetime) -> bool:
        return self._now() - heartbeat_at > timedelta(seconds=STALE_AFTER_S)

    def _barren_attempts(self, command: AnyCommand, epoch: int) -> int:
        """Attempts since the last checkpoint, up to this one, that may have cost their consumer its life."""
        # a fleeting picture is only claimed after an attempt of which nothing was written down
        count = int(isinstance(command, DetectImage) and command.is_fleeting)
        for attempt in range(epoch, 0, -1):
            if has_checkpoint(self._layout, command.task_id, epoch=attempt):
                break
            count += not any(mark(self._layout, command.task_id, epoch=attempt).exists() for mark in (_lives, _excused))
        return count

    def _note_it_lives(self, task_id: str, held: Held) -> None:
        """Say that the task has not cost this consumer its life; taken over it may be because a connection was lost."""
        with contextlib.suppress(OSError):  # the attempt counts, which it may once
            _lives(self._layout, task_id, epoch=held.epoch).touch()

    def _note_the_start(self, command: AnyCommand) -> None:
        """Other services send commands without a record; its first holder writes it."""
        path = self._layout.task_record(command.task_id)
        now = self._now()
        fresh = TaskRecord(
            task_id=command.task_id,
            command=command,
            created_at=command.created_at or now,
            started_at=now,
            trace=current_trace(),
        )
        record = read_record(path, TaskRecord)
        if record is None and create_record(path, fresh):
            return
        record = record or read_record(path, TaskRecord)
        if record is not None and record.started_at is None:
            replace_record(path, msgspec.structs.replace(record, started_at=now))


async def claimed(leases: Leases, command: AnyCommand, *, is_handed_on: bool) -> Claim:
    """`Leases.claim` in a thread; what a cancellation comes upon is given back.

    With its connection whoever takes a message is cancelled, and the message comes again.
    """
    claiming = asyncio.create_task(asyncio.to_thread(leases.claim, command, is_handed_on=is_handed_on))
    try:
        return await to_its_end(claiming)
    except asyncio.CancelledError:
        if claiming.exception() is None and isinstance(claim := claiming.result(), Held):
            await asyncio.to_thread(leases.release, command.task_id, claim)
        raise


def _create(path: Path) -> bool:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
    except FileExistsError:
        return False
    return True


def _lives(layout: Layout, task_id: str, *, epoch: int) -> Path:
    return layout.task(task_id) / f".lives.{epoch}"


def _excused(layout: Layout, task_id: str, *, epoch: int) -> Path:
    return layout.task(task_id) / f".excused.{epoch}"
