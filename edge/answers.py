"""Synchronous answers: publish a quiet command and wait for the events of that task, which nobody else is shown."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, NoReturn, TypeVar

from contracts.commands import DetectImage, DetectVideo
from contracts.detections import Detection
from contracts.events import AnyEvent, FrameDetected, TaskEnded
from contracts.failures import Failure, FailureCode, FailureRecord
from edge.announce import Announcer
from edge.failures import RequestFailed
from edge.ports import CommandsOut, TaskFeed
from edge.racing import first_of

POLL_S = 1.0
"""How often the storage is asked for a video's end, should the feed have missed it."""
ALARM_POLL_S = 0.5
"""How often it is asked whether the broker is in alarm: twice in a row, and no answer can come for now."""

Gone = Callable[[], Coroutine[Any, Any, NoReturn]]
"""Raises `Failure(upload_aborted)` when the client no longer waits."""

_Seen = TypeVar("_Seen")


class Answers:
    """Waits for what consumers see, at most `wait_s`."""

    def __init__(self, *, outbox: CommandsOut, feed: TaskFeed, announcer: Announcer, wait_s: float) -> None:
        self._outbox = outbox
        self._feed = feed
        self._announcer = announcer
        self._wait_s = wait_s

    async def picture(self, command: DetectImage, gone: Gone) -> list[Detection]:
        """What one picture shows. Of a fleeting one nothing is written down: its events are all there is.

        Raises `Failure`: what the task failed with, `no_answer`, `broker_unavailable`, `upload_aborted`.
        """
        with self._feed.listen_to_task(command.task_id) as events:
            await (self._outbox.publish if command.is_fleeting else self._announcer.announce_once)(command)
            return await self._within_time(command.task_id, first_of(_detections(events), gone(), self._alarm()))

    async def video(self, command: DetectVideo, gone: Gone) -> TaskEnded:
        """The end of a video's task; its reports are in its results.

        Raises `Failure` as `picture`, `RequestFailed` if the task failed.
        """
        with self._feed.listen_to_task(command.task_id) as events:
            await self._announcer.announce_once(command)
            waiting = first_of(_end(events), self._end_in_storage(command.task_id), gone())
            end = await self._within_time(command.task_id, waiting)
        if end.failure is not None:
            raise RequestFailed(Failure(end.failure.code, end.failure.detail), task_id=command.task_id)
        return end

    async def _within_time(self, task_id: str, waiting: Coroutine[Any, Any, _Seen]) -> _Seen:
        """What `waiting` returns; a task whose answer nobody will read is cancelled."""
        try:
            async with asyncio.timeout(self._wait_s):
                return await waiting
        except TimeoutError as error:
            await self._give_up(task_id)
            raise Failure(
                FailureCode.NO_ANSWER, f"no answer within {self._wait_s:g} s, the task is cancelled"
            ) from error
        except Failure as failure:
            if failure.code is FailureCode.UPLOAD_ABORTED:
                await self._give_up(task_id)
            raise

    async def _alarm(self) -> NoReturn:
        """Raises `Failure(broker_unavailable)` in an alarm: whoever has looked at the picture cannot say what it shows."""
        polls_blocked = 0
        while polls_blocked < 2:  # noqa: PLR2004 - a short one is waited out
            await asyncio.sleep(ALARM_POLL_S)
            polls_blocked = polls_blocked + 1 if self._outbox.is_blocked else 0
        raise Failure(FailureCode.BROKER_UNAVAILABLE, "the broker is in alarm, and answers cannot pass")

    async def _give_up(self, task_id: str) -> None:
        with contextlib.suppress(Failure):  # a broker that is away: the marker in the storage is found later
            await self._announcer.cancel(task_id)

    async def _end_in_storage(self, task_id: str) -> TaskEnded:
        while True:
            await asyncio.sleep(POLL_S)
            if end := await asyncio.to_thread(self._announcer.tasks.last_event, task_id):
                return end


async def _detections(events: AsyncIterator[AnyEvent]) -> list[Detection]:
    seen: dict[int, list[Detection]] = {}  # by sequence: a redelivered command may be answered twice
    async for event in events:
        match event:
            case FrameDetected():
                seen[event.sequence] = event.annotations
            case TaskEnded(failure=None):
                break
            case TaskEnded(failure=FailureRecord() as failure):
                raise Failure(failure.code, failure.detail)
            case _:
                pass
    return [detection for _, detections in sorted(seen.items()) for detection in detections]


async def _end(events: AsyncIterator[AnyEvent]) -> TaskEnded:
    with contextlib.suppress(Failure):  # too many events at once: the storage knows the end as well
        async for event in events:
            if isinstance(event, TaskEnded):
                return event
    never: asyncio.Future[TaskEnded] = asyncio.get_running_loop().create_future()
    return await never
