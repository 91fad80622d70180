"""Commands for a fleet, published and uploaded, until all of them are promised; and whether all promises were kept."""

import asyncio
import contextlib
import time
from collections.abc import Sequence

import aio_pika
import msgspec
from aio_pika.abc import AbstractChannel

from contracts.commands import DetectVideo
from contracts.media import Medium, MediumKind
from contracts.results import reports
from contracts.storage import Layout
from tests.fault.checker import Accepted, Seen, check
from tests.fault.fleet import WAIT_S, Fleet
from tests.fault.flow import EVERY_FRAME, channel_on, new_task, seen_on, send_command, send_video, until_empty
from tests.processes import wait_until

FRAMES = 10
"""Of the clip, `clip.mp4` in the root `videos` of the fleet."""
UPLOAD_EVERY = 5
"""One command in so many is an upload, the others are published as other services do it."""
QUEUED_MAX = 150
"""Commands that are unfinished at a time: enough for work to be queued at each kill."""


class Work:
    """Sends commands until all of them are promised."""

    def __init__(self, system: Fleet, amqp_url: str, *, clip: bytes) -> None:
        self.accepted: list[Accepted] = []
        self.refused: list[str] = []
        """Uploads that got no 202; those that became tasks still end."""
        self._fleet = system
        self._amqp_url = amqp_url
        self._clip = clip
        self._layout = Layout(system.storage)
        self._unfinished: dict[str, None] = {}

    @property
    def ended(self) -> int:
        """Promised tasks that have an end; each is looked for until it has one."""
        for task in tuple(self._unfinished):
            if self._layout.end(task).exists():
                self._unfinished.pop(task, None)
        return len(self.accepted) - len(self._unfinished)

    @property
    def unfinished(self) -> int:
        return len(self._unfinished)

    def send(self, commands: int) -> None:
        """Return when so many are promised."""
        asyncio.run(self._send(commands))

    async def _send(self, commands: int) -> None:
        uploads = commands // UPLOAD_EVERY
        await asyncio.gather(self._publish(commands - uploads), asyncio.to_thread(self._upload, uploads))

    async def _publish(self, count: int) -> None:
        """What was not confirmed is sent again, as another task."""
        left = count
        while left:
            with contextlib.suppress(OSError, RuntimeError, aio_pika.exceptions.AMQPError, asyncio.CancelledError):
                async with channel_on(self._amqp_url) as channel:
                    while left:
                        left -= await self._publish_one(channel)

    async def _publish_one(self, channel: AbstractChannel) -> bool:
        if self.unfinished >= QUEUED_MAX and len(self.accepted) - self.ended >= QUEUED_MAX:
            await asyncio.sleep(0.2)
            return False
        medium = Medium(root="videos", path="clip.mp4", kind=MediumKind.VIDEO, media_id="clip")
        command = DetectVideo(task_id=new_task(), medium=medium, options=EVERY_FRAME)
        async with asyncio.timeout(10):
            await send_command(channel, command)
        self._promise(command.task_id)
        return True

    def _upload(self, count: int) -> None:
        left = count
        while left:
            task = new_task()
            if send_video(self._fleet.url, task, self._clip) == 202:
                self._promise(task)
                left -= 1
            else:
                self.refused.append(task)
                time.sleep(0.5)

    def _promise(self, task: str) -> None:
        self._unfinished[task] = None
        self.accepted.append(Accepted(task_id=task, reports=FRAMES))


def judge(
    system: Fleet, amqp_url: str, promised: Sequence[Accepted], *, refused: Sequence[str] = (), is_ordered: bool = True
) -> Seen:
    """What was seen, once nothing is wrong with it.

    refused: uploads that got no 202; those that became tasks end too. is_ordered: whether the broker keeps the order of messages
    (it does not when the node dies that leads the log, see ADR 59).
    """
    layout = Layout(system.storage)
    tried = [task for task in refused if layout.task_record(task).exists()]
    wait_until(lambda: all(layout.end(task).exists() for task in tried), timeout_s=WAIT_S)
    accepted = [*promised, *(Accepted(task_id=task) for task in tried)]
    deadline_s = time.monotonic() + WAIT_S * 2
    while (
        verdict := check(judged(seen := heard_in_log(amqp_url, accepted), is_ordered=is_ordered))
    ).stuck and time.monotonic() < deadline_s:
        time.sleep(0.5)
    assert verdict.is_clean, verdict
    assert list(seen.dead_letters) == []
    for promise in promised:
        if promise.reports is not None:
            assert len(list(reports(layout, promise.task_id))) == promise.reports
    asyncio.run(until_empty(amqp_url))
    return seen


def heard_in_log(amqp_url: str, accepted: list[Accepted]) -> Seen:
    """What there is to check.

    Nothing is written down of a picture that somebody waits for: a command that comes twice ends twice, and whoever waits takes
    the first end.
    """
    seen = asyncio.run(seen_on(amqp_url, accepted))
    return msgspec.structs.replace(seen, events=[event for event in seen.events if not event.is_quiet])


def judged(seen: Seen, *, is_ordered: bool) -> Seen:
    """The same, if need be in the order in which the events were made."""
    if is_ordered:
        return seen
    return msgspec.structs.replace(seen, events=sorted(seen.events, key=lambda event: getattr(event, "sequence", 0)))
