"""One attempt at a task by the one who holds it: watch, write down, publish, end."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from enum import Enum, auto

import msgspec
import structlog

from consumers.absence import Absence, pause
from consumers.checkpoints import Journal, Superseded, Watched, recorded
from consumers.ending import Ending
from consumers.incoming import note_attempt, note_medium
from consumers.lane import Lane
from consumers.leases import ATTEMPTS_MAX, HEARTBEAT_PERIOD_S, Held, Leases
from consumers.media_limits import MediaLimits
from consumers.metrics import TASKS_HANDED_ON, task_ended
from consumers.narrator import Narrator, narrator_of
from consumers.offload import Offload
from consumers.outgoing import Sender, Undelivered, command_message, event_message
from consumers.stopping import stopped
from contracts.commands import AnyCommand, kind_of
from contracts.crashpoints import crashpoint
from contracts.events import TaskEnded
from contracts.failures import Failure, FailureCode, FailureRecord
from contracts.results import Checkpoint
from contracts.storage import Layout, Seal, read_record
from contracts.whole_files import NO_ROOM
from engine.account import Finished

logger = structlog.get_logger(__name__)

Open = Callable[[Checkpoint | None], Awaitable[Generator[Watched, None, None]]]
"""Gets ready to look at the medium, from a checkpoint on; what it returns is run in a thread."""


class StopReason(Enum):
    """Why a task stops before its medium ends."""

    CANCELLED = auto()
    SUPERSEDED = auto()
    SHUTDOWN = auto()
    ENGINE_LOST = auto()
    WORN = auto()
    """Its message was given out so often, connections being lost, that it goes on with a fresh one."""


class Running:
    """A task that is worked on here, and the way to stop it: it outlives the handler that started it."""

    def __init__(self, task_id: str) -> None:
        self.task_id = task_id
        self.held: Held | None = None
        """What was claimed of it."""
        self.stop = threading.Event()
        self.reason: StopReason | None = None

    def halt(self, reason: StopReason) -> None:
        """Stop within a second; the first reason counts."""
        self.reason = self.reason or reason
        self.stop.set()


class Desk(msgspec.Struct, frozen=True, kw_only=True):
    """What every attempt works with."""

    layout: Layout
    leases: Leases
    sender: Sender
    ahead_max: int
    limits: MediaLimits = MediaLimits()


class Attempt:
    """Works on a task until its end, or until it is somebody else's."""

    def __init__(self, desk: Desk, command: AnyCommand, held: Held, running: Running) -> None:
        self._desk = desk
        self._command = command
        self._held = held
        self._running = running
        self._narrator = narrator_of(command, epoch=held.epoch)
        self._ending = Ending(desk.layout, command.task_id, epoch=held.epoch)
        self._journal = Journal(desk.layout, command.task_id, epoch=held.epoch, standing=held.standing)

    async def run(self, open_medium: Open, *, hang_up: Callable[[], Awaitable[None]]) -> FailureRecord | None:
        """Publish one event per report, then the end, and return what the task failed of.

        hang_up: takes no more commands, before the task is handed on. Raises `Undelivered` when the broker is away.
        """
        note_attempt(self._held.epoch)
        try:
            async with self._kept_alive():
                async with Lane(self._desk.sender) as lane:
                    finished = await self._tell_what_is_seen(open_medium, lane)
                    await lane.flush()  # before the end exists: nobody publishes reports of an ended task again
                    crashpoint("consumer.reports.confirmed")
                return await self._conclude(finished, hang_up)
        except Superseded as taken:
            logger.info("superseded", task_id=self._command.task_id, epoch=self._held.epoch, by=str(taken))
            await asyncio.to_thread(self._desk.leases.release, self._command.task_id, self._held)
            return None
        except (asyncio.CancelledError, Undelivered):
            await asyncio.to_thread(self._desk.leases.release, self._command.task_id, self._held)
            raise
        finally:
            self._ending.give_back()

    async def _tell_what_is_seen(self, open_medium: Open, lane: Lane) -> Finished | None:
        """Publish reports as they come; None if the task was stopped before its medium ended."""
        for report in self._held.standing.unconfirmed:
            await lane.send(event_message(msgspec.structs.replace(report, epoch=self._held.epoch)))
        try:
            await self._check_it_may_go_on()
            return await self._outlast_absences(open_medium, lane)
        except (Superseded, Undelivered):
            raise
        except Failure as failure:
            return self._failed(failure.record())
        except Exception as error:  # the outermost loop of a task: it ends whatever happens
            logger.exception("task failed", task_id=self._command.task_id)
            return self._failed(unexpected(error))

    async def _check_it_may_go_on(self) -> None:
        if self._held.barren_attempts >= ATTEMPTS_MAX:
            raise Failure(FailureCode.POISON, f"{ATTEMPTS_MAX} attempts in a row brought nothing new")
        if await asyncio.to_thread(self._desk.leases.is_cancelled, self._command.task_id):
            self._running.halt(StopReason.CANCELLED)

    async def _outlast_absences(self, open_medium: Open, lane: Lane) -> Finished | None:
        """Go on from the last checkpoint when the engine has been away."""
        absence = Absence()
        while not self._running.stop.is_set():
            try:
                return await self._tell(open_medium, lane)
            except Failure as failure:
                if not absence.is_outlasted(failure, reached=self._journal.checkpoint):
                    raise
                logger.info("waiting for the engine", task_id=self._command.task_id, reason=failure.detail)
            await pause(self._running.stop)
        return None

    async def _tell(self, open_medium: Open, lane: Lane) -> Finished | None:
        watched = await self._opened(open_medium)
        if watched is None:
            return None
        told = recorded(watched, self._journal, self._speaker)
        name = f"task-{self._command.task_id[:8]}-{self._held.epoch}"
        finished = None
        async with Offload(told, ahead_max=self._desk.ahead_max, stop=self._running.stop, name=name) as items:
            async for item in items:
                match item:
                    case Finished():
                        finished = item
                    case event:
                        crashpoint("consumer.report.begun")
                        await lane.send(event_message(event))
                        crashpoint("consumer.report.sent")
        return finished

    async def _opened(self, open_medium: Open) -> Generator[Watched, None, None] | None:
        """The medium, ready to be looked at; None if the task was stopped meanwhile: a model may take minutes to load."""
        opening = asyncio.ensure_future(open_medium(self._journal.checkpoint))
        stopping = asyncio.create_task(stopped(self._running.stop))
        try:
            await asyncio.wait((opening, stopping), return_when=asyncio.FIRST_COMPLETED)
            return opening.result() if opening.done() else None
        finally:
            stopping.cancel()
            opening.cancel()  # the model is loaded all the same, for whoever comes next

    async def _conclude(
        self, finished: Finished | None, hang_up: Callable[[], Awaitable[None]]
    ) -> FailureRecord | None:
        """End the task, or leave it to others, as it came out."""
        if finished is not None:
            return await self._end(await asyncio.to_thread(self._with_the_writers_reason, finished))
        match self._running.reason:
            case StopReason.CANCELLED:
                return await self._end(self._failed(FailureRecord(code=FailureCode.CANCELLED, detail="as asked")))
            case StopReason.SHUTDOWN:
                await self._hand_on(hang_up, is_blameless=True)
            case StopReason.ENGINE_LOST:  # perhaps it was this task that did it
                await self._hand_on(hang_up, is_blameless=False)
            case StopReason.WORN:  # to anybody, also to us
                await self._hand_on(None, is_blameless=True)
            case StopReason.SUPERSEDED:
                logger.info("superseded", task_id=self._command.task_id, epoch=self._held.epoch)
            case None:
                return await self._end(self._failed(FailureRecord(code=FailureCode.INTERNAL, detail="no end was seen")))
        return None

    async def _hand_on(self, hang_up: Callable[[], Awaitable[None]] | None, *, is_blameless: bool) -> None:
        """Let another consumer go on from the last checkpoint, unless one does so already.

        is_blameless: the attempt does not count against the task.
        """
        if hang_up is not None:
            await hang_up()  # or the broker would hand it to us
        if not is_blameless:
            await asyncio.to_thread(self._journal.check_it_is_ours)
        elif not await asyncio.to_thread(self._desk.leases.release, self._command.task_id, self._held):
            raise Superseded(self._command.task_id)
        continued = msgspec.structs.replace(self._command, continuation=self._command.continuation + 1)
        await self._desk.sender.send(command_message(continued))
        crashpoint("consumer.command.handed-on")
        TASKS_HANDED_ON.inc()
        logger.info("handed on", task_id=self._command.task_id, continuation=continued.continuation)

    async def _end(self, finished: Finished) -> FailureRecord | None:
        """Create the end and publish it; whoever creates it publishes it."""
        narrator = await asyncio.to_thread(self._speaker)
        note_medium(narrator.media_id)
        event = narrator.end(
            sequence=self._journal.sequence + 1,
            counts=finished.counts,
            percent=finished.percent,
            is_partial=finished.is_partial,
            failure=finished.failure,
        )
        if await asyncio.to_thread(self._create_end, event):
            task_ended(kind_of(self._command), finished.failure)  # now: whoever has to tell of it again did not end it
            log_end(finished.failure)
            await self._desk.sender.send(event_message(event))
            crashpoint("consumer.end.confirmed")
        return finished.failure

    def _speaker(self) -> Narrator:
        """Who speaks from now on: of an upload, under the id of its content as soon as its writer has left that.

        It does so before it says that every byte is there, and only then does a video finish.
        """
        if self._command.medium.is_growing and self._narrator.media_id == self._command.task_id:
            seal = read_record(self._desk.layout.seal(self._command.task_id), Seal)
            if seal is not None:
                self._narrator = msgspec.structs.replace(self._narrator, media_id=seal.media_id)
        return self._narrator

    def _with_the_writers_reason(self, finished: Finished) -> Finished:
        """An aborted upload ends with the reason that its writer left, if it left one."""
        if finished.failure is None or finished.failure.code is not FailureCode.UPLOAD_ABORTED:
            return finished
        reason = read_record(self._desk.layout.abort(self._command.task_id), FailureRecord)
        return msgspec.structs.replace(finished, failure=reason or finished.failure)

    def _create_end(self, event: TaskEnded) -> bool:
        self._journal.check_it_is_ours()
        return self._ending.create(event)

    def _failed(self, failure: FailureRecord) -> Finished:
        journal = self._journal
        return Finished(counts=journal.counts, percent=journal.percent, is_partial=False, failure=failure)

    @contextlib.asynccontextmanager
    async def _kept_alive(self) -> AsyncGenerator[None]:
        heartbeat = asyncio.create_task(self._beat())
        try:
            yield
        finally:
            heartbeat.cancel()
            await asyncio.gather(heartbeat, return_exceptions=True)

    async def _beat(self) -> None:
        leases, task_id = self._desk.leases, self._command.task_id
        while True:
            await asyncio.sleep(HEARTBEAT_PERIOD_S)
            try:
                if not await asyncio.to_thread(leases.renew, task_id, self._held):
                    self._running.halt(StopReason.SUPERSEDED)
                elif await asyncio.to_thread(leases.is_cancelled, task_id):  # the message may have been missed
                    self._running.halt(StopReason.CANCELLED)
            except OSError as error:
                logger.warning("lease not renewed", task_id=task_id, error=str(error))


def log_end(failure: FailureRecord | None) -> None:
    """Say how the task ended that is worked on here, and of a failure why."""
    logger.info("ended", failure=failure and failure.code.value, **({"detail": failure.detail} if failure else {}))


def unexpected(error: Exception) -> FailureRecord:
    """An exception that nobody named, as the end of what it broke."""
    is_full = isinstance(error, OSError) and error.errno in NO_ROOM
    code = FailureCode.STORAGE_FULL if is_full else FailureCode.INTERNAL
    return FailureRecord(code=code, detail=f"{type(error).__name__}: {error}")
