"""The duplicate guard: one task at a time works on a medium that is asked for by its id, over all edges and any crash.

Its objects and its shots may be looked for at the same time. All of it blocks.
"""

from datetime import datetime, timedelta

import msgspec

from contracts.commands import TaskKind
from contracts.failures import Failure, FailureCode
from contracts.media import is_media_id
from edge.auth import Caller
from edge.clock import Clock, system_clock
from edge.failures import RequestFailed
from edge.task_store import TaskStore
from edge.turns import Turns

SHOTS_SUFFIX = "~shots"
"""Of the guard's folder of tasks that find shots; no media id has that character."""
UNBORN_FOR = timedelta(seconds=60)
"""How long an edge may take to write down the task for which it has taken the guard; then it is dead."""

_ANYBODY = Caller()


class RunningTask(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`running/<media id>/<n>`: the task that works on the medium; over when it has ended."""

    task_id: str
    taken_at: datetime
    owner: str | None = None


class Guard:
    """Lets one task in."""

    def __init__(self, tasks: TaskStore, *, clock: Clock = system_clock) -> None:
        self._tasks = tasks
        self._clock = clock

    def enter(self, media_id: str, task_id: str, *, kind: TaskKind = TaskKind.VIDEO, caller: Caller = _ANYBODY) -> None:
        """Make this task the one that works on the medium; nothing happens if it is.

        Raises `RequestFailed(media_busy)` until the task that does so already has ended; it is named to who may see it.
        """
        folder = f"{media_id}{SHOTS_SUFFIX}" if kind is TaskKind.SHOTS else media_id
        turns = Turns(self._tasks.layout.running / folder, RunningTask)
        last = turns.last()
        if last is not None and not self._is_over(last.record):
            if last.record.task_id == task_id:
                return
            raise _busy(media_id, last.record, caller)
        running = RunningTask(task_id=task_id, taken_at=self._clock(), owner=caller.user_id)
        if turns.take(running, after=last) is not None:
            return
        faster = turns.last()
        assert faster is not None  # noqa: S101 - we lost to it, and the last turn stays
        raise _busy(media_id, faster.record, caller)

    def _is_over(self, running: RunningTask) -> bool:
        if self._tasks.exists(running.task_id):
            return self._tasks.last_event(running.task_id) is not None
        return self._clock() - running.taken_at > UNBORN_FOR


def checked_media_id(media_id: str) -> str:
    """The id itself. Raises `Failure(media_not_found)` for what can be none."""
    if not is_media_id(media_id):
        raise Failure(
            FailureCode.MEDIA_NOT_FOUND, "there is no such medium: an id has letters, digits, dots and dashes"
        )
    return media_id


def _busy(media_id: str, running: RunningTask, caller: Caller) -> RequestFailed:
    if not caller.may_see(running.owner):
        return RequestFailed(Failure(FailureCode.MEDIA_BUSY, f"a task works on medium {media_id}"))
    failure = Failure(FailureCode.MEDIA_BUSY, f"task {running.task_id} works on medium {media_id}")
    return RequestFailed(failure, task_id=running.task_id)
