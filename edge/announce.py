"""Commands leave the edge exactly when a task may start, however long the broker is away, also over a crash of the edge."""

import asyncio
import contextlib
from datetime import datetime, timedelta

from contracts.commands import AnyCommand
from contracts.events import TaskEnded
from contracts.failures import Failure, FailureCode, FailureRecord
from contracts.threads import to_its_end
from contracts.trace_context import continued
from edge.again_later import again_later
from edge.clock import system_clock
from edge.failures import RequestFailed
from edge.ports import CommandsOut
from edge.task_store import TaskStore

RETRY_S = 1.0
"""Between two tries to publish a command."""
SCAN_S = 30.0
"""Between two looks for commands that another edge, now dead, did not publish."""
ORPHANED_AFTER = timedelta(seconds=10)
"""Age at which an unpublished task is taken for orphaned; publishing it twice does no harm, consumers drop the second."""
LEASE_WAIT_S = 2.0
"""How long a consumer that has just been told of a task may take to claim it."""


class Announcer:
    """Writes tasks down and tells the broker; ends tasks that nobody has taken."""

    def __init__(self, tasks: TaskStore, outbox: CommandsOut) -> None:
        self.tasks = tasks
        self._outbox = outbox
        self._pending: set[str] = set()

    def now(self) -> datetime:
        """The moment at which a command is made."""
        return system_clock()

    @property
    def unpublished(self) -> int:
        """Messages that the broker has not taken yet, and that are tried again."""
        return len(self._pending)

    async def write_down(self, command: AnyCommand) -> None:
        """Return when the task is in the storage; whoever calls has it told (`assure`). Cancelled, it leaves that to `run`.

        Raises `Failure`: `task_id_in_use`, `storage_full`.
        """
        created = asyncio.create_task(asyncio.to_thread(self.tasks.create, command))
        try:
            await to_its_end(created)  # else an upload that breaks off now would find no task to end
        except asyncio.CancelledError:
            self._pending.add(command.task_id)
            raise

    async def announce_within(self, command: AnyCommand, *, wait_s: float) -> None:
        """Write the task down and `assure` it, no longer than `wait_s`. Raises `Failure` and `RequestFailed` as these do."""
        await asyncio.to_thread(self.tasks.create, command)  # whole, however short the wait is
        await self.assure_within(command.task_id, wait_s=wait_s)

    async def assure_within(self, task_id: str, *, wait_s: float) -> None:
        """As `assure`, but no longer than `wait_s`: then the client is told, and the task starts later.

        Raises `RequestFailed(broker_unavailable)`.
        """
        try:
            async with asyncio.timeout(wait_s):
                await self.assure(task_id)
        except TimeoutError as error:
            failure = Failure(FailureCode.BROKER_UNAVAILABLE, "the medium is stored; its task starts with the broker")
            raise RequestFailed(failure, task_id=task_id) from error

    async def assure(self, task_id: str) -> None:
        """Return when the broker has the command of a task that is written down, perhaps by an edge that died since.

        Tries again while the broker is away; broken off before that, it leaves the rest to `run`.
        """
        try:
            while True:
                if await self._is_told(task_id):
                    return
                await asyncio.sleep(RETRY_S)
        except BaseException:
            self._pending.add(task_id)
            raise

    async def waited_for(self, announcement: "asyncio.Task[None]") -> None:
        """Return when an announcement is done. Raises `TimeoutError` while the broker is in alarm."""
        while not announcement.done():
            await asyncio.wait((announcement,), timeout=RETRY_S / 2)
            if self._outbox.is_blocked and not announcement.done():
                raise TimeoutError
        await announcement

    async def announce_once(self, command: AnyCommand) -> None:
        """Write a task down and have it told, for a client that waits: one that cannot start now ends.

        Raises `Failure`: `task_id_in_use`, `storage_full`, `broker_unavailable`.
        """
        await asyncio.to_thread(self.tasks.create, command)
        if not await self._try_to_publish(command):
            failure = Failure(FailureCode.BROKER_UNAVAILABLE, "the broker did not take the command")
            await self.end_unless_held(command.task_id, failure.record())
            raise failure

    async def cancel(self, task_id: str) -> None:
        """Stop a task: the consumer that holds it ends it, else we do. A quiet picture's task exists nowhere but there.

        Raises `Failure`: `broker_unavailable` (the marker is in the storage then, but the consumer was not told),
        `storage_full` if there is no room for the marker.
        """
        is_ended = False
        if await asyncio.to_thread(self.tasks.exists, task_id):
            await asyncio.to_thread(self.tasks.mark_cancelled, task_id)
            cancelled = FailureRecord(code=FailureCode.CANCELLED, detail="cancelled by a client")
            with contextlib.suppress(Failure):  # no room for an end: the marker makes one of whoever takes the task
                is_ended = await self.end_unless_held(task_id, cancelled)
        try:
            await self._outbox.cancel(task_id)  # also when we ended it: a consumer may have claimed it just now
        except Failure:
            if not is_ended:
                raise

    async def wake(self, task_id: str) -> None:
        """Have the Annotations service told; should that be lost, the next report or the end does it too."""
        with contextlib.suppress(Failure):
            await self._outbox.wake(task_id)

    async def run(self) -> None:
        """Publish what could not be published: ours at once, that of dead edges when it is old enough."""
        ticks_per_scan = round(SCAN_S / RETRY_S)
        second_look = round(ORPHANED_AFTER.total_seconds() / RETRY_S) + 1  # what the edge before us left a moment ago
        tick = 0
        while True:
            if tick % ticks_per_scan == 0 or tick == second_look:
                await self._look_for_orphans()
            for task_id in sorted(self._pending):
                if await self._is_settled(task_id):
                    self._pending.discard(task_id)
            tick += 1
            await asyncio.sleep(RETRY_S)

    async def _look_for_orphans(self) -> None:
        with again_later("tasks could not be looked through"):
            self._pending.update(await asyncio.to_thread(self.orphans))

    async def _is_settled(self, task_id: str) -> bool:
        """Whether there is nothing more to do for a task until the next scan: one that fails must not hold up others."""
        with again_later("a task has to wait", task_id=task_id):
            return await self._is_told(task_id)
        return True

    def orphans(self) -> list[str]:
        """Tasks that an edge wrote down and did not live to publish."""
        return self.tasks.unpublished(before=system_clock() - ORPHANED_AFTER)

    async def finish(self, task_id: str) -> bool:
        """Publish the command of a task, or its end if it has one; False if the broker is still away."""
        try:
            record = await asyncio.to_thread(self.tasks.record, task_id)
        except Failure:  # the janitor was faster, or an edge died before it wrote the record
            await asyncio.to_thread(self.tasks.mark_published, task_id)
            return True
        end = await asyncio.to_thread(self.tasks.last_event, task_id)
        with continued(record.trace):
            return await self._try_to_publish(end or record.command)

    async def end_unless_held(self, task_id: str, failure: FailureRecord) -> bool:
        """End a task that no consumer has claimed and tell the listeners; False if one has, who then ends it."""
        if await asyncio.to_thread(self.tasks.is_held, task_id):
            return False
        await asyncio.to_thread(self.tasks.mark_unpublished, task_id)  # first: we may die as soon as there is an end
        event = await asyncio.to_thread(self.tasks.end, task_id, failure)
        if event is None or not await self.finish(task_id):
            self._pending.add(task_id)  # told later, or once more: the end is published in place of the command
        return True

    async def end_soon(self, task_id: str, failure: FailureRecord) -> None:
        """As `end_unless_held`, after giving a consumer to whom the command is on its way the time to claim it."""
        await asyncio.sleep(LEASE_WAIT_S)
        await self.end_unless_held(task_id, failure)

    async def _is_told(self, task_id: str) -> bool:
        """Whether the broker has what there is to tell of a task, if need be told just now."""
        return not await asyncio.to_thread(self.tasks.is_unpublished, task_id) or await self.finish(task_id)

    async def _try_to_publish(self, message: AnyCommand | TaskEnded) -> bool:
        """False if the broker is away."""
        try:
            await (
                self._outbox.publish_end(message) if isinstance(message, TaskEnded) else self._outbox.publish(message)
            )
        except Failure as failure:
            if failure.code is FailureCode.BROKER_UNAVAILABLE:
                return False
            raise
        await asyncio.to_thread(self.tasks.mark_published, message.task_id)
        if not isinstance(message, TaskEnded) and message.is_posted:
            await self.wake(message.task_id)
        return True
