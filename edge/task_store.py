"""Tasks on the shared disk: any edge can tell where one stands, and ends one that nobody has taken. All of it blocks."""

import contextlib
import shutil
import uuid
from collections.abc import Iterator
from datetime import datetime
from enum import StrEnum
from typing import Literal

import msgspec

from contracts.commands import AnyCommand, TaskKind, kind_of
from contracts.crashpoints import crashpoint
from contracts.detections import Counts
from contracts.events import FrameDetected, TaskEnded
from contracts.failures import Failure, FailureCode, FailureRecord
from contracts.results import last_checkpoint, last_reports, latest_epoch, reports
from contracts.storage import Layout, Lease, Seal, TaskRecord, create_record, read_record
from contracts.trace_context import current_trace
from edge.clock import Clock, system_clock
from edge.disk import storage_failures
from edge.metrics import task_ended
from edge.posts import Cursor


class TaskStatus(StrEnum):
    QUEUED = "Queued"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    CANCELLED = "Cancelled"


class Told(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How far the Annotations service has been told of a task."""

    reports: int
    is_done: bool
    given_up: int
    """Posts that lie with the dead letters."""
    waits_for: FailureRecord | None
    """Why the next post has not been made yet; it is tried again."""


class TaskView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`GET /tasks/{id}`."""

    task_id: str
    kind: TaskKind
    media_id: str | None
    """None until the content hash is known."""
    status: TaskStatus
    percent: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    counts: Counts
    error: FailureRecord | None
    result: str
    """Where the reports are, those so far while the task runs."""
    is_partial: bool = False
    told: Told | None = None
    """What the Annotations service has been told; None if it is told nothing of this task."""
    retry_of: str | None = None
    """The failed task whose work this one does again."""
    retried_as: str | None = None
    """The task that does this one's work again."""


class TaskStore:
    """The folder `tasks`."""

    def __init__(self, layout: Layout, *, clock: Clock = system_clock) -> None:
        self.layout = layout
        self._clock = clock

    def reserve(self, task_id: str) -> None:
        """Take an id that others can work out, before anything of the caller's is put there.

        The folder comes first, as the upload's does where one begins: of the two one at least sees the other.
        Raises `Failure`: `task_id_in_use` if a task or an upload has it, `storage_full`.
        """
        with storage_failures():
            self.layout.task(task_id).mkdir(parents=True, exist_ok=True)
        if self.exists(task_id) or self.layout.body(task_id).parent.exists():
            raise Failure(FailureCode.TASK_ID_IN_USE, f"task {task_id} exists")

    def create(self, command: AnyCommand) -> None:
        """Write the task down, marked as not published yet: an edge that dies here leaves what another one can finish.

        Raises `Failure`: `task_id_in_use`, `storage_full`.
        """
        with storage_failures():
            self.layout.task(command.task_id).mkdir(parents=True, exist_ok=True)
            crashpoint("edge.task.folder-made")
            self.mark_unpublished(command.task_id)
            crashpoint("edge.task.marked")
            record = TaskRecord(
                task_id=command.task_id,
                command=command,
                created_at=command.created_at or self._clock(),
                trace=current_trace(),
            )
            if not create_record(self.layout.task_record(command.task_id), record):
                raise Failure(FailureCode.TASK_ID_IN_USE, f"task {command.task_id} exists")
            crashpoint("edge.task.recorded")

    def mark_unpublished(self, task_id: str) -> None:
        """Raises `Failure(storage_full)`."""
        with storage_failures():
            self.layout.unpublished(task_id).touch()

    def mark_published(self, task_id: str) -> None:
        self.layout.unpublished(task_id).unlink(missing_ok=True)
        crashpoint("edge.task.published")

    def is_unpublished(self, task_id: str) -> bool:
        return self.layout.unpublished(task_id).exists()

    def mark_aborted(self, task_id: str, failure: Failure) -> bool:
        """Say why the upload ended early, if there is room for that; False if it never became a task."""
        if not self.exists(task_id):
            return False
        with contextlib.suppress(OSError):  # a full disk: the extent, which has its room, says that it ended
            create_record(self.layout.abort(task_id), failure.record())
        crashpoint("edge.abort.recorded")
        return True

    def mark_cancelled(self, task_id: str) -> None:
        """Raises `Failure(storage_full)`."""
        with storage_failures():
            self.layout.cancel(task_id).touch()
        crashpoint("edge.cancel.marked")

    def unpublished(self, *, before: datetime) -> list[str]:
        """Tasks whose command may never have left, older than `before`."""
        found: list[str] = []
        for marker in self.layout.tasks.glob("*/unpublished"):
            with contextlib.suppress(FileNotFoundError):
                if marker.stat().st_mtime < before.timestamp():
                    found.append(marker.parent.name)
        return found

    def exists(self, task_id: str) -> bool:
        return self.layout.task_record(task_id).exists()

    def record(self, task_id: str) -> TaskRecord:
        """Raises `Failure(task_not_found)`."""
        record = read_record(self.layout.task_record(task_id), TaskRecord)
        if record is None:
            raise no_task(task_id)
        return record

    def last_event(self, task_id: str) -> TaskEnded | None:
        """The end of the task, None while it has none."""
        return read_record(self.layout.end(task_id), TaskEnded)

    def is_held(self, task_id: str) -> bool:
        """True while a consumer works on the task, or worked on it and died."""
        lease = read_record(self.layout.lease(task_id), Lease)
        return lease is not None and not lease.is_released

    def end(self, task_id: str, failure: FailureRecord) -> TaskEnded | None:
        """End a task that nobody holds; None if it has ended already. Whoever is told the event publishes it.

        Raises `Failure`: `task_not_found`, `storage_full`.
        """
        record = self.record(task_id)
        checkpoint = last_checkpoint(self.layout, task_id)
        event = TaskEnded(
            task_id=task_id,
            media_id=self._media_id(record) or task_id,
            epoch=max(1, latest_epoch(self.layout, task_id)),
            percent=checkpoint.percent if checkpoint else 0,
            is_quiet=record.command.is_quiet,
            owner=record.command.owner,
            at=self._clock(),
            sequence=1 + max((report.sequence for report in last_reports(self.layout, task_id, at_most=1)), default=0),
            counts=checkpoint.counts if checkpoint else Counts(),
            failure=failure,
        )
        with storage_failures():
            is_created = create_record(self.layout.end(task_id), event)
        crashpoint("edge.end.created")
        if is_created:
            task_ended(kind_of(record.command), failure)
        return event if is_created else None

    def reports(self, task_id: str) -> Iterator[FrameDetected]:
        """What the task has reported so far, in order, one at a time from the disk."""
        return reports(self.layout, task_id)

    def retried_as(self, task_id: str) -> str | None:
        """The task that does the work of this one again, None if there is none."""
        record = read_record(self.layout.task_record(retry_id(task_id)), TaskRecord)
        return record.task_id if record is not None and record.command.retry_of == task_id else None

    def media_id(self, task_id: str) -> str | None:
        """The content hash of the task's medium, None while it is not known. Raises `Failure(task_not_found)`."""
        record, end = self.record(task_id), self.last_event(task_id)
        return end.media_id if end and end.media_id != task_id else self._media_id(record)

    def view(self, task_id: str) -> TaskView:
        """Where the task stands. Raises `Failure(task_not_found)`."""
        record = self.record(task_id)
        end = self.last_event(task_id)
        checkpoint = None if end else last_checkpoint(self.layout, task_id)
        progress = end or checkpoint
        return TaskView(
            task_id=task_id,
            kind=kind_of(record.command),
            media_id=self.media_id(task_id),
            status=_ended_as(end) if end else self._status_before_end(task_id),
            percent=progress.percent if progress else 0,
            created_at=record.created_at,
            started_at=record.started_at,
            finished_at=end.at if end else None,
            counts=progress.counts if progress else Counts(),
            error=end.failure if end else None,
            result=f"/tasks/{task_id}/results",
            is_partial=end is not None and end.is_partial,
            told=self._told(record),
            retry_of=record.command.retry_of,
            retried_as=self.retried_as(task_id) if end is not None and end.failure is not None else None,
        )

    def remove(self, task_id: str) -> None:
        shutil.rmtree(self.layout.task(task_id), ignore_errors=True)

    def _media_id(self, record: TaskRecord) -> str | None:
        seal = read_record(self.layout.seal(record.task_id), Seal)
        return seal.media_id if seal else record.command.medium.media_id

    def _told(self, record: TaskRecord) -> Told | None:
        if not record.command.is_posted:
            return None
        cursor = read_record(self.layout.posted(record.task_id), Cursor) or Cursor()
        return Told(reports=cursor.sequence, is_done=cursor.is_done, given_up=cursor.dead, waits_for=cursor.trouble)

    def _status_before_end(self, task_id: str) -> Literal[TaskStatus.RUNNING, TaskStatus.QUEUED]:
        return TaskStatus.RUNNING if self.is_held(task_id) else TaskStatus.QUEUED


def retry_id(task_id: str) -> str:
    """The id of the task that does the work of a failed one again: the same whoever asks, so that there is one."""
    return str(uuid.uuid5(uuid.UUID(task_id), "retry"))


def no_task(task_id: str) -> Failure:
    """What is said of a task that does not exist, or does not for whoever asks."""
    return Failure(FailureCode.TASK_NOT_FOUND, f"there is no task {task_id}")


def _ended_as(end: TaskEnded) -> TaskStatus:
    if end.failure is None:
        return TaskStatus.SUCCEEDED
    return TaskStatus.CANCELLED if end.is_cancelled else TaskStatus.FAILED
