"""Uploads on the shared disk: written while they arrive, sealed when they are whole, kept under the hash of their content.

Everything here blocks and is called from a worker thread, never from the event loop: a slow or hung disk delays its own
upload and nobody else.
"""

import contextlib
import errno
import os
import secrets
import shutil
import threading
from collections.abc import Callable, Generator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from contracts.failures import Failure, FailureCode
from contracts.media import MediumKind
from contracts.storage import (
    Extent,
    ExtentState,
    Layout,
    MediaRecord,
    Seal,
    create_record,
    pack_extent,
    read_record,
    replace_record,
)
from edge.hashing import Digest, content_hash, read_range

VECTORS_MAX = 64
"""Parts that one system call writes; more small ones are joined first (the kernel's own limit is 1,024)."""
NAMES_MAX = 3
"""Ids that are tried for one content: the hash, with 8 digits of the digest, with all of it."""

_FULL = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
_TAKEN = frozenset((errno.EEXIST, errno.ENOTEMPTY))

Clock = Callable[[], datetime]


class UploadPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What an upload announced of itself."""

    total_bytes: int | None = None
    """None while unknown (a chunked upload)."""
    tail_bytes: int = 0
    """The last bytes of the file, sent before the rest."""


def system_clock() -> datetime:
    return datetime.now(UTC)


class GrowingBody:
    """The file of one upload and the extent beside it.

    One thread at a time writes bytes; another may `beat` meanwhile, since a sync of the disk can take longer than a reader
    waits for a sign of life. An ended body takes no more.
    """

    def __init__(self, folder: Path, plan: UploadPlan, *, clock: Clock = system_clock, has_extent: bool = True) -> None:
        self.plan = plan
        self._clock = clock
        self._received = 0
        self._state = ExtentState.WRITING
        self._digest = Digest()
        self._lock = threading.Lock()
        self._extent_lock = threading.Lock()
        self._body = os.open(folder / "body", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        self._extent: int | None = None
        if has_extent:
            self._extent = os.open(folder / "extent", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
            self._write_extent()

    @property
    def received_bytes(self) -> int:
        return self._received

    def append(self, parts: Sequence[bytes]) -> None:
        """Write what arrived next, and tell the reader.

        Raises `Failure`: `length_mismatch` if it is more than was announced, `storage_full`.
        """
        with self._lock, storage_failures():
            size_bytes = sum(map(len, parts))
            self._check_room(size_bytes)
            if self._missing_tail() or len(parts) > VECTORS_MAX:
                parts = (b"".join(parts),)
            if missing := self._missing_tail():
                parts = (self._write_tail(parts[0], missing),)
            self._write_head(parts)
            self._write_extent()

    def beat(self) -> None:
        """Tell the reader that the writer lives, also while nothing arrives."""
        with storage_failures():
            self._write_extent()

    def finish(self, *, is_durable: bool = True) -> Seal:
        """What the whole file is; `media_id` is its content hash. The extent still says that it is being written.

        Raises `Failure`: `empty_media`, `length_mismatch` if bytes are missing, `storage_full`.
        """
        with self._lock, storage_failures():
            self._check_whole()
            if is_durable:
                os.fsync(self._body)
            digest = self._digest.copy()
            for part in read_range(self._body, offset=self._head_max(), size_bytes=self.plan.tail_bytes):
                digest.update(part)
            size_bytes = self._received
            media_id = content_hash(self._body, size_bytes=size_bytes)
            return Seal(media_id=media_id, size_bytes=size_bytes, digest=digest.hexdigest())

    def end(self, state: ExtentState) -> None:
        """The last word of the extent, and the end of writing. The second call does nothing."""
        with self._lock:
            if self._state is not ExtentState.WRITING:
                return
            self._state = state
            with contextlib.suppress(OSError):  # a disk that fails: the reader sees the heartbeat stop instead
                self._write_extent()
            os.close(self._body)
            with self._extent_lock:
                if self._extent is not None:
                    os.close(self._extent)
                    self._extent = None

    @property
    def is_sealed(self) -> bool:
        return self._state is ExtentState.SEALED

    def _missing_tail(self) -> int:
        """Bytes of the announced tail that have not arrived."""
        return max(0, self.plan.tail_bytes - self._received)

    def _write_tail(self, part: bytes, missing: int) -> bytes:
        """Write the beginning of `part` at the end of the file; returns what belongs to its start."""
        _write_all(self._body, (part[:missing],), offset=self._head_max() + self._received)
        self._received += min(missing, len(part))
        return part[missing:]

    def _write_head(self, parts: Sequence[bytes]) -> None:
        _write_all(self._body, parts, offset=self._received - self.plan.tail_bytes)
        for part in parts:
            self._digest.update(part)
            self._received += len(part)

    def _head_max(self) -> int:
        """Where the announced tail begins."""
        return (self.plan.total_bytes or 0) - self.plan.tail_bytes if self.plan.tail_bytes else self._received

    def _write_extent(self) -> None:
        with self._extent_lock:
            if self._extent is not None:
                os.pwrite(self._extent, pack_extent(self._now()), 0)

    def _now(self) -> Extent:
        has_tail = self._received >= self.plan.tail_bytes  # half a tail does not reach up to the end of the file
        return Extent(
            head_bytes=max(0, self._received - self.plan.tail_bytes),
            tail_bytes=self.plan.tail_bytes if has_tail else 0,
            total_bytes=self._received if self._state is ExtentState.SEALED else self.plan.total_bytes,
            state=self._state,
            heartbeat_s=self._clock().timestamp(),
        )

    def _check_room(self, more_bytes: int) -> None:
        if self._state is not ExtentState.WRITING:
            raise Failure(FailureCode.UPLOAD_ABORTED, "the upload has ended")
        total_bytes = self.plan.total_bytes
        if total_bytes is not None and self._received + more_bytes > total_bytes:
            raise Failure(FailureCode.LENGTH_MISMATCH, f"more than the announced {total_bytes} bytes arrived")

    def _check_whole(self) -> None:
        if not self._received:
            raise Failure(FailureCode.EMPTY_MEDIA, "the body is empty")
        total_bytes = self.plan.total_bytes
        if total_bytes is not None and self._received != total_bytes:
            raise Failure(FailureCode.LENGTH_MISMATCH, f"{self._received} of the announced {total_bytes} bytes arrived")


class UploadStore:
    """The folders `uploads` and `media`."""

    def __init__(
        self, layout: Layout, *, free_bytes_min: int = 0, keep_for: timedelta, clock: Clock = system_clock
    ) -> None:
        self.layout = layout
        self._free_bytes_min = free_bytes_min
        self._keep_for = keep_for
        self._clock = clock

    def begin(self, task_id: str, plan: UploadPlan, *, has_extent: bool = True) -> GrowingBody:
        """An empty body for this task.

        Raises `Failure`: `task_id_in_use` if the task exists or is being uploaded, `storage_full`.
        """
        self.check_free(more_bytes=plan.total_bytes or 0)
        folder = self.layout.body(task_id).parent
        with storage_failures():
            self.layout.uploads.mkdir(parents=True, exist_ok=True)
            try:
                folder.mkdir()  # exclusive among all edges
            except FileExistsError as error:
                raise Failure(FailureCode.TASK_ID_IN_USE, f"task {task_id} exists") from error
            if self.layout.task(task_id).exists():
                folder.rmdir()
                raise Failure(FailureCode.TASK_ID_IN_USE, f"task {task_id} exists")
            return GrowingBody(folder, plan, clock=self._clock, has_extent=has_extent)

    def check_free(self, *, more_bytes: int = 0) -> None:
        """Raises `Failure(storage_full)` if less than the floor would stay free."""
        with storage_failures():
            self.layout.root.mkdir(parents=True, exist_ok=True)
            free_bytes = shutil.disk_usage(self.layout.root).free
        if free_bytes - more_bytes < self._free_bytes_min:
            raise Failure(
                FailureCode.STORAGE_FULL, f"{free_bytes} bytes are free, {self._free_bytes_min} are kept free"
            )

    def seal(self, task_id: str, body: GrowingBody, *, name: str, kind: MediumKind) -> Seal:
        """Make the file durable, keep it as a medium, and only then tell the reader that it is whole.

        The seal's media id is where the medium lies. Raises `Failure` as `GrowingBody.finish`.
        """
        finished = body.finish()
        with storage_failures():
            seal = msgspec.structs.replace(finished, media_id=self._keep(task_id, finished, name=name, kind=kind))
            create_record(self.layout.seal(task_id), seal)
        body.end(ExtentState.SEALED)
        return seal

    def discard(self, task_id: str) -> None:
        """Remove an upload; a medium that was kept of it stays."""
        shutil.rmtree(self.layout.body(task_id).parent, ignore_errors=True)

    def _keep(self, task_id: str, seal: Seal, *, name: str, kind: MediumKind) -> str:
        """The id under which exactly this content lies: no file replaces another."""
        for media_id in _names(seal):
            if self._keep_as(media_id, task_id, seal, name=name, kind=kind):
                return media_id
        raise Failure(FailureCode.INTERNAL, f"{NAMES_MAX} other files have the hash and digest of this one")

    def _keep_as(self, media_id: str, task_id: str, seal: Seal, *, name: str, kind: MediumKind) -> bool:
        """True if the content lies at `media_id` afterwards, False if another one does."""
        now = self._clock()
        record = MediaRecord(
            media_id=media_id,
            name=name,
            kind=kind,
            size_bytes=seal.size_bytes,
            digest=seal.digest,
            created_at=now,
            expires_at=now + self._keep_for,
        )
        there = read_record(self.layout.media_record(media_id), MediaRecord)
        if there is None and self._move_in(record, task_id):
            return True
        there = there or read_record(self.layout.media_record(media_id), MediaRecord)
        if there is None or there.digest != seal.digest or there.size_bytes != seal.size_bytes:
            return False
        if there.expires_at is not None:
            replace_record(
                self.layout.media_record(media_id), msgspec.structs.replace(record, created_at=there.created_at)
            )
        return True

    def _move_in(self, record: MediaRecord, task_id: str) -> bool:
        """Build the medium's folder aside and rename it: it appears whole, or not at all if another was faster."""
        aside = self.layout.media / f".{record.media_id}.{secrets.token_hex(6)}"
        aside.mkdir(parents=True)
        os.link(self.layout.body(task_id), aside / "source")
        create_record(aside / "media.json", record)
        try:
            aside.rename(self.layout.medium(record.media_id))
        except OSError as error:
            shutil.rmtree(aside, ignore_errors=True)
            if error.errno in _TAKEN:
                return False
            raise
        return True


@contextlib.contextmanager
def storage_failures() -> Generator[None, None, None]:
    """A disk that is full becomes `Failure(storage_full)`."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise Failure(FailureCode.STORAGE_FULL, f"the storage is full: {error.strerror}") from error
        raise


def _names(seal: Seal) -> tuple[str, ...]:
    return (seal.media_id, f"{seal.media_id}-{seal.digest[:8]}", f"{seal.media_id}-{seal.digest}")


def _write_all(descriptor: int, parts: Sequence[bytes], *, offset: int) -> None:
    """Write all parts one after the other from `offset` on, in as few calls as the kernel allows."""
    views = [memoryview(part) for part in parts if part]
    while views:
        written = os.pwritev(descriptor, views, offset)
        offset += written
        while views and written >= len(views[0]):
            written -= len(views.pop(0))
        if written:
            views[0] = views[0][written:]
