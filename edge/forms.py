"""`POST /detect`, and `POST /shots` of a form: from its bytes to its outcome."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import msgspec

from contracts.commands import COMMANDS, AnyCommand, DetectImage, DetectVideo, TaskKind
from contracts.failures import Failure, FailureCode
from contracts.media import Medium, MediumKind
from contracts.storage import ExtentState, Seal, upload_medium
from edge.announce import Announcer
from edge.answers import Answers, Gone
from edge.background import Background
from edge.failures import RequestFailed
from edge.first_reports import FIRST_REPORTS
from edge.form_intake import FormIntake, FormUpload, ReceivedForm
from edge.idempotency import IdempotencyKeys, fingerprint, once
from edge.outcomes import AnyOutcome, PictureSeen, Refused, Started, TaskStarted, VideoSeen
from edge.owners import Belonging, Owners
from edge.request_trace import note_task
from edge.storage import UploadStore
from edge.upload import UploadLimits

LASTING = frozenset(
    (
        FailureCode.UNSUPPORTED_MEDIA,
        FailureCode.UNREADABLE_MEDIA,
        FailureCode.NO_VIDEO_STREAM,
        FailureCode.NO_FRAMES,
        FailureCode.TOO_MANY_PIXELS,
        FailureCode.DURATION_LIMIT,
        FailureCode.POISON,
    )
)
"""What is wrong with the medium itself: kept as the answer of an Idempotency-Key."""


class FormParts(msgspec.Struct, frozen=True, kw_only=True):
    """What answering forms is made of."""

    intake: FormIntake
    uploads: UploadStore
    announcer: Announcer
    answers: Answers
    keys: IdempotencyKeys
    owners: Owners
    background: Background
    limits: UploadLimits


class Forms:
    """Answers forms."""

    def __init__(self, parts: FormParts) -> None:
        self._parts = parts

    async def answer(self, form: FormUpload, chunks: AsyncIterator[bytes], gone: Gone, key: str | None) -> AnyOutcome:
        """What the form's medium shows, or that its task has started.

        Raises `Failure` as `FormIntake.receive`, `Answers` and `IdempotencyKeys.claim`; `RequestFailed` about a task.
        """
        note_task(form.task_id)
        with self._parts.background.attended():
            received = await self._parts.intake.receive(await self._under_a_free_id(form, key), chunks)
            try:
                outcome = await self._outcome_once(form, received, gone, key)
                if isinstance(outcome, TaskStarted):
                    # after its key is kept: the task starts, however late the broker is
                    wait_s = self._parts.limits.confirm_wait_s
                    await self._parts.announcer.assure_within(outcome.started.task_id, wait_s=wait_s)
                return outcome
            finally:
                if not self._parts.background.start(self._let_go(received)):  # as a rule nobody waits for it
                    await self._let_go(received)

    async def _under_a_free_id(self, form: FormUpload, key: str | None) -> FormUpload:
        """A form whose task is there already, perhaps by its key: whether it is the same one, its body tells elsewhere."""
        if key is None or not await asyncio.to_thread(self._parts.announcer.tasks.exists, form.task_id):
            return form
        return msgspec.structs.replace(form, task_id=str(uuid4()))

    async def _outcome_once(self, form: FormUpload, received: ReceivedForm, gone: Gone, key: str | None) -> AnyOutcome:
        """As `_outcome`, or what came of the same form before."""
        if key is None:
            return await self._outcome(form, received, gone)
        asked = await asyncio.to_thread(_fingerprint, form, received)
        return await once(self._parts.keys, key, asked, lambda: self._lasting_outcome(form, received, gone))

    async def _lasting_outcome(self, form: FormUpload, received: ReceivedForm, gone: Gone) -> AnyOutcome:
        """As `_outcome`; what is wrong with the medium itself is an outcome too."""
        if received.task_id != form.task_id:
            raise Failure(FailureCode.TASK_ID_IN_USE, f"task {form.task_id} exists, and not by this Idempotency-Key")
        try:
            return await self._outcome(form, received, gone)
        except (Failure, RequestFailed) as error:
            failure = error.failure if isinstance(error, RequestFailed) else error
            if failure.code not in LASTING:
                raise
            return Refused(
                code=failure.code,
                detail=failure.detail,
                task_id=error.task_id if isinstance(error, RequestFailed) else None,
            )

    async def _outcome(self, form: FormUpload, received: ReceivedForm, gone: Gone) -> AnyOutcome:
        """What the medium shows, or that its task is written down."""
        unknown_fields = received.read.unknown_fields
        belonging = await self._parts.owners.adopt(received.task_id, form.caller)
        is_quiet = not form.is_answered_later
        is_fleeting = is_quiet and received.kind is MediumKind.IMAGE and not belonging.is_posted
        if is_fleeting:
            seal = await asyncio.to_thread(received.body.finish, is_durable=False)
        else:
            seal = await self._kept(received, belonging)
        note_task(received.task_id, seal.media_id)
        command = self._command(form, received, seal, belonging)
        match command:
            case DetectVideo() if is_quiet:
                end = await self._parts.answers.video(command, gone)
                return VideoSeen(task_id=end.task_id, is_partial=end.is_partial, unknown_fields=unknown_fields)
            case DetectImage() if is_quiet:
                detections = await self._parts.answers.picture(command, gone)
                return PictureSeen(detections=detections, unknown_fields=unknown_fields)
            case _:
                await asyncio.to_thread(self._parts.announcer.tasks.create, command)
                started = Started(media_id=seal.media_id, task_id=command.task_id)
                return TaskStarted(started=started, unknown_fields=unknown_fields)

    async def _kept(self, received: ReceivedForm, belonging: Belonging) -> Seal:
        return await asyncio.to_thread(
            self._parts.uploads.seal,
            received.task_id,
            received.body,
            name=received.name,
            kind=received.kind,
            owner=belonging.owner,
        )

    def _command(self, form: FormUpload, received: ReceivedForm, seal: Seal, belonging: Belonging) -> AnyCommand:
        return COMMANDS[form.kind or TaskKind(received.kind.value)](
            task_id=received.task_id,
            medium=_medium(received, seal),
            options=received.read.options,
            is_quiet=not form.is_answered_later,
            owner=belonging.owner,
            is_posted=belonging.is_posted,
            created_at=self._parts.announcer.now(),
        )

    async def _let_go(self, received: ReceivedForm) -> None:
        if await asyncio.to_thread(self._let_go_now, received):
            FIRST_REPORTS.forget(received.task_id)

    def _let_go_now(self, received: ReceivedForm) -> bool:
        """Remove the upload, unless a task without an end still looks at it; then False."""
        received.body.end(ExtentState.ABORTED)
        tasks = self._parts.announcer.tasks
        is_needed = tasks.exists(received.task_id) and not tasks.last_event(received.task_id)
        if not is_needed:
            self._parts.uploads.discard(received.task_id)
        return not is_needed


def _medium(received: ReceivedForm, seal: Seal) -> Medium:
    return upload_medium(
        received.task_id, kind=received.kind, name=received.name, is_growing=False, media_id=seal.media_id
    )


def _fingerprint(form: FormUpload, received: ReceivedForm) -> str:
    """Equal for requests that ask for the same of the same file."""
    seal = received.body.finish(is_durable=False)
    asked = (received.name, received.read.options, form.is_answered_later, form.kind)
    return fingerprint(seal.digest, seal.size_bytes, *asked)
