"""What a task reported: one file per epoch, appended before anything is published, read back as one sequence.

One POSIX file cannot be fenced, hence a file per epoch: a taker says how many bytes of the file before count, and whatever
a stale holder still appends there is never read.
"""

import itertools
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from contracts.detections import Counts, Detection
from contracts.events import FrameDetected
from contracts.failures import NOT_READ
from contracts.shots import ShotPlace
from contracts.storage import Layout

BLOCK_BYTES = 64 * 1024
"""Read at once of a file whose end is looked at."""

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
    shots: ShotPlace | None = None
    """Where shots are looked for too."""


class Reported(msgspec.Struct, frozen=True, kw_only=True, rename="camel", tag_field="record", tag="reported"):
    """A report, as it was or will be published; it counts once its checkpoint follows (a full disk may tear the two apart)."""

    event: FrameDetected


AnyRecord = TakenOver | Checkpoint | Reported

_decoder: "msgspec.json.Decoder[AnyRecord]" = msgspec.json.Decoder(AnyRecord)


def latest_epoch(layout: Layout, task_id: str) -> int:
    """The highest epoch that has a results file, 0 if none has."""
    names = (entry.name for entry in _entries(layout.task(task_id)))
    return max((int(match[1]) for name in names if (match := _FILE.fullmatch(name))), default=0)


def reports(layout: Layout, task_id: str) -> Iterator[FrameDetected]:
    """Every report of the task in order, across all takers."""
    reported: Reported | None = None
    for record in _history(layout, task_id, epoch=latest_epoch(layout, task_id), bytes_max=None):
        if reported is not None and isinstance(record, Checkpoint):
            yield reported.event
        reported = record if isinstance(record, Reported) else None


def last_checkpoint(layout: Layout, task_id: str) -> Checkpoint | None:
    """How far the task has come, None before its first checkpoint."""
    newest_first = _history_backwards(layout, task_id)
    return next((record for record in newest_first if isinstance(record, Checkpoint)), None)


def last_reports(layout: Layout, task_id: str, *, at_most: int) -> tuple[FrameDetected, ...]:
    """The latest reports of the task in order, across all takers."""
    newest_first = (record.event for record in _history_backwards(layout, task_id) if isinstance(record, Reported))
    return tuple(reversed(tuple(itertools.islice(newest_first, at_most))))


def reports_after(layout: Layout, task_id: str, sequence: int, *, at_most: int) -> tuple[FrameDetected, ...]:
    """The next reports behind `sequence`, in order; from the end of the file when they are the last ones."""
    newest_first = (record.event for record in _history_backwards(layout, task_id) if isinstance(record, Reported))
    behind = itertools.takewhile(lambda report: report.sequence > sequence, newest_first)
    last = tuple(itertools.islice(behind, at_most + 1))
    if len(last) <= at_most:
        return last[::-1]
    following = (report for report in reports(layout, task_id) if report.sequence > sequence)
    return tuple(itertools.islice(following, at_most))


def records_backwards(path: Path, *, bytes_max: int | None = None) -> Iterator[tuple[AnyRecord, int]]:
    """The records of one file, the newest first, each with the place of its end; only what is asked for is read."""
    for line, end in _whole_lines_backwards(path, bytes_max=bytes_max):
        yield _read(line), end


def _history(layout: Layout, task_id: str, *, epoch: int, bytes_max: int | None) -> Iterator[AnyRecord]:
    """The records of all takers up to this one, a line of the disk at a time: a long task has many."""
    if epoch == 0:
        return
    is_empty = True
    for line in _whole_lines(layout.results(task_id, epoch=epoch), bytes_max=bytes_max):
        record = _read(line)
        if is_empty and isinstance(record, TakenOver):
            yield from _history(layout, task_id, epoch=record.previous_epoch, bytes_max=record.previous_bytes)
        is_empty = False
        yield record
    if is_empty and epoch > 1:  # its taker has not yet said (or never could say) where it goes on from
        yield from _history(layout, task_id, epoch=epoch - 1, bytes_max=None)


def _history_backwards(layout: Layout, task_id: str) -> Iterator[AnyRecord]:
    """The records of all takers, the newest first: where a long task stands is in the last lines of its last file."""
    epoch, bytes_max = latest_epoch(layout, task_id), None
    while epoch > 0:
        following, following_bytes_max = epoch - 1, None
        newest_first = (
            record for record, _ in records_backwards(layout.results(task_id, epoch=epoch), bytes_max=bytes_max)
        )
        for record in itertools.dropwhile(lambda record: isinstance(record, Reported), newest_first):
            yield record
            is_first = isinstance(record, TakenOver)
            following, following_bytes_max = (record.previous_epoch, record.previous_bytes) if is_first else (0, None)
        epoch, bytes_max = following, following_bytes_max


def _whole_lines_backwards(path: Path, *, bytes_max: int | None) -> Iterator[tuple[bytes, int]]:
    """The lines with the place of their end, the last one first; a line torn by a crash does not count."""
    with path.open("rb") as file:
        start = min(file.seek(0, os.SEEK_END), sys.maxsize if bytes_max is None else bytes_max)
        rest, is_torn = b"", True
        while start > 0:
            end, start = start, max(0, start - BLOCK_BYTES)
            file.seek(start)
            rest = file.read(end - start) + rest
            if is_torn:
                rest = rest[: rest.rfind(b"\n") + 1]
                is_torn = not rest
            lines = rest.splitlines(keepends=True)
            place = start + len(rest)
            rest = lines.pop(0) if start > 0 and lines else b""
            for line in reversed(lines):
                yield line, place
                place -= len(line)


def _whole_lines(path: Path, *, bytes_max: int | None) -> Iterator[bytes]:
    read_bytes = 0
    with path.open("rb") as file:
        for line in file:
            read_bytes += len(line)
            if not line.endswith(b"\n") or (bytes_max is not None and read_bytes > bytes_max):
                return
            yield line


def _read(line: bytes) -> AnyRecord:
    """Raises `msgspec.DecodeError`."""
    try:
        return _decoder.decode(line)
    except NOT_READ as error:
        raise msgspec.DecodeError(f"a broken line of results: {error}") from error


def _entries(folder: Path) -> Iterator[Path]:
    return folder.iterdir() if folder.is_dir() else iter(())
