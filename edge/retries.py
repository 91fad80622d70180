"""A failed task is done again as another task, whose id follows from its own: however often that is asked for, there is one."""

import asyncio

import msgspec

from contracts import tracing
from contracts.commands import AnyCommand, kind_of
from contracts.events import TaskEnded
from contracts.failures import Failure, FailureCode
from contracts.media import Medium, is_media_id
from contracts.storage import MediaRecord, TaskRecord, is_of_an_upload, read_record
from edge.announce import Announcer
from edge.auth import Caller
from edge.guard import Guard
from edge.outcomes import Started
from edge.owners import Owners
from edge.request_trace import note_task
from edge.task_store import TaskStore, retry_id


class Retries:
    """Starts failed tasks again."""

    def __init__(self, *, announcer: Announcer, guard: Guard, owners: Owners, confirm_wait_s: float) -> None:
        self._announcer = announcer
        self._guard = guard
        self._owners = owners
        self._confirm_wait_s = confirm_wait_s

    async def start(self, task_id: str, caller: Caller) -> Started:
        """The task that does the work again, started now or before; return when the broker has its command.

        Raises `Failure`: `task_not_found`, `task_not_failed`, `medium_missing` if the upload was not whole or is not kept
        any more, `unauthenticated` if the Annotations service is told of the task and no token came; `RequestFailed` if
        another task works on the medium, or the broker stays away.
        """
        tasks = self._announcer.tasks
        record = await asyncio.to_thread(_failed, tasks, task_id)
        if there := await asyncio.to_thread(tasks.retried_as, task_id):
            return await self._started(there)
        medium = await asyncio.to_thread(_where_it_lies, tasks, record)
        command = self._command(record.command, medium, caller)
        note_task(command.task_id, medium.media_id)
        if record.trace is not None:
            tracing.link(record.trace)
        # whoever publishes commands names it: what can be no folder is nothing that others ask for by its id
        if medium.root != "storage" and medium.media_id is not None and is_media_id(medium.media_id):
            kind = kind_of(command)
            await asyncio.to_thread(self._guard.enter, medium.media_id, command.task_id, kind=kind, caller=caller)
        try:
            await asyncio.to_thread(tasks.reserve, command.task_id)
            await self._owners.adopt(command.task_id, caller)
            await self._announcer.announce_within(command, wait_s=self._confirm_wait_s)
        except Failure as failure:
            if failure.code is not FailureCode.TASK_ID_IN_USE or not await asyncio.to_thread(tasks.retried_as, task_id):
                raise
        return await self._started(command.task_id)

    def _command(self, failed: AnyCommand, medium: Medium, caller: Caller) -> AnyCommand:
        if failed.is_posted and not self._owners.belonging(caller).is_posted:
            raise Failure(
                FailureCode.UNAUTHENTICATED, "the Annotations service is told of this task: a token is needed"
            )
        return msgspec.structs.replace(
            failed,
            task_id=retry_id(failed.task_id),
            retry_of=failed.task_id,
            medium=medium,
            is_quiet=False,
            created_at=self._announcer.now(),
            continuation=0,
        )

    async def _started(self, task_id: str) -> Started:
        media_id = await asyncio.to_thread(self._announcer.tasks.media_id, task_id)
        return Started(media_id=media_id or task_id, task_id=task_id)


def _failed(tasks: TaskStore, task_id: str) -> TaskRecord:
    record = tasks.record(task_id)
    match tasks.last_event(task_id):
        case None:
            raise Failure(FailureCode.TASK_NOT_FAILED, f"task {task_id} has not ended")
        case TaskEnded(failure=None):
            raise Failure(FailureCode.TASK_NOT_FAILED, f"task {task_id} has succeeded")
        case TaskEnded() as end if end.is_cancelled:
            raise Failure(FailureCode.TASK_NOT_FAILED, f"task {task_id} was cancelled")
        case _:
            return record


def _where_it_lies(tasks: TaskStore, record: TaskRecord) -> Medium:
    """The medium: an upload's where it was kept, another one where it was."""
    medium = record.command.medium
    if not is_of_an_upload(medium):
        return medium
    media_id = tasks.media_id(record.task_id)
    if (
        media_id is None
        or not is_media_id(media_id)
        or read_record(tasks.layout.media_record(media_id), MediaRecord) is None
    ):
        raise Failure(FailureCode.MEDIUM_MISSING, f"the medium of task {record.task_id} is not kept")
    path = tasks.layout.source(media_id).relative_to(tasks.layout.root).as_posix()
    return msgspec.structs.replace(medium, path=path, media_id=media_id, is_growing=False)
