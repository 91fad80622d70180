"""What a task reported: one file per epoch, appended before anything is published, read back as one sequence.

One POSIX file cannot be fenced, hence a file per epoch: a taker says how many bytes of the file before count, and whatever
a stale holder still appends there is never read.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from contracts.detections import Counts, Detection
from contracts.events import FrameDetected
from contracts.storage import Layout

_FILE = re.compile(r"results\.(\d+)\.jsonl")


class TakenOver(msgspec.Struct, frozen=True, kw_only=True, rename="camel", tag_field="record", tag="taken-over"):
    """The first line of an epoch after the first."""

    previous_epoch: int
    previous_bytes: int


class LastReport(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What the reporting rule remembers."""

    at_s: float
    annotations: list[Detection]


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True, rename="camel", tag_field="record", tag="checkpoint"):
    """How far a task has come: everything up to and including `frame_index` is done."""

    frame_index: int
    at_s: float
    """Time of that frame since the stream's first, seconds."""
    counts: Counts
    sequence: int
    """Of the last report; 0 before the first."""
    percent: int = 0
    last_report: LastReport | None = None


class Reported(msgspec.Struct, frozen=True, kw_only=True, rename="camel", tag_field="record", tag="reported"):
    """A report, as it was or will be published."""

    event: FrameDetected


AnyRecord = TakenOver | Checkpoint | Reported

_decoder: "msgspec.json.Decoder[AnyRecord]" = msgspec.json.Decoder(AnyRecord)


class Records(msgspec.Struct, frozen=True, kw_only=True):
    """The records of one epoch's file, and how many of its bytes are whole lines."""

    records: tuple[AnyRecord, ...]
    whole_bytes: int


def latest_epoch(layout: Layout, task_id: str) -> int:
    """The highest epoch that has a results file, 0 if none has."""
    names = (entry.name for entry in _entries(layout.task(task_id)))
    return max((int(match[1]) for name in names if (match := _FILE.fullmatch(name))), default=0)


def read_epoch(path: Path, *, bytes_max: int | None = None) -> Records:
    """The whole lines of a results file; a line torn by a crash does not count."""
    content = path.read_bytes()[:bytes_max]
    whole_bytes = content.rfind(b"\n") + 1
    lines = content[:whole_bytes].splitlines()
    return Records(records=tuple(_decoder.decode(line) for line in lines), whole_bytes=whole_bytes)


def reports(layout: Layout, task_id: str) -> Iterator[FrameDetected]:
    """Every report of the task in order, across all takers."""
    for record in _history(layout, task_id, epoch=latest_epoch(layout, task_id), bytes_max=None):
        if isinstance(record, Reported):
            yield record.event


def last_checkpoint(layout: Layout, task_id: str) -> Checkpoint | None:
    """How far the task has come, None before its first checkpoint."""
    checkpoint = None
    for record in _history(layout, task_id, epoch=latest_epoch(layout, task_id), bytes_max=None):
        if isinstance(record, Checkpoint):
            checkpoint = record
    return checkpoint


def _history(layout: Layout, task_id: str, *, epoch: int, bytes_max: int | None) -> Iterator[AnyRecord]:
    """The records of all takers up to this one, a line of the disk at a time: a long task has many."""
    if epoch == 0:
        return
    is_empty = True
    for line in _whole_lines(layout.results(task_id, epoch=epoch), bytes_max=bytes_max):
        record = _decoder.decode(line)
        if is_empty and isinstance(record, TakenOver):
            yield from _history(layout, task_id, epoch=record.previous_epoch, bytes_max=record.previous_bytes)
        is_empty = False
        yield record
    if is_empty and epoch > 1:  # its taker has not yet said (or never could say) where it goes on from
        yield from _history(layout, task_id, epoch=epoch - 1, bytes_max=None)


def _whole_lines(path: Path, *, bytes_max: int | None) -> Iterator[bytes]:
    read_bytes = 0
    with path.open("rb") as file:
        for line in file:
            read_bytes += len(line)
            if not line.endswith(b"\n") or (bytes_max is not None and read_bytes > bytes_max):
                return
            yield line


def _entries(folder: Path) -> Iterator[Path]:
    return folder.iterdir() if folder.is_dir() else iter(())
