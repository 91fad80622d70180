"""The file of one upload while it arrives, and the extent that tells its reader how far it has come. All of it blocks."""

import contextlib
import os
import threading
from collections.abc import Sequence
from pathlib import Path

import msgspec

from contracts.crashpoints import crashpoint
from contracts.failures import Failure, FailureCode
from contracts.storage import Extent, ExtentState, Seal, pack_extent
from edge.clock import Clock, system_clock
from edge.disk import storage_failures, write_all
from edge.hashing import Digest, content_hash, read_range

VECTORS_MAX = 64
"""Parts that one system call writes; more small ones are joined first (the kernel's own limit is 1,024)."""


class UploadPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What an upload announced of itself."""

    total_bytes: int | None = None
    """None while unknown (a chunked upload)."""
    tail_bytes: int = 0
    """The last bytes of the file, sent before the rest."""


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
        write_all(self._body, (part[:missing],), offset=self._head_max() + self._received)
        self._received += min(missing, len(part))
        return part[missing:]

    def _write_head(self, parts: Sequence[bytes]) -> None:
        write_all(self._body, parts, offset=self._received - self.plan.tail_bytes)
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
