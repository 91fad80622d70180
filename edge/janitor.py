"""What nobody needs any more goes: by age, and never what a task without an end uses. A task that is silent for days is given
an end first: its command was lost, or nobody is there who would do it.

Any edge may do it; a lease in the storage sees to it that one does at a time. That is thrift, not safety: two at once would
do no harm, since everything here may be done twice. All of it blocks, except `run`.
"""

import asyncio
import contextlib
import logging
import os
import secrets
import shutil
import socket
from collections.abc import Generator, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

import msgspec

from contracts.events import TaskEnded
from contracts.failures import Failure, FailureCode
from contracts.storage import Layout, MediaRecord, Seal, TaskRecord, create_record, read_record, replace_record
from edge.again_later import again_later
from edge.clock import Clock, system_clock
from edge.disk import storage_failures
from edge.task_store import TaskStore

ENDED_UPLOAD_KEPT = timedelta(minutes=1)
"""After its end, for a consumer that has not closed the file yet."""
LEASE_INTERVALS = 3
"""Sweeps that the holder of the lease may miss before another edge takes over."""

LONG_AGO = datetime.fromtimestamp(0, UTC)

logger = logging.getLogger(__name__)


class Retention(msgspec.Struct, frozen=True, kw_only=True):
    """How long things are kept. Media carry their own time, given when they came in."""

    tasks: timedelta = timedelta(days=30)
    """After their end."""
    silent: timedelta = timedelta(days=7)
    """A task without an end, since the last sign of life in its folders; whoever works on it gives one every few seconds."""
    unfinished: timedelta = timedelta(hours=2)
    """Uploads and folders that no task refers to, since they were last written: longer than any request takes."""
    interval: timedelta = timedelta(minutes=5)


class Expiring(Protocol):
    """Records that count no more after a while."""

    def stale(self) -> Iterator[Path]: ...


class JanitorLease(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`janitor`: who sweeps."""

    owner: str
    heartbeat_at: datetime


class Swept(msgspec.Struct, kw_only=True):
    """What one sweep removed."""

    given_up: int = 0
    """Tasks that were given an end."""
    tasks: int = 0
    uploads: int = 0
    media: int = 0
    records: int = 0
    """Idempotency keys, used tickets, sessions."""


class Janitor:
    """Sweeps one storage."""

    def __init__(
        self, layout: Layout, records: Sequence[Expiring], *, retention: Retention, clock: Clock = system_clock
    ) -> None:
        self._layout = layout
        self._tasks = TaskStore(layout, clock=clock)
        self._records = records
        self._retention = retention
        self._clock = clock
        self._owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"

    async def run(self) -> None:
        """Sweep from time to time, if no other edge does."""
        while True:
            with again_later("the sweep was cut short"):
                await asyncio.to_thread(self.sweep_if_ours)
            await asyncio.sleep(self._retention.interval.total_seconds())

    def sweep_if_ours(self) -> Swept | None:
        """Sweep, or None if another edge holds the lease."""
        if not self.take_lease():
            return None
        swept = self.sweep()
        if swept != Swept():
            logger.info("swept: %s", swept)
        return swept

    def take_lease(self) -> bool:
        """True if the lease is ours now: it was before, it was free, its holder is silent; or if there is no room for one."""
        path = self._layout.root / "janitor"
        lease = JanitorLease(owner=self._owner, heartbeat_at=self._clock())
        try:
            with storage_failures():
                if create_record(path, lease):
                    return True
                there = read_record(path, JanitorLease)
                if there is not None and there.owner != self._owner and not self._is_silent(there):
                    return False
                replace_record(path, lease)
        except Failure:
            logger.warning("the disk is full: sweeping without a lease")
        return True

    def sweep(self) -> Swept:
        """Remove what has had its time."""
        swept = Swept()
        used_media = self._sweep_tasks(swept)
        self._sweep_uploads(swept)
        if used_media is not None:
            self._sweep_media(swept, used_media)
        for path in (path for records in self._records for path in records.stale()):
            with _left_alone_if_unreadable(path):
                path.unlink(missing_ok=True)
                swept.records += 1
        return swept

    def _sweep_tasks(self, swept: Swept) -> set[str] | None:
        """Remove tasks that ended long ago, end those long silent.

        Returns the media that tasks without an end use, or None where one that may live cannot tell what it uses.
        """
        used: set[str] = set()
        is_known = True
        for folder in _folders(self._layout.tasks):
            is_read = False
            with _left_alone_if_unreadable(folder):
                self._sweep_task(folder, swept, used)
                is_read = True
            is_known = is_known and (is_read or self._is_older(_changed_at(folder), self._retention.silent))
        if not is_known:
            logger.warning("no medium is removed: a task that cannot be read may use it")
        return used if is_known else None

    def _sweep_task(self, folder: Path, swept: Swept, used: set[str]) -> None:
        record = read_record(self._layout.task_record(folder.name), TaskRecord)
        end = read_record(self._layout.end(folder.name), TaskEnded)
        if end is None and record is not None:
            used.update(self._media_of(record))
            swept.given_up += self._give_up_if_silent(folder)
        elif self._is_older(_ended_at(end, folder), self._retention.tasks if end else self._retention.unfinished):
            # first: without its task it stays for hours
            _remove_upload(self._layout.uploads / folder.name, swept)
            shutil.rmtree(folder, ignore_errors=True)
            swept.tasks += 1

    def _give_up_if_silent(self, folder: Path) -> bool:
        """End a task that shows no life, so that what it uses has its time from now on; whoever publishes commands tells."""
        alive_at = max(_last_written(folder), _last_written(self._layout.uploads / folder.name, absent=LONG_AGO))
        if not self._is_older(alive_at, self._retention.silent):
            return False
        silent_s = self._retention.silent.total_seconds()
        failure = Failure(FailureCode.TASK_ABANDONED, f"there was no sign of life for {silent_s:.0f} s")
        try:
            # before the end: should we die here, its command is published again
            self._tasks.mark_unpublished(folder.name)
            return self._tasks.end(folder.name, failure.record()) is not None
        except Failure:  # a full disk: what goes after this makes room for the next sweep
            return False

    def _sweep_uploads(self, swept: Swept) -> None:
        for folder in _folders(self._layout.uploads):
            with _left_alone_if_unreadable(folder):
                if self._is_done_with(folder):
                    _remove_upload(folder, swept)

    def _is_done_with(self, upload: Path) -> bool:
        task_id = upload.name
        if end := read_record(self._layout.end(task_id), TaskEnded):
            return self._is_older(_ended_at(end, upload), ENDED_UPLOAD_KEPT)
        has_task = self._layout.task_record(task_id).exists()
        return not has_task and self._is_older(_last_written(upload), self._retention.unfinished)

    def _sweep_media(self, swept: Swept, used: set[str]) -> None:
        for folder in _folders(self._layout.media):
            with _left_alone_if_unreadable(folder):
                if folder.name.startswith("."):  # built or removed aside by an edge that died meanwhile
                    if self._is_older(_last_written(folder), self._retention.unfinished):
                        shutil.rmtree(folder, ignore_errors=True)
                elif folder.name not in used and self._has_expired(folder):
                    swept.media += self._remove_medium(folder)

    def _remove_medium(self, folder: Path) -> bool:
        """Take the medium away in one step, so that nobody finds half of it; False if it was wanted again just then."""
        aside = folder.with_name(f".{folder.name}.{secrets.token_hex(6)}")
        try:
            folder.rename(aside)
        except FileNotFoundError:
            return False
        if not self._has_expired(aside):  # the same file came in again between our look and our hand
            with contextlib.suppress(OSError):  # and once more: then it is there already
                aside.rename(folder)
                return False
        shutil.rmtree(aside, ignore_errors=True)
        return True

    def _has_expired(self, medium: Path) -> bool:
        record = read_record(medium / "media.json", MediaRecord)
        return record is not None and record.expires_at is not None and record.expires_at < self._clock()

    def _media_of(self, record: TaskRecord) -> Iterator[str]:
        medium = record.command.medium
        if medium.media_id is not None:
            yield medium.media_id
        if medium.path.startswith("media/"):
            yield medium.path.split("/")[1]
        if seal := read_record(self._layout.seal(record.task_id), Seal):
            yield seal.media_id

    def _is_silent(self, lease: JanitorLease) -> bool:
        """Also with a heartbeat that is still to come: a clock was put back, and no sweep may wait until it is there again."""
        return abs(self._clock() - lease.heartbeat_at) > self._retention.interval * LEASE_INTERVALS

    def _is_older(self, moment: datetime, age: timedelta) -> bool:
        return self._clock() - moment > age


def _remove_upload(folder: Path, swept: Swept) -> None:
    """Take an upload away, if it is still there."""
    if folder.is_dir():
        shutil.rmtree(folder, ignore_errors=True)
        swept.uploads += 1


@contextlib.contextmanager
def _left_alone_if_unreadable(path: Path) -> Generator[None, None, None]:
    """What cannot be read is an operator's business, and no reason to leave everything else lying."""
    try:
        yield
    except (OSError, msgspec.DecodeError) as error:
        logger.warning("left alone: %s: %s", path, error)


def _ended_at(end: TaskEnded | None, folder: Path) -> datetime:
    return end.at if end is not None and end.at is not None else _last_written(folder)


def _last_written(folder: Path, *, absent: datetime | None = None) -> datetime:
    """When something in the folder, or the folder itself, was last written; one that is not there `absent`, or just now."""
    moments = [(absent or datetime.now(UTC)).timestamp()]
    with contextlib.suppress(FileNotFoundError):
        moments = [path.stat().st_mtime for path in (folder, *folder.iterdir())]
    return datetime.fromtimestamp(max(moments), UTC)


def _changed_at(folder: Path) -> datetime:
    """When anything was last created or replaced there, also where nobody can look inside; just now if that is not told."""
    try:
        return datetime.fromtimestamp(folder.stat().st_mtime, UTC)
    except OSError:
        return datetime.now(UTC)


def _folders(folder: Path) -> Iterator[Path]:
    """What is, or may be, a folder: of one that cannot be asked, whoever looks into it is told."""
    with contextlib.suppress(FileNotFoundError):
        yield from (path for path in folder.iterdir() if _may_be_folder(path))


def _may_be_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return True
