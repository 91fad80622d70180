"""Results before events: what a task reported is on disk before anybody is told, and a taker goes on from there.

Durability: every record is handed to the kernel before its event is published, so it survives the death of this process;
it is forced to the disk at most once in `SYNC_PERIOD_S` and at the end, so a power cut may cost that long.
"""

import contextlib
import os
import time
from collections.abc import Callable, Generator
from types import TracebackType
from typing import Self

import msgspec

from consumers.metrics import FrameCounts
from consumers.narrator import Narrator
from contracts.crashpoints import crashpoint
from contracts.detections import Counts
from contracts.events import AnyEvent, FrameDetected
from contracts.results import (
    AnyRecord,
    Checkpoint,
    Reported,
    TakenOver,
    last_checkpoint,
    last_reports,
    records_backwards,
)
from contracts.storage import Layout
from engine.account import Finished, FrameReport, Progressed

SYNC_PERIOD_S = 1.0
UNCONFIRMED_MAX = 64
"""Reports that a taker publishes again: more than can wait in a thread (`ahead_max`) and in a lane together."""

Watched = FrameReport | Checkpoint | Progressed | Finished
Told = AnyEvent | Finished

_encoder = msgspec.json.Encoder()


class Superseded(Exception):
    """Another consumer has taken the task over; nothing more is written or published here."""


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """Where a taker goes on."""

    checkpoint: Checkpoint | None = None
    unconfirmed: tuple[FrameDetected, ...] = ()
    """Reports that the taker before may not have published, in order; none counts twice, they keep their numbers."""


def stand_on(layout: Layout, task_id: str, *, epoch: int) -> Standing:
    """Say in the fresh results file of `epoch` what counts of the ones before, and return where that leads to.

    The file must have been created before: what its predecessor publishes later is on disk by now (see `Journal.append`).
    """
    taken = _what_counts(layout, task_id, before_epoch=epoch)
    if taken is not None:
        with layout.results(task_id, epoch=epoch).open("ab", buffering=0) as file:
            file.write(_encoder.encode(taken) + b"\n")
            crashpoint("consumer.stand.written")
    return Standing(
        checkpoint=last_checkpoint(layout, task_id),
        unconfirmed=last_reports(layout, task_id, at_most=UNCONFIRMED_MAX),
    )


def has_checkpoint(layout: Layout, task_id: str, *, epoch: int) -> bool:
    """Whether the taker of `epoch` brought the task on."""
    path = layout.results(task_id, epoch=epoch)
    return path.exists() and any(isinstance(record, Checkpoint) for record, _ in records_backwards(path))


def _what_counts(layout: Layout, task_id: str, *, before_epoch: int) -> TakenOver | None:
    """The last epoch that said something, up to its last checkpoint: what came after is done again."""
    for epoch in range(before_epoch - 1, 0, -1):
        newest_first = records_backwards(layout.results(task_id, epoch=epoch))
        counts = next((end for record, end in newest_first if not isinstance(record, Reported)), 0)
        if counts or epoch == 1:
            return TakenOver(previous_epoch=epoch, previous_bytes=counts)
    return None


class Journal:
    """The results file of one epoch, written by the thread that watches the medium."""

    def __init__(self, layout: Layout, task_id: str, *, epoch: int, standing: Standing) -> None:
        self._path = layout.results(task_id, epoch=epoch)
        self._next = layout.results(task_id, epoch=epoch + 1)
        self._file = -1
        self._synced_s = 0.0
        self.checkpoint = standing.checkpoint

    @property
    def counts(self) -> Counts:
        return self.checkpoint.counts if self.checkpoint else Counts()

    @property
    def sequence(self) -> int:
        """Number of the last report."""
        return self.checkpoint.sequence if self.checkpoint else 0

    @property
    def percent(self) -> int:
        return self.checkpoint.percent if self.checkpoint else 0

    def append(self, *records: AnyRecord) -> None:
        """Write records whole, then look whether they still count.

        In this order: a taker creates its file before it reads ours, so whatever we go on to publish, it has read. Raises
        `Superseded`, `OSError`.
        """
        crashpoint("consumer.journal.begun")
        self._write(b"".join(_encoder.encode(record) + b"\n" for record in records))
        crashpoint("consumer.journal.written")
        self.check_it_is_ours()
        crashpoint("consumer.journal.checked")
        for record in records:
            if isinstance(record, Checkpoint):
                self.checkpoint = record

    def check_it_is_ours(self) -> None:
        """Raises `Superseded` if somebody has taken the task over."""
        if self._next.exists():
            raise Superseded(str(self._next))

    def _write(self, content: bytes) -> None:
        while content:
            content = content[os.write(self._file, content) :]
        if time.monotonic() - self._synced_s > SYNC_PERIOD_S:
            os.fsync(self._file)
            self._synced_s = time.monotonic()
            crashpoint("consumer.journal.synced")

    def __enter__(self) -> Self:
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND)
        self._synced_s = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            os.fsync(self._file)
            crashpoint("consumer.journal.synced")
        finally:
            os.close(self._file)


def recorded(
    watched: Generator[Watched, None, None], journal: Journal, speaker: Callable[[], Narrator]
) -> Generator[Told, None, None]:
    """What is to be told, each report after it was written; a report and its checkpoint are one write.

    speaker: says who speaks now: what is known of the medium changes while it is watched.
    """
    report: FrameDetected | None = None
    frames = FrameCounts(journal.counts)
    with journal, contextlib.closing(watched):
        for seen in watched:
            if not isinstance(seen, FrameReport):
                frames.reach(seen.counts)
            match seen:
                case FrameReport():
                    report = speaker().report(seen)
                case Checkpoint() if report is not None:
                    journal.append(Reported(event=report), seen)
                    yield report
                    report = None
                case Checkpoint():
                    journal.append(seen)
                case Progressed():
                    yield speaker().progress(seen)
                case Finished():
                    yield seen
