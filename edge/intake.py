"""One video on its way in: stored, announced as soon as there is something to see, sealed at its end."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus

import msgspec

from contracts.commands import AnyCommand
from contracts.crashpoints import crashpoint
from contracts.events import AnyEvent, TaskEnded
from contracts.failures import Failure, FailureCode
from contracts.storage import ExtentState, Seal
from edge.announce import Announcer
from edge.auth import Caller
from edge.background import Background
from edge.failures import RequestFailed
from edge.first_reports import FIRST_REPORTS
from edge.growing_body import GrowingBody, UploadPlan
from edge.outcomes import Appended, Started
from edge.owners import Owners
from edge.ports import TaskFeed
from edge.racing import single_failure
from edge.request_trace import note_task
from edge.resumable import Append, Standing, UploadRecord, no_upload
from edge.storage import UploadStore
from edge.upload import Inflow, UploadLimits, bounded, check_announced, store

ATTEND_S = 1.0
"""How often a running upload shows that it lives, and looks whether the disk fills up or its task has ended."""
ATTENDING_THREADS = 4
"""Threads that do so, of their own: a reader gives up on an upload that is silent while others' files are synced."""
ASKED_BACK_POLL_S = 0.1
"""How often a resumable upload looks whether its client asks for it on another connection."""
ASKED_BACK_WAIT_S = 5.0
"""How long such a question waits for the other connection to be cut, on whatever edge; then `upload_busy`."""

_MAY_COME_BACK = frozenset((FailureCode.UPLOAD_ABORTED, FailureCode.UPLOAD_STALLED))
"""What a lost connection looks like from here, and an edge that stops."""


class Upload(msgspec.Struct, frozen=True, kw_only=True):
    """What a client said of the medium it is about to send, or to go on with."""

    command: AnyCommand
    """What follows from it."""
    plan: UploadPlan
    caller: Caller = Caller()
    is_rest: bool = True
    """False: more comes in another request, when this one's body has ended."""
    is_begun: bool = False
    """True: an earlier request has sent some of it, and perhaps announced its task."""

    @property
    def task_id(self) -> str:
        return self.command.task_id


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
        self._resumable = uploads.resumable
        self._announcer = announcer
        self._feed = feed
        self._background = background
        self._owners = owners
        self._limits = limits
        self._attending: ThreadPoolExecutor | None = None  # outside `running` any thread will do

    @contextlib.contextmanager
    def running(self) -> Generator[None]:
        """Keep threads to show that uploads live."""
        with ThreadPoolExecutor(ATTENDING_THREADS, thread_name_prefix="attend") as self._attending:
            yield

    async def take(
        self, upload: Upload, chunks: AsyncIterator[bytes], *, begun: Callable[[], None] = lambda: None
    ) -> Started | Appended:
        """Return when the file is durable and the broker has the command, or when this part of the file is stored.

        begun: called when the upload can be gone on with elsewhere. Raises `Failure` (`task_id_in_use`, `storage_full`,
        `too_large`, `too_many_requests`, `empty_media`, `length_mismatch`, `upload_*`) and `RequestFailed` if the task
        failed while the body arrived, or the broker stayed away.
        """
        note_task(upload.task_id)
        check_announced(upload.plan.total_bytes, self._limits)
        self._uploads.quota.check(upload.caller.client)
        belonging = self._owners.belonging(upload.caller)
        command = msgspec.structs.replace(
            upload.command, owner=belonging.owner, is_posted=belonging.is_posted, created_at=self._announcer.now()
        )
        upload = msgspec.structs.replace(upload, command=command)
        with self._background.attended(), self._uploads.quota.counted(upload.caller.client):
            body = await asyncio.to_thread(self._begin, upload)
            FIRST_REPORTS.begin(upload.task_id)
            begun()
            return await self._take_in(upload, body, chunks)

    async def standing(self, task_id: str, caller: Caller) -> Standing:
        """Where a resumable upload stands; a connection that still sends it is cut first.

        Raises `Failure`: `upload_not_found` (also for somebody else's), `upload_gone`, `upload_busy`.
        """
        record = await self._theirs(task_id, caller)
        deadline_s = time.monotonic() + ASKED_BACK_WAIT_S
        while True:
            try:
                return await asyncio.to_thread(self._resumable.standing, record)
            except Failure as failure:
                if failure.code is not FailureCode.UPLOAD_BUSY or time.monotonic() > deadline_s:
                    raise
            await asyncio.to_thread(self._resumable.ask_back, task_id)
            await asyncio.sleep(ASKED_BACK_POLL_S)

    async def go_on(self, task_id: str, append: Append, chunks: AsyncIterator[bytes]) -> Started | Appended:
        """As `take`, for the next part of an upload that has begun.

        Raises `Failure` as `standing` and `take`, `upload_completed`, `upload_length_inconsistent`; `OffsetMismatch`.
        """
        record = append.applied_to(await self._theirs(task_id, append.caller))
        check_announced(record.plan.total_bytes, self._limits)
        self._uploads.quota.check(append.caller.client)
        upload = Upload(
            command=record.command, plan=record.plan, caller=append.caller, is_rest=append.is_rest, is_begun=True
        )
        with self._background.attended(), self._uploads.quota.counted(upload.caller.client):
            body = await asyncio.to_thread(self._resumable.reopen, record, offset_bytes=append.offset_bytes)
            return await self._take_in(upload, body, chunks)

    async def _theirs(self, task_id: str, caller: Caller) -> UploadRecord:
        note_task(task_id)
        record = await asyncio.to_thread(self._resumable.record, task_id)
        if not caller.may_see(record.command.owner):
            raise no_upload(task_id)
        return record

    def _begin(self, upload: Upload) -> GrowingBody:
        record = UploadRecord(command=upload.command, plan=upload.plan) if upload.plan.resume_s else None
        return self._uploads.begin(upload.task_id, upload.plan, record=record)

    async def _take_in(self, upload: Upload, body: GrowingBody, chunks: AsyncIterator[bytes]) -> Started | Appended:
        try:
            chunks = bounded(chunks, self._limits, before_bytes=body.received_bytes)
            seal = await self._receive(upload, body, chunks)
        except BaseException as error:
            await self._leave(upload, body, error)
            raise
        if seal is None:
            await asyncio.to_thread(body.release)
            crashpoint("edge.part.kept")
            return Appended(task_id=upload.task_id, offset_bytes=body.received_bytes)
        crashpoint("edge.upload.answered")
        return Started(media_id=seal.media_id, task_id=upload.task_id)

    async def _receive(self, upload: Upload, body: GrowingBody, chunks: AsyncIterator[bytes]) -> Seal | None:
        """The seal of a file that is whole; None if more is to come."""
        inflow = Inflow(body)
        if body.received_bytes:
            inflow.first_stored.set()
        with self._feed.listen_to_task(upload.task_id) as events:
            async with single_failure(), asyncio.TaskGroup() as group:
                watches = [group.create_task(_watch(events)), group.create_task(self._attend(upload.task_id, body))]
                asked_back = group.create_task(self._notice_asked_back(upload))
                written = group.create_task(self._write_down(upload, inflow))
                announcement = group.create_task(self._announce(upload, written))
                await store(chunks, inflow)
                asked_back.cancel()  # from here on it takes only as long as the disk and the broker do
                if inflow.first_stored.is_set():
                    await written  # else an edge that dies after the seal leaves a whole file that nobody looks at
                seal = await asyncio.to_thread(self._seal, upload, body) if upload.is_rest else None
                for watch in watches:
                    watch.cancel()
                await self._confirmed(upload, announcement, inflow)
        if seal is not None:
            note_task(upload.task_id, seal.media_id)
        if seal is not None and upload.command.is_posted:
            await self._announcer.wake(upload.task_id)  # the medium has its id now
        return seal

    def _seal(self, upload: Upload, body: GrowingBody) -> Seal:
        medium = upload.command.medium
        return self._uploads.seal(
            upload.task_id, body, name=medium.name or medium.kind, kind=medium.kind, owner=upload.command.owner
        )

    async def _write_down(self, upload: Upload, inflow: Inflow) -> None:
        """Have the upload's task in the storage as soon as there is something to see."""
        await inflow.first_stored.wait()
        if upload.is_begun and await asyncio.to_thread(self._announcer.tasks.exists, upload.task_id):
            if upload.command.is_posted and upload.command.owner == upload.caller.user_id:
                await self._owners.adopt(upload.task_id, upload.caller)  # theirs is newer
            return
        await self._owners.adopt(upload.task_id, upload.caller)
        await self._announcer.write_down(upload.command)

    async def _announce(self, upload: Upload, written: "asyncio.Task[None]") -> None:
        await written
        await self._announcer.assure(upload.task_id)
        if upload.is_begun:
            crashpoint("edge.task.assured")

    async def _confirmed(self, upload: Upload, announcement: "asyncio.Task[None]", inflow: Inflow) -> None:
        """Wait for the broker; for a part, only as long as that is worth it."""
        if not upload.is_rest and not inflow.first_stored.is_set():
            announcement.cancel()
            return
        try:
            async with asyncio.timeout(self._limits.confirm_wait_s):
                await self._announcer.waited_for(announcement)
        except TimeoutError as error:
            announcement.cancel()  # it goes on without a request that waits for it
            if not upload.is_rest:
                return
            failure = Failure(FailureCode.BROKER_UNAVAILABLE, "the medium is stored; its task starts with the broker")
            raise RequestFailed(failure, task_id=upload.task_id, headers={"upload-complete": "?1"}) from error

    async def _notice_asked_back(self, upload: Upload) -> None:
        """Raises `Failure(upload_aborted)` when the client asks elsewhere how far it came."""
        while upload.plan.resume_s:
            await asyncio.sleep(ASKED_BACK_POLL_S)
            if await asyncio.to_thread(self._resumable.is_asked_back, upload.task_id):
                raise Failure(FailureCode.UPLOAD_ABORTED, "the client goes on with the upload on another connection")

    async def _attend(self, task_id: str, body: GrowingBody) -> None:
        """What the feed cannot tell while the broker is away, and a disk that fills up. Raises as `take`."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(ATTEND_S)
            if end := await loop.run_in_executor(self._attending, self._look_after, task_id, body):
                _refuse(end)

    def _look_after(self, task_id: str, body: GrowingBody) -> TaskEnded | None:
        body.beat()
        self._uploads.check_free()
        return self._announcer.tasks.last_event(task_id)

    async def _leave(self, upload: Upload, body: GrowingBody, error: BaseException) -> None:
        """Keep what has come for a client that may come back; else tell whoever reads the file that no more will come."""
        if body.is_sealed:  # it is only the broker that is missing
            return
        failure = _reason(error)
        if upload.plan.resume_s and failure.code in _MAY_COME_BACK:
            await asyncio.shield(asyncio.to_thread(body.release))
            crashpoint("edge.upload.left")
            return
        await self.abort(upload.task_id, body, failure)

    async def abort(self, task_id: str, body: GrowingBody, failure: Failure) -> None:
        """End an upload, and see to it that its task ends."""
        was_announced = await asyncio.shield(asyncio.to_thread(self._close, task_id, body, failure))
        if was_announced:
            self._background.start(self._announcer.end_soon(task_id, failure.record()))
        else:
            FIRST_REPORTS.forget(task_id)

    def _close(self, task_id: str, body: GrowingBody, failure: Failure) -> bool:
        was_announced = self._announcer.tasks.mark_aborted(task_id, failure)
        body.end(ExtentState.ABORTED)
        crashpoint("edge.abort.told")
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
