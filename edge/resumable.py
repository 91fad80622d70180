"""Uploads that a lost connection does not end: what each is of, where it stands, and who goes on with it. All of it blocks.

The state is in the storage, so any edge can go on, also after a crash: the record says what the upload is of, the extent how
far it has come. Whoever writes holds the body's lock, which the kernel gives back when its process dies: two writers never
meet, and no clock decides who is the one.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from contracts.commands import AnyCommand
from contracts.crashpoints import crashpoint
from contracts.events import TaskEnded
from contracts.failures import Failure, FailureCode
from contracts.storage import Extent, ExtentState, Layout, read_extent, read_record, replace_record
from edge.auth import Caller
from edge.clock import Clock, system_clock
from edge.disk import storage_failures
from edge.failures import OffsetMismatch
from edge.growing_body import GrowingBody, UploadPlan


class UploadRecord(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`uploads/<id>/upload.json`."""

    command: AnyCommand
    """What follows from the upload, ready to be published."""
    plan: UploadPlan


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """Where an upload stands."""

    offset_bytes: int
    is_complete: bool
    total_bytes: int | None


class Append(msgspec.Struct, frozen=True, kw_only=True):
    """What a client says of the next part of an upload."""

    caller: Caller
    offset_bytes: int
    is_rest: bool
    length_bytes: int | None
    """Of the part, None for a chunked body."""
    total_bytes: int | None
    """Of the whole upload, if the client says so here."""

    def applied_to(self, record: UploadRecord) -> UploadRecord:
        """The record, with the length that this part tells. Raises `Failure(upload_length_inconsistent)`."""
        end_bytes = None if self.length_bytes is None else self.offset_bytes + self.length_bytes
        said = (record.plan.total_bytes, self.total_bytes, end_bytes if self.is_rest else None)
        told = sorted({told_bytes for told_bytes in said if told_bytes is not None})
        total_bytes = told[0] if told else None
        least_bytes = max(end_bytes or 0, 0 if self.total_bytes is None else self.offset_bytes)
        if len(told) > 1 or (total_bytes is not None and least_bytes > total_bytes):
            detail = f"the upload has {' or '.join(map(str, told))} bytes, and this part would end at byte {end_bytes}"
            raise Failure(FailureCode.UPLOAD_LENGTH_INCONSISTENT, detail)
        return msgspec.structs.replace(record, plan=msgspec.structs.replace(record.plan, total_bytes=total_bytes))


class ResumableUploads:
    """The uploads below one storage that have a record."""

    def __init__(self, layout: Layout, *, clock: Clock = system_clock) -> None:
        self._layout = layout
        self._clock = clock

    def record(self, task_id: str) -> UploadRecord:
        """Raises `Failure(upload_not_found)`."""
        record = read_record(self._layout.upload_record(task_id), UploadRecord)
        if record is None:
            raise no_upload(task_id)
        return record

    def standing(self, record: UploadRecord) -> Standing:
        """Where it stands while nobody writes; nobody does when this returns.

        Raises `Failure`: `upload_gone`, `upload_busy` while somebody writes.
        """
        task_id = record.command.task_id
        extent = self._extent(task_id)
        if extent.state is not ExtentState.SEALED:
            self._check_alive(task_id, extent)
            body = self._open(record)
            body.release(is_heard=False)
            crashpoint("edge.resumable.asked")
            if not body.is_sealed:
                offset_bytes, total_bytes = body.received_bytes, record.plan.total_bytes
                return Standing(offset_bytes=offset_bytes, is_complete=False, total_bytes=total_bytes)
            extent = self._extent(task_id)  # it was sealed between the two looks
        return Standing(offset_bytes=extent.received_bytes, is_complete=True, total_bytes=extent.received_bytes)

    def reopen(self, record: UploadRecord, *, offset_bytes: int) -> GrowingBody:
        """The body, to go on at its end. record: with the length, if the client has said it only now.

        Raises `Failure`: `upload_gone`, `upload_completed`, `upload_busy`; `OffsetMismatch`.
        """
        task_id = record.command.task_id
        body = self._open(record)
        try:
            self._check_place(task_id, stands_at=body.received_bytes, offset_bytes=offset_bytes)
            with storage_failures():
                replace_record(self._layout.upload_record(task_id), record)
            crashpoint("edge.resumable.reopened")
            self._asked_back(task_id).unlink(missing_ok=True)
        except BaseException:
            body.release(is_heard=False)
            raise
        return body

    def ask_back(self, task_id: str) -> None:
        """Tell whoever writes to stop: the client has asked where the upload stands, so that connection is dead to it."""
        with contextlib.suppress(FileNotFoundError):
            os.close(os.open(self._asked_back(task_id), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o640))
            crashpoint("edge.resumable.asked-back")

    def is_asked_back(self, task_id: str) -> bool:
        return self._asked_back(task_id).exists()

    def overdue(self) -> Iterator[UploadRecord]:
        """Uploads whose client has not come back in time."""
        with contextlib.suppress(FileNotFoundError):
            for folder in self._layout.uploads.glob("[!.]*"):  # others are only being built
                # one must not hold up others
                with contextlib.suppress(OSError, ValueError, msgspec.DecodeError, Failure):
                    record = self.record(folder.name)
                    if self._is_overdue(record):
                        yield record

    def reclaim(self, record: UploadRecord) -> GrowingBody | None:
        """The body of an overdue upload, to be ended; None if its client has come back meanwhile."""
        try:
            body = self._open(record)
        except Failure:
            return None
        if self._is_overdue(record):
            crashpoint("edge.resumable.reclaimed")
            return body
        body.release(is_heard=False)
        return None

    def _is_overdue(self, record: UploadRecord) -> bool:
        extent = self._extent(record.command.task_id)
        silent_s = self._clock().timestamp() - extent.heartbeat_s
        return extent.state is ExtentState.WRITING and silent_s > record.plan.resume_s

    def _open(self, record: UploadRecord) -> GrowingBody:
        folder = self._layout.body(record.command.task_id).parent
        try:
            return GrowingBody(folder, record.plan, clock=self._clock, is_new=False)
        except FileNotFoundError as error:
            raise no_upload(record.command.task_id) from error

    def _extent(self, task_id: str) -> Extent:
        try:
            return read_extent(self._layout.extent(task_id))
        except FileNotFoundError as error:
            raise no_upload(task_id) from error

    def _check_place(self, task_id: str, *, stands_at: int, offset_bytes: int) -> None:
        """Asked of an upload that is ours alone: nobody changes it any more."""
        extent = self._extent(task_id)
        if extent.state is ExtentState.SEALED:
            raise Failure(FailureCode.UPLOAD_COMPLETED, "the upload is complete")
        self._check_alive(task_id, extent)
        if stands_at != offset_bytes:
            raise OffsetMismatch(expected=stands_at, provided=offset_bytes)

    def _check_alive(self, task_id: str, extent: Extent) -> None:
        end = read_record(self._layout.end(task_id), TaskEnded)
        if end is not None or extent.state is ExtentState.ABORTED:
            why = end.failure.code if end and end.failure else FailureCode.UPLOAD_ABORTED
            raise Failure(FailureCode.UPLOAD_GONE, f"the upload has ended: {why}")

    def _asked_back(self, task_id: str) -> Path:
        return self._layout.upload_record(task_id).with_name("asked-back")


def no_upload(task_id: str) -> Failure:
    """What is said of an upload that cannot be resumed, or not by whoever asks."""
    return Failure(FailureCode.UPLOAD_NOT_FOUND, f"there is no upload {task_id} to go on with")
