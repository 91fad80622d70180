"""The file of one upload while it arrives, and the extent that tells its reader how far it has come. All of it blocks."""

import contextlib
import os
import threading
from collections.abc import Sequence
from pathlib import Path

import msgspec

from contracts.crashpoints import crashpoint
from contracts.failures import Failure, FailureCode
from contracts.storage import Extent, ExtentState, Seal, pack_extent, read_extent
from edge.clock import Clock, system_clock
from edge.disk import lock, storage_failures, write_all
from edge.hashing import Digest, content_hash, read_range

VECTORS_MAX = 64
"""Parts that one system call writes; more small ones are joined first (the kernel's own limit is 1,024)."""
CATCH_UP_BYTES = 8 * 1024 * 1024
"""Of what an earlier writer left, digested again beside each batch."""
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_THERE = os.O_RDWR | os.O_CLOEXEC


class UploadPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What an upload announced of itself."""

    total_bytes: int | None = None
    """None while unknown (a chunked upload)."""
    tail_bytes: int = 0
    """The last bytes of the file, sent before the rest."""
    resume_s: int = 0
    """How long the client may take to come back after a lost connection; 0: the upload is not resumable."""


class GrowingBody:
    """The file of one upload and the extent beside it, this process's alone while it is open.

    One thread at a time writes bytes; another may `beat` meanwhile, since a sync of the disk can take longer than a reader
    waits for a sign of life. An ended body takes no more.
    """

    def __init__(
        self,
        folder: Path,
        plan: UploadPlan,
        *,
        clock: Clock = system_clock,
        has_extent: bool = True,
        is_new: bool = True,
    ) -> None:
        """is_new: False to go on with what an earlier writer left. Raises `Failure(upload_busy)` while that one lives."""
        self.plan = plan
        self._clock = clock
        self._received = 0
        self._digested = 0
        """Bytes of the head that the digest knows; an earlier writer's are read again, little by little."""
        self._state = ExtentState.WRITING
        self._is_open = True
        self._digest = Digest()
        self._lock = threading.Lock()
        self._extent_lock = threading.Lock()
        self._body = _opened_alone(folder / "body", _NEW if is_new else _THERE)
        self._extent: int | None = None
        try:
            if has_extent:
                self._extent = os.open(folder / "extent", _NEW if is_new else _THERE, 0o640)
            if is_new:
                self._write_extent()
            else:
                self._take_over(read_extent(folder / "extent"))
        except BaseException:
            self._close(is_heard=False)
            raise

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
            crashpoint("edge.body.begun")
            self._write_head(parts)
            crashpoint("edge.body.written")
            self._write_extent()
            crashpoint("edge.body.told")

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
            os.ftruncate(self._body, self._received)  # a writer that died may have left more than it told of
            if is_durable:
                os.fsync(self._body)
            self._catch_up(self._received - self.plan.tail_bytes)
            digest = self._digest.copy()
            for part in read_range(self._body, offset=self._head_max(), size_bytes=self.plan.tail_bytes):
                digest.update(part)
            size_bytes = self._received
            media_id = content_hash(self._body, size_bytes=size_bytes)
            return Seal(media_id=media_id, size_bytes=size_bytes, digest=digest.hexdigest())

    def end(self, state: ExtentState) -> None:
        """The last word of the extent, and the end of writing. The second call does nothing."""
        with self._lock:
            if self._is_open:
                self._state = state
                self._close()

    def release(self, *, is_heard: bool = True) -> None:
        """Stop writing and let somebody go on with it. is_heard: the time in which they may come counts from now on."""
        with self._lock:
            if self._is_open:
                self._close(is_heard=is_heard)

    @property
    def is_sealed(self) -> bool:
        return self._state is ExtentState.SEALED

    def _take_over(self, extent: Extent) -> None:
        """Stand where the earlier writer stood: what the extent promises counts, and of an unfinished tail what was written."""
        self._state = extent.state
        self._received = extent.received_bytes
        if self.plan.tail_bytes and not extent.tail_bytes:
            written_bytes = os.fstat(self._body).st_size - self._head_max()
            self._received = min(max(0, written_bytes), self.plan.tail_bytes)

    def _close(self, *, is_heard: bool = True) -> None:
        self._is_open = False
        if is_heard:
            with contextlib.suppress(OSError):  # a disk that fails: the reader sees the heartbeat stop instead
                self._write_extent()
        with self._extent_lock:
            if self._extent is not None:
                os.close(self._extent)
                self._extent = None
        os.close(self._body)  # last: now another writer may have the extent, which a late `beat` must not touch

    def _missing_tail(self) -> int:
        """Bytes of the announced tail that have not arrived."""
        return max(0, self.plan.tail_bytes - self._received)

    def _write_tail(self, part: bytes, missing: int) -> bytes:
        """Write the beginning of `part` at the end of the file; returns what belongs to its start."""
        write_all(self._body, (part[:missing],), offset=self._head_max() + self._received)
        self._received += min(missing, len(part))
        return part[missing:]

    def _write_head(self, parts: Sequence[bytes]) -> None:
        write_all(self._body, parts, offset=self._received - self.plan.tail_bytes)
        for part in parts:
            if self._digested == self._received - self.plan.tail_bytes:
                self._digest.update(part)
                self._digested += len(part)
            self._received += len(part)
        self._catch_up(CATCH_UP_BYTES)

    def _catch_up(self, bytes_max: int) -> None:
        behind_bytes = min(bytes_max, self._received - self.plan.tail_bytes - self._digested)
        for part in read_range(self._body, offset=self._digested, size_bytes=behind_bytes):
            self._digest.update(part)
            self._digested += len(part)

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
            resume_s=self.plan.resume_s,
        )

    def _check_open(self) -> None:
        """A closed descriptor may be that of another upload by now."""
        if not self._is_open:
            raise Failure(FailureCode.UPLOAD_ABORTED, "the upload has ended")

    def _check_room(self, more_bytes: int) -> None:
        self._check_open()
        total_bytes = self.plan.total_bytes
        if total_bytes is not None and self._received + more_bytes > total_bytes:
            raise Failure(FailureCode.LENGTH_MISMATCH, f"more than the announced {total_bytes} bytes arrived")

    def _check_whole(self) -> None:
        self._check_open()
        if not self._received:
            raise Failure(FailureCode.EMPTY_MEDIA, "the body is empty")
        total_bytes = self.plan.total_bytes
        if total_bytes is not None and self._received != total_bytes:
            raise Failure(FailureCode.LENGTH_MISMATCH, f"{self._received} of the announced {total_bytes} bytes arrived")


def _opened_alone(path: Path, flags: int) -> int:
    descriptor = os.open(path, flags, 0o640)
    if not lock(descriptor):
        os.close(descriptor)
        raise Failure(FailureCode.UPLOAD_BUSY, "another connection sends this upload")
    return descriptor
