"""One file streamed at a given pace while its events are listened to, with the times of both sides."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec

from contracts.events import DetectionEvent, MediaStatus
from contracts.options import DetectionOptions
from detections.answers import ClientError
from detections.async_client import AsyncClient
from detections.uploading import Progress

SILENCE_MAX_S = 60.0
"""A task says something every second; after so long without an event it is given up."""


class Sent(msgspec.Struct, frozen=True):
    """How much of the upload had left the client at a moment."""

    at_s: float
    sent_bytes: int


class Heard(msgspec.Struct, frozen=True):
    """An event, and when it came."""

    at_s: float
    event: DetectionEvent


class Course:
    """How an upload and its detection went; times are of the monotonic clock."""

    def __init__(self, total_bytes: int) -> None:
        self.total_bytes = total_bytes
        self.sent: list[Sent] = []
        """After every chunk, 50 a second of a throttled upload."""
        self.reports: list[Heard] = []
        self.end: DetectionEvent | None = None

    def share_sent(self, at_s: float) -> float:
        """How much of the file had left at that time, 0..1."""
        sent_bytes = max((mark.sent_bytes for mark in self.sent if mark.at_s <= at_s), default=0)
        return sent_bytes / self.total_bytes

    def left_at_s(self, sent_bytes: int) -> float | None:
        """When that many bytes had left; None if they never did."""
        return next((mark.at_s for mark in self.sent if mark.sent_bytes >= sent_bytes), None)


OnReport = Callable[[Course, Heard], None]


class Streaming(msgspec.Struct, frozen=True, kw_only=True):
    """What is sent where, and how."""

    url: str
    file: Path
    options: DetectionOptions
    bytes_per_s: float


async def stream(streaming: Streaming, on_report: OnReport) -> Course:
    """Send the file and listen until its task has ended; `on_report` is called as reports come.

    Raises `ClientError` if the edge refuses or falls silent, `OSError` if the file cannot be read.
    """
    task_id = str(uuid.uuid4())
    course = Course(streaming.file.stat().st_size)

    def sent(progress: Progress) -> None:
        course.sent.append(Sent(time.monotonic(), progress.sent_bytes))

    async with AsyncClient(streaming.url) as client, client.listen(task_id) as events:
        following = asyncio.create_task(_follow(events, course, on_report))
        try:
            await client.submit(
                streaming.file,
                task_id=task_id,
                config=streaming.options,
                on_progress=sent,
                bytes_per_s_max=streaming.bytes_per_s,
            )
            await following
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
    return course


async def _follow(events: AsyncIterator[DetectionEvent], course: Course, on_report: OnReport) -> None:
    clock = asyncio.get_running_loop().time
    try:
        async with asyncio.timeout(SILENCE_MAX_S) as silence:
            async for event in events:
                silence.reschedule(clock() + SILENCE_MAX_S)
                if event.media_status is not MediaStatus.AI_PROCESSING:
                    course.end = event
                elif event.sequence is not None:
                    heard = Heard(time.monotonic(), event)
                    course.reports.append(heard)
                    on_report(course, heard)
    except TimeoutError as error:
        raise ClientError(f"no event for {SILENCE_MAX_S:.0f} s") from error
