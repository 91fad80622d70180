"""One form on its way in: its file goes to the disk as it arrives, and is refused as soon as it can be."""

import asyncio
from collections.abc import AsyncIterator
from typing import NoReturn

import msgspec

from contracts.commands import TaskKind
from contracts.failures import Failure, FailureCode
from contracts.media import MediumKind, kind_by_extension
from contracts.options import ReadOptions, read_options
from contracts.storage import ExtentState
from edge.auth import Caller
from edge.first_reports import FIRST_REPORTS
from edge.growing_body import GrowingBody, UploadPlan
from edge.multipart import ConfigRead, FileBegan, FileEnded, FilePart, FormParser
from edge.ports import ConsumersSeen
from edge.racing import first_of
from edge.sniffing import SNIFFED_BYTES, kind_by_content
from edge.storage import UploadStore
from edge.upload import Inflow, UploadLimits, bounded, check_announced, store

DISK_LOOK_S = 1.0
"""How often a form on its way in looks whether the disk fills up."""


class FormUpload(msgspec.Struct, frozen=True, kw_only=True):
    """What a client says of the form it is about to send."""

    task_id: str
    content_type: str | None
    content_length: int | None
    caller: Caller = Caller()
    is_answered_later: bool = False
    """True: nobody waits for the detections, so no consumer need be there yet."""
    kind: TaskKind | None = None
    """What is to be done with the file; None: its objects are looked for, whether it is a picture or a video."""


class ReceivedForm(msgspec.Struct, frozen=True, kw_only=True):
    """A form whose file lies whole in its upload's folder, still open."""

    task_id: str
    name: str
    kind: MediumKind
    read: ReadOptions
    body: GrowingBody


class FormIntake:
    """Takes forms in."""

    def __init__(self, *, uploads: UploadStore, presence: ConsumersSeen, limits: UploadLimits) -> None:
        self._uploads = uploads
        self._presence = presence
        self._limits = limits

    async def receive(self, form: FormUpload, chunks: AsyncIterator[bytes]) -> ReceivedForm:
        """The whole form; whoever gets it ends its body and lets go of the upload.

        Raises `Failure`: `malformed_request`, `malformed_options`, `options_out_of_range`, `unsupported_content_type`,
        `unsupported_media`, `empty_media`, `too_large`, `upload_*`, `too_many_requests`, `storage_full`, and
        `engine_unavailable` if nobody is there to look at the file.
        """
        reading = _Reading(form, self._presence)
        check_announced(form.content_length, self._limits)
        self._uploads.quota.check(form.caller.client)
        with self._uploads.quota.counted(form.caller.client):
            body = await asyncio.to_thread(self._begin, form)
            FIRST_REPORTS.begin(form.task_id)
            try:
                storing = store(reading.file(bounded(chunks, self._limits)), Inflow(body))
                await first_of(storing, self._watch_disk())
            except BaseException:
                FIRST_REPORTS.forget(form.task_id)
                await asyncio.shield(asyncio.to_thread(self._discard, form.task_id, body))
                raise
        return reading.received(body)

    def _begin(self, form: FormUpload) -> GrowingBody:
        self._uploads.check_free(more_bytes=form.content_length or 0)
        return self._uploads.begin(form.task_id, UploadPlan(), has_extent=False)

    async def _watch_disk(self) -> NoReturn:
        """Raises `Failure(storage_full)` when the form, or anything else, takes what is to stay free."""
        while True:
            await asyncio.sleep(DISK_LOOK_S)
            await asyncio.to_thread(self._uploads.check_free)

    def _discard(self, task_id: str, body: GrowingBody) -> None:
        body.end(ExtentState.ABORTED)
        self._uploads.discard(task_id)


class _Reading:
    """What has been understood of a form so far."""

    def __init__(self, form: FormUpload, presence: ConsumersSeen) -> None:
        self._form = form
        self._presence = presence
        self._parser = FormParser(form.content_type)
        self._name: str | None = None
        self._kind: MediumKind | None = None
        self._read = read_options(None)

    async def file(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The bytes of the form's file. Raises `Failure` as `FormIntake.receive`, as early as the bytes allow."""
        head = b""  # until enough of the file is there to tell what it is
        async for chunk in chunks:
            for event in self._parser.feed(chunk):
                match event:
                    case FileBegan(name=name):
                        self._name = name
                    case FilePart(content=content) if self._kind is None:
                        head += content
                        if len(head) >= SNIFFED_BYTES:
                            yield self._recognised(head)
                    case FilePart(content=content):
                        yield content
                    case FileEnded() if self._kind is None:
                        yield self._recognised(head)
                    case FileEnded():
                        pass
                    case ConfigRead(text=text):
                        self._read = read_options(text)
        self._parser.close()

    def received(self, body: GrowingBody) -> ReceivedForm:
        """The whole form, after `file` has come to its end."""
        assert self._kind is not None  # noqa: S101 - the parser does not close a form without a file
        return ReceivedForm(
            task_id=self._form.task_id,
            name=self._name or self._kind.value,
            kind=self._kind,
            read=self._read,
            body=body,
        )

    def _recognised(self, head: bytes) -> bytes:
        if not head:
            raise Failure(FailureCode.EMPTY_MEDIA, "the file is empty")
        by_content = kind_by_content(head)
        if by_content is None:
            raise Failure(FailureCode.UNSUPPORTED_MEDIA, "the file begins like no image or video format that is known")
        if not self._form.is_answered_later and not self._presence.has_live_consumer():
            raise Failure(FailureCode.ENGINE_UNAVAILABLE, "no consumer is there to look at it")
        self._kind = kind_by_extension(self._name or "") or by_content
        if self._form.kind is TaskKind.SHOTS and self._kind is not MediumKind.VIDEO:
            raise Failure(FailureCode.UNSUPPORTED_MEDIA, "shots are looked for in videos, this is an image")
        return head
