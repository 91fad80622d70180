"""What lies on the shared disk, and how it is written: once, replaced whole, appended, or (an extent) rewritten in place.

Storage is the database, so there is none to run. Every path is built here and every name is ours: a client's file name is
data. Two processes agree through two operations of the file system that are atomic: creating a file exclusively, and
renaming one over another.
"""

import struct
import time
import zlib
from datetime import datetime
from enum import IntEnum
from pathlib import Path
from typing import TypeVar

import msgspec

from contracts.commands import AnyCommand
from contracts.failures import NOT_READ
from contracts.media import Medium, MediumKind
from contracts.trace_context import TraceContext
from contracts.whole_files import create_file, replace_file

_Record = TypeVar("_Record")


class ExtentState(IntEnum):
    WRITING = 0
    SEALED = 1
    ABORTED = 2


class Extent(msgspec.Struct, frozen=True, kw_only=True):
    """How much of a growing file has arrived: `head_bytes` from its start, `tail_bytes` up to its end."""

    head_bytes: int = 0
    tail_bytes: int = 0
    total_bytes: int | None = None
    """None while the length is unknown (a chunked upload)."""
    state: ExtentState = ExtentState.WRITING
    heartbeat_s: float = 0.0
    """Unix time of the writer; a reader only looks whether it changes, so clocks need not agree."""
    resume_s: int = 0
    """How long a writer that has fallen silent may take to come back; 0: it will not, its silence is the end."""

    @property
    def received_bytes(self) -> int:
        return self.head_bytes + self.tail_bytes


EXTENT_BYTES = 48
_EXTENT = struct.Struct("<QQqdIIII")  # head, tail, total (-1 unknown), heartbeat, state, magic, crc32 of these, resume
_CHECKED_BYTES = 40  # `resume_s` never changes, so no rewrite can tear it, and it lies where older writers left zeros
_EXTENT_MAGIC = 0x31545845  # "EXT1"
_EXTENT_READS_MAX = 100
"""Reads of an extent whose checksum does not match before it counts as broken: a rewrite takes microseconds."""


def pack_extent(extent: Extent) -> bytes:
    """`EXTENT_BYTES` bytes with a checksum of all that is ever rewritten."""
    total = -1 if extent.total_bytes is None else extent.total_bytes
    checked = _EXTENT.pack(
        extent.head_bytes, extent.tail_bytes, total, extent.heartbeat_s, extent.state, _EXTENT_MAGIC, 0, 0
    )[:_CHECKED_BYTES]
    return checked + zlib.crc32(checked).to_bytes(4, "little") + extent.resume_s.to_bytes(4, "little")


def unpack_extent(packed: bytes) -> Extent | None:
    """The extent, or None if the bytes were caught in the middle of being rewritten."""
    if len(packed) < EXTENT_BYTES:
        return None
    head, tail, total, heartbeat, state, magic, checksum, resume_s = _EXTENT.unpack(packed[:EXTENT_BYTES])
    if magic != _EXTENT_MAGIC or checksum != zlib.crc32(packed[:_CHECKED_BYTES]):
        return None
    return Extent(
        head_bytes=head,
        tail_bytes=tail,
        total_bytes=None if total < 0 else total,
        state=ExtentState(state),
        heartbeat_s=heartbeat,
        resume_s=resume_s,
    )


def read_extent(path: Path) -> Extent:
    """The extent at `path`, read again while it is being rewritten.

    Raises `FileNotFoundError` if there is none, `ValueError` if it stays unreadable.
    """
    for _ in range(_EXTENT_READS_MAX):
        extent = unpack_extent(path.read_bytes())
        if extent is not None:
            return extent
        time.sleep(0.001)
    raise ValueError(f"{path} is no extent")


class Seal(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Written beside the body before its extent turns `SEALED`: what the finished upload is."""

    media_id: str
    size_bytes: int
    digest: str
    """XXH3-128 of every byte, hex."""


class MediaRecord(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`media/<id>/media.json`."""

    media_id: str
    name: str
    kind: MediumKind
    size_bytes: int
    digest: str
    created_at: datetime
    owner: str | None = None
    expires_at: datetime | None = None
    """None: it stays, since somebody owns it."""


class TaskRecord(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`tasks/<id>/task.json`. One writer at a time: the edge until the command is confirmed, then the holder of the lease."""

    task_id: str
    command: AnyCommand
    created_at: datetime
    started_at: datetime | None = None
    trace: TraceContext | None = None


class Lease(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`tasks/<id>/lease`: who works on a task. Whoever creates `results.<epoch>.jsonl` owns that epoch and writes this."""

    owner: str
    epoch: int
    heartbeat_at: datetime
    is_released: bool = False
    """True when its holder handed the task on by itself."""


class Layout:
    """Every path below one storage root."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def uploads(self) -> Path:
        return self.root / "uploads"

    @property
    def media(self) -> Path:
        return self.root / "media"

    @property
    def tasks(self) -> Path:
        return self.root / "tasks"

    def body(self, task_id: str) -> Path:
        return self.uploads / task_id / "body"

    def extent(self, task_id: str) -> Path:
        return self.uploads / task_id / "extent"

    def seal(self, task_id: str) -> Path:
        return self.uploads / task_id / "seal.json"

    def upload_record(self, task_id: str) -> Path:
        """What a resumable upload is of, for whoever goes on with it; others have none."""
        return self.uploads / task_id / "upload.json"

    def medium(self, media_id: str) -> Path:
        return self.media / media_id

    def source(self, media_id: str) -> Path:
        return self.media / media_id / "source"

    def media_record(self, media_id: str) -> Path:
        return self.media / media_id / "media.json"

    def task(self, task_id: str) -> Path:
        return self.tasks / task_id

    def task_record(self, task_id: str) -> Path:
        return self.tasks / task_id / "task.json"

    def lease(self, task_id: str) -> Path:
        return self.tasks / task_id / "lease"

    def results(self, task_id: str, *, epoch: int) -> Path:
        return self.tasks / task_id / f"results.{epoch}.jsonl"

    def end(self, task_id: str) -> Path:
        return self.tasks / task_id / "end.json"

    def cancel(self, task_id: str) -> Path:
        return self.tasks / task_id / "cancel"

    def abort(self, task_id: str) -> Path:
        """Why the upload was aborted: a `FailureRecord`, written before the extent says so."""
        return self.tasks / task_id / "abort"

    def unpublished(self, task_id: str) -> Path:
        return self.tasks / task_id / "unpublished"

    def posted(self, task_id: str) -> Path:
        """How far the Annotations service has been told of the task."""
        return self.tasks / task_id / "posted.json"

    def frame(self, task_id: str, sequence: int) -> Path:
        """The picture of a report that will be posted; gone once it is."""
        return self.tasks / task_id / "frames" / f"{sequence}.jpg"

    @property
    def running(self) -> Path:
        """A folder per medium that was asked for by its id: which task works on it (the duplicate guard)."""
        return self.root / "running"

    @property
    def posting(self) -> Path:
        """A folder per medium of which the Annotations service is told: who does so, and which tasks wait for it."""
        return self.root / "posting"

    def credentials(self, task_id: str) -> Path:
        """The sealed tokens of whoever started the task, mode 0600; only edges can open them."""
        return self.tasks / task_id / "credentials"

    @property
    def sessions(self) -> Path:
        """Sealed tokens that came of a refresh, by the hash of the refresh token that a client gave."""
        return self.root / "sessions"

    @property
    def tickets(self) -> Path:
        """Tickets that were used: each is created once."""
        return self.root / "tickets"

    @property
    def seal_key(self) -> Path:
        """The key that edges seal with if none is configured, mode 0600."""
        return self.root / "seal.key"


def upload_medium(
    task_id: str, *, kind: MediumKind, name: str, is_growing: bool, media_id: str | None = None
) -> Medium:
    """The medium of an upload, as a command names it."""
    path = f"uploads/{task_id}/body"
    return Medium(root="storage", path=path, kind=kind, name=name, is_growing=is_growing, media_id=media_id)


def is_of_an_upload(medium: Medium) -> bool:
    """Whether it came in here and lies in its upload, which is removed when its task has ended."""
    return medium.root == "storage" and medium.path.startswith("uploads/")


def read_record(path: Path, record: type[_Record]) -> _Record | None:
    """The record at `path`, None if there is no such file. Raises `msgspec.DecodeError` if it holds something else."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=record)
    except FileNotFoundError:
        return None
    except NOT_READ as error:
        raise msgspec.DecodeError(f"{path.name}: {error}") from error


def create_record(path: Path, record: object) -> bool:
    """Write a record that did not exist; False if it did. It appears whole or not at all, and survives a crash."""
    return create_file(path, msgspec.json.encode(record))


def replace_record(path: Path, record: object, *, makes_folder: bool = True) -> None:
    """As `replace_file`."""
    replace_file(path, msgspec.json.encode(record), makes_folder=makes_folder)
