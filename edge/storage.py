"""Uploads on the shared disk: written while they arrive, sealed when they are whole, kept under the hash of their content.

Everything here blocks and is called from a worker thread, never from the event loop: a slow or hung disk delays its own
upload and nobody else.
"""

import contextlib
import errno
import os
import secrets
import shutil
from datetime import timedelta
from pathlib import Path

import msgspec

from contracts.crashpoints import crashpoint
from contracts.failures import Failure, FailureCode
from contracts.media import MediumKind
from contracts.storage import (
    ExtentState,
    Layout,
    MediaRecord,
    Seal,
    create_record,
    read_record,
    replace_record,
)
from edge.clock import Clock, system_clock
from edge.disk import check_free, storage_failures
from edge.growing_body import GrowingBody, UploadPlan
from edge.quota import Quota
from edge.resumable import ResumableUploads, UploadRecord

NAMES_MAX = 3
"""Ids that are tried for one content: the hash, with 8 digits of the digest, with all of it."""
KEEP_TRIES_MAX = 3
"""Looks at a medium that others bring in and the janitor takes away at the same moment."""

_TAKEN = frozenset((errno.EEXIST, errno.ENOTEMPTY))


class UploadStore:
    """The folders `uploads` and `media`."""

    def __init__(
        self,
        layout: Layout,
        *,
        free_bytes_min: int = 0,
        keep_for: timedelta,
        each_client_max: int = 256,
        clock: Clock = system_clock,
    ) -> None:
        self.layout = layout
        self.quota = Quota(each_max=each_client_max, what="uploads of one client")
        self.resumable = ResumableUploads(layout, clock=clock)
        self._free_bytes_min = free_bytes_min
        self._keep_for = keep_for
        self._clock = clock

    def begin(
        self, task_id: str, plan: UploadPlan, *, record: UploadRecord | None = None, has_extent: bool = True
    ) -> GrowingBody:
        """An empty body for this task.

        record: what others go on with the upload by; it is there as soon as the upload is, wherever we die.
        Raises `Failure`: `task_id_in_use` if the task exists or is being uploaded, `storage_full`.
        """
        self.check_free(more_bytes=plan.total_bytes or 0)
        aside = self.layout.uploads / f".{task_id}.{secrets.token_hex(6)}"
        with storage_failures(), contextlib.ExitStack() as undone:
            aside.mkdir(parents=True)
            undone.callback(shutil.rmtree, aside, ignore_errors=True)
            crashpoint("edge.upload.folder-made")
            body = GrowingBody(aside, plan, clock=self._clock, has_extent=has_extent)
            undone.callback(body.end, ExtentState.ABORTED)
            if record is not None:
                create_record(aside / self.layout.upload_record(task_id).name, record)
            self._take_id(task_id, aside)
            undone.pop_all()
        crashpoint("edge.upload.begun")
        return body

    def _take_id(self, task_id: str, aside: Path) -> None:
        """Show the upload that was built aside. Raises `Failure(task_id_in_use)`."""
        in_use = Failure(FailureCode.TASK_ID_IN_USE, f"task {task_id} exists")
        try:
            aside.rename(self.layout.body(task_id).parent)  # exclusive among all edges
        except OSError as error:
            if error.errno in _TAKEN:
                raise in_use from error
            raise
        if self.layout.task(task_id).exists():
            self.discard(task_id)
            raise in_use

    def check_free(self, *, more_bytes: int = 0) -> None:
        """Raises `Failure(storage_full)` if less than the floor would stay free."""
        with storage_failures():
            self.layout.root.mkdir(parents=True, exist_ok=True)
            check_free(self.layout.root, more_bytes=more_bytes, free_bytes_min=self._free_bytes_min)

    def seal(self, task_id: str, body: GrowingBody, *, name: str, kind: MediumKind, owner: str | None = None) -> Seal:
        """Make the file durable, keep it as a medium, and only then tell the reader that it is whole.

        owner: whose it is; what nobody owns is kept for a while.
        The seal's media id is where the medium lies. Raises `Failure` as `GrowingBody.finish`.
        """
        crashpoint("edge.seal.begun")
        finished = body.finish()
        crashpoint("edge.seal.synced")
        with storage_failures():
            seal = msgspec.structs.replace(
                finished, media_id=self._keep(task_id, self._record(finished, name, kind, owner))
            )
            crashpoint("edge.seal.kept")
            create_record(self.layout.seal(task_id), seal)
        crashpoint("edge.seal.recorded")
        body.end(ExtentState.SEALED)
        crashpoint("edge.seal.told")
        return seal

    def discard(self, task_id: str) -> None:
        """Remove an upload; a medium that was kept of it stays."""
        shutil.rmtree(self.layout.body(task_id).parent, ignore_errors=True)

    def _record(self, seal: Seal, name: str, kind: MediumKind, owner: str | None) -> MediaRecord:
        now = self._clock()
        return MediaRecord(
            media_id=seal.media_id,
            name=name,
            kind=kind,
            size_bytes=seal.size_bytes,
            digest=seal.digest,
            created_at=now,
            owner=owner,
            expires_at=None if owner else now + self._keep_for,
        )

    def _keep(self, task_id: str, record: MediaRecord) -> str:
        """The id under which exactly this content lies: no file replaces another."""
        for media_id in _names(record):
            if self._keep_as(msgspec.structs.replace(record, media_id=media_id), task_id):
                return media_id
        raise Failure(FailureCode.INTERNAL, f"{NAMES_MAX} other files have the hash and digest of this one")

    def _keep_as(self, record: MediaRecord, task_id: str) -> bool:
        """True if the content lies at the record's id afterwards, False if another one does."""
        path = self.layout.media_record(record.media_id)
        for _ in range(KEEP_TRIES_MAX):
            there = read_record(path, MediaRecord)
            if there is None:
                if self._move_in(record, task_id):
                    return True
                continue  # another was faster
            if there.digest != record.digest or there.size_bytes != record.size_bytes:
                return False
            if there.expires_at is None:
                return True
            with contextlib.suppress(FileNotFoundError):  # the janitor has just taken the medium away
                renewed = msgspec.structs.replace(record, created_at=there.created_at)
                replace_record(path, renewed, makes_folder=False)
                return True
        return False

    def _move_in(self, record: MediaRecord, task_id: str) -> bool:
        """Build the medium's folder aside and rename it: it appears whole, or not at all if another was faster."""
        aside = self.layout.media / f".{record.media_id}.{secrets.token_hex(6)}"
        aside.mkdir(parents=True)
        try:
            os.link(self.layout.body(task_id), aside / "source")
            crashpoint("edge.medium.linked")
            create_record(aside / "media.json", record)
            crashpoint("edge.medium.recorded")
            aside.rename(self.layout.medium(record.media_id))
        except OSError as error:
            shutil.rmtree(aside, ignore_errors=True)  # its link would hold the room of an upload that failed
            if error.errno in _TAKEN:
                return False
            raise
        crashpoint("edge.medium.moved-in")
        return True


def _names(record: MediaRecord) -> tuple[str, ...]:
    return (record.media_id, f"{record.media_id}-{record.digest[:8]}", f"{record.media_id}-{record.digest}")
