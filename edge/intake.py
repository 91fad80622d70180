"""One video on its way in: stored, announced as soon as there is something to see, sealed at its end."""

import asyncio
from collections.abc import AsyncIterator
from http import HTTPStatus

import msgspec

from contracts.commands import COMMANDS, TaskKind
from contracts.events import AnyEvent, TaskEnded
from contracts.failures import Failure, FailureCode
from contracts.media import MediumKind
from contracts.options import DetectionOptions
from contracts.storage import ExtentState, Seal, upload_medium
from edge.announce import Announcer
from edge.auth import Caller
from edge.background import Background
from edge.failures import RequestFailed
from edge.growing_body import GrowingBody, UploadPlan
from edge.outcomes import Started
from edge.owners import Owners
from edge.ports import TaskFeed
from edge.racing import single_failure
from edge.storage import UploadStore
from edge.upload import Inflow, UploadLimits, bounded, check_announced, store

ATTEND_S = 1.0
"""How often a running upload shows that it lives, and looks whether the disk fills up or its task has ended."""


class VideoUpload(msgspec.Struct, frozen=True, kw_only=True):
    """What a client said of the video it is about to send."""

    task_id: str
    name: str
    options: DetectionOptions
    plan: UploadPlan
    caller: Caller = Caller()
    kind: TaskKind = TaskKind.VIDEO
    """What is to be done with the video."""


class VideoIntake:
    """Takes streamed videos in."""

    def __init__(
        self,
        *,
        uploads: UploadStore,
        announcer: Announcer,
        feed: TaskFeed,
        background: Background,
        owners: Owners,
        limits: UploadLimits,
    ) -> None:
        self._uploads = uploads
        self._announcer = announcer
        self._feed = feed
        self._background = background
        self._owners = owners
        self._limits = limits

    async def take(self, upload: VideoUpload, chunks: AsyncIterator[bytes]) -> Started:
        """Return when the file is durable and the broker has the command.

        Raises `Failure` (`task_id_in_use`, `storage_full`, `too_large`, `empty_media`, `length_mismatch`, `upload_*`) and
        `RequestFailed` if the task failed while the body arrived, or the broker stayed away.
        """
        check_announced(upload.plan.total_bytes, self._limits)
        with self._background.attended():
            body = await asyncio.to_thread(self._uploads.begin, upload.task_id, upload.plan)
            try:
                seal = await self._receive(upload, body, bounded(chunks, self._limits))
            except BaseException as error:
                await self._abort(upload.task_id, body, error)
                raise
        return Started(media_id=seal.media_id, task_id=upload.task_id)

    async def _receive(self, upload: VideoUpload, body: GrowingBody, chunks: AsyncIterator[bytes]) -> Seal:
        inflow = Inflow(body)
        with self._feed.listen_to_task(upload.task_id) as events:
            async with single_failure(), asyncio.TaskGroup() as group:
                watches = (group.create_task(_watch(events)), group.create_task(self._attend(upload.task_id, body)))
                announcement = group.create_task(self._announce(upload, inflow))
                await store(chunks, inflow)
                seal = await asyncio.to_thread(self._seal, upload, body)
                for watch in watches:
                    watch.cancel()
                await self._confirmed(upload.task_id, announcement)
        if self._owners.belonging(upload.caller).is_posted:
            await self._announcer.wake(upload.task_id)  # the medium has its id now
        return seal

    def _seal(self, upload: VideoUpload, body: GrowingBody) -> Seal:
        owner = self._owners.belonging(upload.caller).owner
        return self._uploads.seal(upload.task_id, body, name=upload.name, kind=MediumKind.VIDEO, owner=owner)

    async def _announce(self, upload: VideoUpload, inflow: Inflow) -> None:
        await inflow.first_stored.wait()
        medium = upload_medium(upload.task_id, kind=MediumKind.VIDEO, name=upload.name, is_growing=True)
        belonging = await self._owners.adopt(upload.task_id, upload.caller)
        command = COMMANDS[upload.kind](
            task_id=upload.task_id,
            medium=medium,
            options=upload.options,
            owner=belonging.owner,
            is_posted=belonging.is_posted,
            created_at=self._announcer.now(),
        )
        await self._announcer.announce(command)

    async def _confirmed(self, task_id: str, announcement: "asyncio.Task[None]") -> None:
        try:
            async with asyncio.timeout(self._limits.confirm_wait_s):
                await announcement
        except TimeoutError as error:
            failure = Failure(FailureCode.BROKER_UNAVAILABLE, "the medium is stored; its task starts with the broker")
            raise RequestFailed(failure, task_id=task_id) from error

    async def _attend(self, task_id: str, body: GrowingBody) -> None:
        """What the feed cannot tell while the broker is away, and a disk that fills up. Raises as `take`."""
        while True:
            await asyncio.sleep(ATTEND_S)
            if end := await asyncio.to_thread(self._look_after, task_id, body):
                _refuse(end)

    def _look_after(self, task_id: str, body: GrowingBody) -> TaskEnded | None:
        body.beat()
        self._uploads.check_free()
        return self._announcer.tasks.last_event(task_id)

    async def _abort(self, task_id: str, body: GrowingBody, error: BaseException) -> None:
        """Tell whoever reads the file that no more will come, and see to it that the task ends."""
        if body.is_sealed:  # it is only the broker that is missing
            return
        failure = _reason(error)
        was_announced = await asyncio.shield(asyncio.to_thread(self._close, task_id, body, failure))
        if was_announced:
            self._background.start(self._announcer.end_soon(task_id, failure.record()))

    def _close(self, task_id: str, body: GrowingBody, failure: Failure) -> bool:
        was_announced = self._announcer.tasks.mark_aborted(task_id, failure)
        body.end(ExtentState.ABORTED)
        if not was_announced:
            self._uploads.discard(task_id)
        return was_announced


async def _watch(events: AsyncIterator[AnyEvent]) -> None:
    """Raises `RequestFailed` when the task fails."""
    async for event in events:
        if isinstance(event, TaskEnded):
            _refuse(event)


def _refuse(end: TaskEnded) -> None:
    if end.failure is not None:
        failure = Failure(end.failure.code, end.failure.detail)
        raise RequestFailed(failure, status=HTTPStatus.UNPROCESSABLE_ENTITY, task_id=end.task_id)


def _reason(error: BaseException) -> Failure:
    match error:
        case Failure():
            return error
        case RequestFailed():
            return error.failure
        case _:
            return Failure(FailureCode.UPLOAD_ABORTED, "the edge stopped in the middle of the upload")
