"""`detections submit`: the upload and what is detected meanwhile, side by side on stderr; events on stdout."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from contracts.events import DetectionEvent, MediaStatus
from contracts.formats import ResultFormat
from contracts.shots import Shot
from detections.answers import ClientError, Started
from detections.bars import Bars
from detections.client import AsyncClient
from detections.uploading import Progress

_LAST_EVENTS_TIMEOUT_S = 2.0
"""For the end of a task that failed while it was uploaded."""


class Submission(msgspec.Struct, frozen=True, kw_only=True):
    """What is sent where, and how."""

    file: Path
    url: str
    token: str | None = None
    refresh_token: str | None = None
    config: str | None = None
    follow: bool = False
    """True: every event is printed."""
    bytes_per_s_max: float | None = None
    is_for_shots: bool = False
    result_format: ResultFormat | None = None
    """How the reports are printed when all are there; None: they are not."""
    thumbnails: Path | None = None
    """Gets a picture of each shot."""

    @property
    def is_awaited(self) -> bool:
        """Whether the task's end is waited for."""
        return self.follow or self.result_format is not None or self.thumbnails is not None


class View(Bars):
    """Two bars; a report for each event on stdout if asked for."""

    def __init__(self, name: str, *, prints_events: bool, keeps_reports: bool = False) -> None:
        super().__init__(auto_refresh=True)
        self.detections = 0
        self.shots: list[Shot] = []
        self.reports: list[DetectionEvent] = []
        """All of them, if they are kept."""
        self.end: DetectionEvent | None = None
        self._prints_events = prints_events
        self._keeps_reports = keeps_reports
        self._upload = self._add(f"upload {name}")
        self._detection = self._add("detection")

    def sent(self, progress: Progress) -> None:
        """The upload has come so far."""
        percent = 100 * progress.sent_bytes / progress.total_bytes if progress.total_bytes else 0
        self._move(self._upload, percent, f"{progress.sent_bytes / 1e6:.1f} MB")

    async def follow(self, events: AsyncIterator[DetectionEvent]) -> None:
        """Show the events until the last one."""
        async for event in events:
            self.saw(event)

    def saw(self, event: DetectionEvent) -> None:
        """One event has come."""
        self.detections += len(event.annotations)
        self.shots += event.shots or ()
        if self._keeps_reports and event.media_status is MediaStatus.AI_PROCESSING and event.sequence is not None:
            self.reports.append(event)
        if event.media_status is not MediaStatus.AI_PROCESSING:
            self.end = event
        note = "waits for the end of the file" if event.waiting_for else self.found()
        self._move(self._detection, event.media_percent, note)
        if self._prints_events:
            self.write(msgspec.json.encode(event) + b"\n")

    def found(self) -> str:
        """What has been found so far."""
        shots = [f"{len(self.shots)} shots"] if self.shots else []
        objects = [f"{self.detections} detections"] if self.detections or not shots else []
        return ", ".join(objects + shots)


async def submit(submission: Submission, view: View) -> Started:
    """Send the file while its events are shown; if that is awaited until the task's last event.

    Raises `ClientError`, `OSError` if the file cannot be read.
    """
    task_id = str(uuid.uuid4())
    tokens = {"token": submission.token, "refresh_token": submission.refresh_token}
    async with AsyncClient(submission.url, **tokens) as client, client.listen(task_id) as events:
        following = asyncio.create_task(view.follow(events))
        send = client.find_shots if submission.is_for_shots else client.submit
        sending = asyncio.create_task(
            send(
                submission.file,
                task_id=task_id,
                config=submission.config,
                on_progress=view.sent,
                bytes_per_s_max=submission.bytes_per_s_max,
            )
        )
        try:
            await asyncio.wait((sending, following), return_when=asyncio.FIRST_COMPLETED)
            if following.done() and isinstance(following.exception(), OSError):
                await following  # nobody reads our stdout any more: the rest of the file is for nobody
            started = await sending
            if submission.is_awaited:
                await following
        except ClientError:
            await asyncio.wait((following,), timeout=_LAST_EVENTS_TIMEOUT_S if submission.is_awaited else 0)
            raise
        finally:
            sending.cancel()
            following.cancel()
            await asyncio.gather(sending, following, return_exceptions=True)
    return started
