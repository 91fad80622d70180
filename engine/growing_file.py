"""The bytes of a medium, also while they are still arriving.

The edge writes `body` and says in `extent` how much of it counts. Everything here is driven by that record: which bytes
may be read, when to wait, and when the file has ended. The decoder is never asked whether a file is complete, because a
cut MKV or TS ends without an error.

A reader that must not go on returns no bytes, as at the end of a file, and remembers why: an exception raised inside a
read would have to cross FFmpeg, which drops some of them.
"""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from contracts.failures import Failure, FailureCode
from contracts.storage import Extent, ExtentState, read_extent
from engine.reading import read_whole_at

STARVING_POLL_S = 0.005
"""Measured within 4 ms of inotify, which does not see another host's writes (STACK.md 5)."""
IDLE_POLL_S = 0.050
IDLE_AFTER_S = 1.0
"""Seconds without a new byte after which the slower poll is enough."""
EXTENT_AGE_MAX_S = 0.25
"""A reader that does not starve looks this often whether the upload was aborted."""
WRITER_SILENT_MAX_S = 9.0
"""The writer's heartbeat changes at least every second; unchanged for this long, its process is gone, and the task ends within
10 s. A resumable upload has its `resume_s` on top of that."""
LOOK_GAP_MAX_S = 1.0
"""Of the time between two looks that counts as the writer's silence. In a longer gap this process stood still, and the writer,
on the same paused machine, perhaps too."""
PROMISED_WAIT_MAX_S = 10.0
"""How long bytes that the extent promises may be missing from the body (a network file system's cache)."""


class MediumFile(msgspec.Struct, frozen=True, kw_only=True):
    """Where the bytes lie; `extent` is None for a finished file."""

    path: Path
    extent: Path | None = None


class Time(msgspec.Struct, frozen=True, kw_only=True):
    """How time passes; a test brings its own."""

    now_s: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


REAL_TIME = Time()


class StoppedError(Exception):
    """The caller asked to stop, or the reader was closed; there is nothing to report about it."""


class GrowingFile:
    """Random access to a medium that may still be growing; a read waits for bytes that have not arrived.

    Used by one thread; `is_starving` and `total_bytes` may be looked at by others.
    """

    def __init__(self, medium: MediumFile, *, stop: threading.Event | None = None, passing: Time = REAL_TIME) -> None:
        """Open the file. Raises `Failure(medium_missing)` if it, or its extent, is not there."""
        self.is_starving = False
        self._stop = stop or threading.Event()
        self._now_s = passing.now_s
        self._sleep = passing.sleep
        self._failure: Failure | None = None
        self._looked_at_s = passing.now_s()
        self._silent_s = 0.0
        """What the writer's heartbeat has not changed."""
        try:
            self._file = medium.path.open("rb", buffering=0)
        except OSError as error:
            raise Failure(FailureCode.MEDIUM_MISSING, f"{medium.path.name}: {error.strerror}") from error
        self._path = medium.extent
        try:
            self._extent = self._read_extent()
        except Failure:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    @property
    def descriptor(self) -> int:
        """Of the open file."""
        return self._file.fileno()

    @property
    def extent(self) -> Extent:
        """What was there when it was last looked at."""
        return self._extent

    @property
    def total_bytes(self) -> int | None:
        """The length of the whole file, None while only the client knows it."""
        return self._extent.total_bytes

    @property
    def is_complete(self) -> bool:
        """True once every byte has arrived and the writer has said so."""
        return self._extent.state is ExtentState.SEALED

    @property
    def is_stopped(self) -> bool:
        """True once the caller has asked to stop."""
        return self._stop.is_set()

    @property
    def is_over(self) -> bool:
        """True if `raise_if_over` has a reason."""
        return self._failure is not None or self._stop.is_set()

    def glance(self) -> None:
        """Notice that an upload has gone wrong, also while every byte that is read arrived long ago."""
        if self._now_s() - self._looked_at_s > EXTENT_AGE_MAX_S:
            self._look()

    def raise_if_over(self) -> None:
        """Raise why no more bytes come: `StoppedError`, or a `Failure` of the upload. Returns if the file just ended."""
        if self._failure is not None:
            raise self._failure
        if self._stop.is_set():
            raise StoppedError

    def read_at(self, offset: int, count: int) -> bytes:
        """At least one byte and at most `count` at `offset`; none at the end, or when `raise_if_over` has a reason."""
        available = self._wait_for(offset)
        if available == 0:
            return b""
        return self._read_promised(offset, min(count, available))

    def read_whole_at(self, offset: int, count: int) -> bytes:
        """`count` bytes at `offset`; fewer only where `read_at` would give none."""
        return read_whole_at(self, offset, count)

    def wait_for_total(self) -> int | None:
        """The length of the whole file, waiting until it is known; None when `raise_if_over` has a reason."""
        while self._extent.total_bytes is None:
            if self._wait_for(self._extent.head_bytes) == 0:
                return None if self.is_over else self._extent.total_bytes
        return self._extent.total_bytes

    def wait_until_complete(self) -> None:
        """Return once the writer has said that every byte is there, or when `raise_if_over` has a reason."""
        while not self.is_complete and not self.is_over:
            self.is_starving = True
            self._sleep(STARVING_POLL_S)
            self._look()
        self.is_starving = False

    def _wait_for(self, offset: int) -> int:
        """Bytes that may be read at `offset`, waiting for the first of them; 0 at the end or when it is over."""
        self.glance()
        starving_since_s = self._now_s()
        while not self.is_over:
            available = readable_bytes(self._extent, offset)
            if available > 0 or is_behind_end(self._extent, offset):
                self.is_starving = False
                return available
            self.is_starving = True
            is_idle = self._now_s() - starving_since_s > IDLE_AFTER_S
            self._sleep(IDLE_POLL_S if is_idle else STARVING_POLL_S)
            self._look()
        self.is_starving = False
        return 0

    def _look(self) -> None:
        """Read the extent again; an upload that has gone wrong becomes the failure of this reader."""
        if self._path is None or self._extent.state is ExtentState.SEALED:
            return
        now_s = self._now_s()
        self._silent_s += min(now_s - self._looked_at_s, LOOK_GAP_MAX_S)
        self._looked_at_s = now_s
        before = self._extent
        try:
            self._extent = self._read_extent()
        except Failure as failure:
            self._failure = failure
            return
        if self._extent.state is ExtentState.ABORTED:
            self._failure = Failure(FailureCode.UPLOAD_ABORTED, "the client went away before the end of the upload")
        if self._extent != before:
            self._silent_s = 0.0
        elif self._silent_s > WRITER_SILENT_MAX_S + self._extent.resume_s:
            detail = f"the writer of the upload has been silent for {WRITER_SILENT_MAX_S + self._extent.resume_s:g} s"
            self._failure = Failure(FailureCode.UPLOAD_ABANDONED, detail)

    def _read_extent(self) -> Extent:
        if self._path is None:
            size = self._file.seek(0, 2)
            return Extent(head_bytes=size, total_bytes=size, state=ExtentState.SEALED)
        try:
            extent = read_extent(self._path)
        except (OSError, ValueError) as error:
            raise Failure(FailureCode.MEDIUM_MISSING, f"the upload's extent cannot be read: {error}") from error
        if extent.state is ExtentState.SEALED:
            return msgspec.structs.replace(extent, total_bytes=extent.total_bytes or extent.received_bytes)
        return extent

    def _read_promised(self, offset: int, count: int) -> bytes:
        """Bytes that the extent promises; another host may see the extent before it sees them."""
        deadline_s = self._now_s() + PROMISED_WAIT_MAX_S
        while not self._stop.is_set():
            try:
                content = os.pread(self.descriptor, count, offset)  # the position may be shared with another process
            except OSError as error:
                self._failure = Failure(FailureCode.MEDIUM_MISSING, f"byte {offset} cannot be read: {error.strerror}")
                break
            if content:
                return content
            if self._now_s() > deadline_s:
                detail = f"byte {offset} is promised by the extent and missing from the body"
                self._failure = Failure(FailureCode.MEDIUM_MISSING, detail)
                break
            self._sleep(IDLE_POLL_S)
        return b""


def readable_bytes(extent: Extent, offset: int) -> int:
    """How many bytes at `offset` have arrived: in the head, in the tail, none in the hole between them."""
    if extent.state is ExtentState.SEALED:
        return max((extent.total_bytes or 0) - offset, 0)
    if offset < extent.head_bytes:
        return extent.head_bytes - offset
    if extent.total_bytes is not None and offset >= extent.total_bytes - extent.tail_bytes:
        return max(extent.total_bytes - offset, 0)
    return 0


def is_behind_end(extent: Extent, offset: int) -> bool:
    """True if the file is known to end before."""
    return extent.total_bytes is not None and offset >= extent.total_bytes
