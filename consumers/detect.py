"""A command's way through a consumer."""

import asyncio
import contextlib
import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor

import msgspec
import structlog

from consumers.attempt import Attempt, Desk, Running, StopReason, log_end, unexpected
from consumers.checkpoints import Watched
from consumers.engine_room import EngineRoom
from consumers.incoming import Delivery, note_task
from consumers.leases import AlreadyEnded, Busy, Held, claimed
from consumers.metrics import FrameCounts, command_taken, task_ended
from consumers.narrator import narrator_of
from consumers.outgoing import Undelivered, dead_letter, event_message
from consumers.pictures import PictureLook
from consumers.report_frames import ReportFrames
from consumers.roots import Roots
from consumers.shot_room import ShotRoom
from consumers.spans import Spans
from consumers.suspects import Suspects
from contracts import tracing, wire
from contracts.commands import AnyCommand, DetectImage, DetectVideo, FindShots, TaskId, TaskKind
from contracts.crashpoints import crashpoint
from contracts.detections import PICTURE_COUNTS, Counts, Detection
from contracts.events import TaskEnded
from contracts.failures import NOT_READ, Failure, FailureCode, FailureRecord
from contracts.options import DetectionOptions
from contracts.results import Checkpoint
from contracts.tracing import Begun
from engine.batching import Workers
from engine.decode_thread import Terms
from engine.growing_file import MediumFile
from engine.sandbox import Sandbox, open_video_in
from engine.shot_workers import ShotWorkers
from engine.watching import watch_video

logger = structlog.get_logger(__name__)


class NotPutAside(Undelivered):
    """A message that led to nothing could not be kept with its reason; the broker keeps it without."""


class Engines(msgspec.Struct, frozen=True, kw_only=True):
    """What looks at a medium."""

    objects: Workers | None = None
    """None where only shots are looked for."""
    shots: ShotWorkers | None = None


class Readable(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What is left of a command that nobody understood."""

    task_id: TaskId
    is_quiet: bool = False
    owner: str | None = None

    def end(self, failure: FailureRecord) -> TaskEnded:
        """What whoever waits for it is told."""
        return TaskEnded(
            task_id=self.task_id,
            media_id=self.task_id,
            is_quiet=self.is_quiet,
            owner=self.owner,
            sequence=1,
            failure=failure,
        )


class Detecting:
    """Takes commands."""

    def __init__(
        self,
        desk: Desk,
        *,
        room: EngineRoom,
        shot_room: ShotRoom,
        roots: Roots,
        pictures_max: int,
        sandbox: Sandbox | None = None,
    ) -> None:
        """sandbox: where videos are decoded; None: here."""
        self._desk = desk
        self._room = room
        self._shot_room = shot_room
        self._roots = roots
        self._sandbox = sandbox
        self._running: set[Running] = set()
        self._answering: set[Running] = set()
        """Pictures that somebody waits for: they are cancelled, but not handed on when this consumer stops."""
        self._suspects = Suspects(desk.leases)
        self._pictures = ThreadPoolExecutor(pictures_max, thread_name_prefix="picture")
        self._is_stopping = False

    @property
    def tasks_running(self) -> int:
        """Those that are worked on now, pictures that somebody waits for among them."""
        return len(self._running) + len(self._answering)

    async def take(self, delivery: Delivery) -> None:
        """Do what a command says; what led to nothing is put aside with the reason.

        Raises `Undelivered` (`NotPutAside` for the reason) when the broker could not be told.
        """
        crashpoint("consumer.command.taken")
        try:
            failure = await self._do(delivery)
        except Failure as not_understood:
            await self._put_aside(delivery.body, not_understood.record())
            await self._tell_whoever_waits(delivery.body, not_understood.record())
        except Undelivered:
            raise
        except Exception as error:  # the outermost loop of a message: it is kept whatever happens
            logger.exception("command failed")
            await self._put_aside(delivery.body, unexpected(error))  # an edge ends the task, behind what it reported
        else:
            if failure is not None and failure.code is FailureCode.FORBIDDEN_PATH:
                await self._desk.sender.send(dead_letter(delivery.body, failure))

    def cancel(self, task_id: str) -> None:
        """Stop a task if it runs here."""
        for running in self._running | self._answering:
            if running.task_id == task_id:
                running.halt(StopReason.CANCELLED)

    def stop(self, reason: StopReason = StopReason.SHUTDOWN) -> None:
        """Stop every task at its next checkpoint; each is handed on."""
        self._is_stopping = True
        for running in self._running:
            running.halt(reason)

    def close(self) -> None:
        self._pictures.shutdown()

    async def _do(self, delivery: Delivery) -> FailureRecord | None:
        command = wire.decode_command(delivery.body)
        note_task(command)
        command_taken(command, is_redelivered=delivery.is_redelivered)
        is_handed_on = delivery.is_redelivered or command.continuation > 0
        if isinstance(command, DetectImage) and command.is_fleeting and not is_handed_on:
            return await self._answer(command)
        return await self._work_on(command, delivery, is_handed_on=is_handed_on)

    async def _answer(self, command: DetectImage) -> FailureRecord | None:
        """One report and the end, for somebody who waits: nothing is written down."""
        narrator = narrator_of(command)
        send = self._desk.sender.send
        running, spans = Running(command.task_id), Spans()
        self._answering.add(running)
        try:
            workers = await self._workers()
            loop = asyncio.get_running_loop()
            look = self._picture_look(workers, spans, stop=running.stop)
            detections = await loop.run_in_executor(self._pictures, self._see, look, command)
        except Failure as failure:
            await send(event_message(narrator.end(sequence=1, counts=Counts(), percent=0, failure=failure.record())))
            task_ended(TaskKind.IMAGE, failure.record())
            log_end(failure.record())
            return failure.record()
        finally:
            self._answering.discard(running)
            running.stop.set()  # its thread, if a lost connection has cancelled us: the command comes again
            spans.record()
        report = event_message(narrator.picture(detections))
        end = event_message(narrator.end(sequence=2, counts=PICTURE_COUNTS))
        crashpoint("consumer.answer.begun")
        await asyncio.gather(send(report), send(end))  # in this order: one channel, and tasks start in turn
        crashpoint("consumer.answer.sent")
        FrameCounts(Counts()).reach(PICTURE_COUNTS)
        task_ended(TaskKind.IMAGE, None)
        return None

    async def _work_on(self, command: AnyCommand, delivery: Delivery, *, is_handed_on: bool) -> FailureRecord | None:
        """Claim a task and work on it; a duplicate is dropped."""
        running = Running(command.task_id)
        self._running.add(running)  # before it is claimed: a cancel that comes now must find it
        if self._is_stopping:
            running.halt(StopReason.SHUTDOWN)
        is_suspect = isinstance(command, DetectImage) and delivery.is_redelivered
        try:
            async with self._suspects.alone(self._running) if is_suspect else contextlib.nullcontext():
                match await claimed(self._desk.leases, command, is_handed_on=is_handed_on):
                    case Busy():
                        logger.info("duplicate dropped", task_id=command.task_id)
                    case AlreadyEnded(event=event):
                        await self._tell_again(event, is_handed_on=is_handed_on)
                    case Held() as held:
                        running.held = held
                        if not is_suspect:
                            await self._suspects.excuse(running)
                        if delivery.is_worn and held.barren_attempts == 0:
                            running.halt(StopReason.WORN)
                        return await self._hold(command, held, running, delivery)
        finally:
            self._running.discard(running)
        return None

    async def _tell_again(self, event: TaskEnded, *, is_handed_on: bool) -> None:
        """Whoever wrote the end may have died before publishing it; it has the same id."""
        if is_handed_on:
            await self._desk.sender.send(event_message(event))
            crashpoint("consumer.end.told-again")

    async def _hold(
        self, command: AnyCommand, held: Held, running: Running, delivery: Delivery
    ) -> FailureRecord | None:
        spans = Spans()

        async def open_medium(resume: Checkpoint | None) -> Generator[Watched, None, None]:
            engines = await self._engines(command)
            watched = self._look(command, engines, spans, resume=resume, stop=running.stop)
            return ReportFrames(self._desk.layout, command).kept(watched) if command.is_posted else watched

        try:
            return await Attempt(self._desk, command, held, running).run(open_medium, hang_up=delivery.hang_up)
        finally:
            spans.record()

    async def _engines(self, command: AnyCommand) -> Engines:
        """What the command needs, loaded if nobody has. Raises `Failure`."""
        match command:
            case FindShots():
                return Engines(shots=await self._shot_room.workers())
            case DetectVideo(options=DetectionOptions(shots=True)):
                shots = await self._shot_room.workers()
            case _:
                shots = None
        return Engines(objects=await self._workers(), shots=shots)

    async def _workers(self) -> Workers:
        if self._room.ready is not None:
            return self._room.ready
        with tracing.span(Begun(name="load model")):
            return await self._room.workers()

    async def _put_aside(self, body: bytes, failure: FailureRecord) -> None:
        """Keep a message that led to nothing for the operator."""
        logger.warning("put aside", code=failure.code.value, detail=failure.detail)
        try:
            await self._desk.sender.send(dead_letter(body, failure))
        except Undelivered as error:
            raise NotPutAside(failure.code) from error
        crashpoint("consumer.letter.sent")

    async def _tell_whoever_waits(self, body: bytes, failure: FailureRecord) -> None:
        """Nobody has begun a task that cannot be understood: what is told is all there is of it."""
        try:
            readable = msgspec.json.decode(body, type=Readable)
        except NOT_READ:
            return
        await self._desk.sender.send(event_message(readable.end(failure)))
        crashpoint("consumer.letter.told")

    def _see(self, look: PictureLook, command: DetectImage) -> list[Detection]:
        return look.at_once(self._roots.resolve(command.medium), command)

    def _picture_look(self, workers: Workers, spans: Spans, *, stop: threading.Event) -> PictureLook:
        return PictureLook(workers=workers, limits=self._desk.limits.picture, spans=spans, stop=stop)

    def _look(
        self,
        command: AnyCommand,
        engines: Engines,
        spans: Spans,
        *,
        resume: Checkpoint | None,
        stop: threading.Event,
    ) -> Generator[Watched, None, None]:
        """What a medium shows, as it is read; run in a thread."""
        path = self._roots.resolve(command.medium)
        if isinstance(command, DetectImage) and engines.objects is not None:
            look = self._picture_look(engines.objects, spans, stop=stop)
            yield from look.watched(path, command, resume=resume)
            return
        medium = MediumFile(path=path, extent=path.with_name("extent") if command.medium.is_growing else None)
        terms = Terms(
            limits=self._desk.limits.video,
            shots=engines.shots,
            keeps_frames=command.is_posted and engines.objects is not None,
            open_video=spans.measured(open_video_in(self._sandbox)),
            offered=spans.offered,
        )
        with self._shot_room.used(engines.shots) if engines.shots is not None else contextlib.nullcontext():
            yield from watch_video(
                medium, workers=engines.objects, options=command.options, resume=resume, stop=stop, terms=terms
            )
