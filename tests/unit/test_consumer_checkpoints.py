"""What is on disk before anybody is told, and where a taker goes on."""

import os
from collections.abc import Generator, Iterable
from pathlib import Path

import pytest

from consumers import checkpoints
from consumers.checkpoints import (
    UNCONFIRMED_MAX,
    Journal,
    Standing,
    Superseded,
    Watched,
    has_checkpoint,
    recorded,
    stand_on,
)
from consumers.narrator import Narrator
from contracts.detections import Counts
from contracts.events import FrameDetected, TaskProgressed
from contracts.results import AnyRecord, Checkpoint, Reported, TakenOver, last_checkpoint, records_backwards, reports
from contracts.storage import Layout
from engine.account import Finished, FrameReport, Progressed

TASK = "0b8b8a2e-0000-4000-8000-000000000001"
NARRATOR = Narrator(task_id=TASK, media_id=TASK)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path)
    layout.task(TASK).mkdir(parents=True)
    return layout


def claim(layout: Layout, epoch: int) -> Journal:
    layout.results(TASK, epoch=epoch).touch(exist_ok=False)
    return Journal(layout, TASK, epoch=epoch, standing=stand_on(layout, TASK, epoch=epoch))


def seen(number: int) -> FrameReport:
    return FrameReport(sequence=number, frame_index=number * 4, at_s=number * 0.5, detections=[], percent=number)


def up_to(number: int) -> Checkpoint:
    counts = Counts(decoded=number * 4, sampled=number, inferred=number, reported=number)
    return Checkpoint(frame_index=number * 4, at_s=number * 0.5, counts=counts, sequence=number, percent=number)


def watching(items: Iterable[Watched]) -> Generator[Watched, None, None]:
    yield from items


def work(layout: Layout, epoch: int, items: Iterable[Watched]) -> list[object]:
    journal = claim(layout, epoch)
    return list(recorded(watching(items), journal, lambda: NARRATOR))


def written(layout: Layout, *, epoch: int) -> list[AnyRecord]:
    newest_first = [record for record, _ in records_backwards(layout.results(TASK, epoch=epoch))]
    return newest_first[::-1]


def numbers(layout: Layout) -> list[int]:
    return [report.sequence for report in reports(layout, TASK)]


def test_a_report_is_on_disk_before_it_is_told(layout: Layout) -> None:
    told = recorded(watching([seen(1), up_to(1)]), claim(layout, 1), lambda: NARRATOR)
    first = next(told)

    assert isinstance(first, FrameDetected)
    assert written(layout, epoch=1) == [Reported(event=first), up_to(1)]
    told.close()


def test_a_report_says_where_and_when(layout: Layout) -> None:
    (first,) = work(layout, 1, [seen(3), up_to(3)])

    assert isinstance(first, FrameDetected)
    assert (first.sequence, first.frame_index, first.video_time, first.percent) == (3, 12, "00:00:01.500", 3)


def test_progress_and_the_end_pass_through_unwritten(layout: Layout) -> None:
    counts = Counts(decoded=1)
    finished = Finished(counts=counts, percent=9, is_partial=False, failure=None)
    progress, end = work(layout, 1, [Progressed(counts=counts, percent=9, waiting_for="moov"), finished])

    assert isinstance(progress, TaskProgressed)
    assert (progress.counts, progress.waiting_for, progress.percent) == (counts, "moov", 9)
    assert end == finished
    assert layout.results(TASK, epoch=1).read_bytes() == b""


def test_a_checkpoint_without_a_report_is_written_and_not_told(layout: Layout) -> None:
    assert work(layout, 1, [up_to(0)]) == []
    assert last_checkpoint(layout, TASK) == up_to(0)


def test_whoever_is_superseded_tells_nothing_more(layout: Layout) -> None:
    told = recorded(watching([seen(1), up_to(1), seen(2), up_to(2)]), claim(layout, 1), lambda: NARRATOR)
    next(told)
    claim(layout, 2)

    with pytest.raises(Superseded):
        next(told)


def test_closing_what_is_told_closes_what_is_watched(layout: Layout) -> None:
    closed = False

    def source() -> Generator[Watched, None, None]:
        nonlocal closed
        try:
            yield seen(1)
            yield up_to(1)
            yield seen(2)
        finally:
            closed = True

    told = recorded(source(), claim(layout, 1), lambda: NARRATOR)
    next(told)
    told.close()

    assert closed


def test_a_first_taker_stands_on_nothing(layout: Layout) -> None:
    layout.results(TASK, epoch=1).touch()

    assert stand_on(layout, TASK, epoch=1) == Standing()
    assert layout.results(TASK, epoch=1).read_bytes() == b""


def test_a_taker_goes_on_behind_the_last_checkpoint(layout: Layout) -> None:
    work(layout, 1, [seen(1), up_to(1), seen(2), up_to(2)])
    layout.results(TASK, epoch=2).touch()
    standing = stand_on(layout, TASK, epoch=2)

    assert standing.checkpoint == up_to(2)
    assert [report.sequence for report in standing.unconfirmed] == [1, 2]


def test_a_report_without_its_checkpoint_is_made_again(layout: Layout) -> None:
    work(layout, 1, [seen(1), up_to(1)])
    with claim_again(layout, 1) as journal:
        journal.append(Reported(event=NARRATOR.report(seen(2))))
    work(layout, 2, [seen(2), up_to(2)])

    assert numbers(layout) == [1, 2]


def test_a_torn_line_does_not_count(layout: Layout) -> None:
    work(layout, 1, [seen(1), up_to(1)])
    with layout.results(TASK, epoch=1).open("ab") as file:
        file.write(b'{"record":"repor')
    work(layout, 2, [seen(2), up_to(2)])

    assert numbers(layout) == [1, 2]


def test_what_a_stale_holder_still_writes_is_never_read(layout: Layout) -> None:
    stale = claim(layout, 1)
    with stale:
        stale.append(Reported(event=NARRATOR.report(seen(1))), up_to(1))
        work(layout, 2, [seen(2), up_to(2)])
        with pytest.raises(Superseded):
            stale.append(Reported(event=NARRATOR.report(seen(2))), up_to(2))

    assert numbers(layout) == [1, 2]
    assert last_checkpoint(layout, TASK) == up_to(2)


def test_a_taker_that_died_before_its_first_word_is_passed_over(layout: Layout) -> None:
    work(layout, 1, [seen(1), up_to(1)])
    layout.results(TASK, epoch=2).touch()
    assert numbers(layout) == [1], "the results are there while a taker has not spoken yet"

    work(layout, 3, [seen(2), up_to(2)])

    assert numbers(layout) == [1, 2]
    first = written(layout, epoch=3)[0]
    assert isinstance(first, TakenOver)
    assert first.previous_epoch == 1


def test_takers_in_a_row_keep_one_sequence(layout: Layout) -> None:
    work(layout, 1, [seen(1), up_to(1)])
    work(layout, 2, [])
    work(layout, 3, [seen(2), up_to(2)])
    work(layout, 4, [seen(3), up_to(3)])

    assert numbers(layout) == [1, 2, 3]


def test_a_taker_after_nothing_was_done_starts_over(layout: Layout) -> None:
    work(layout, 1, [])
    layout.results(TASK, epoch=2).touch()

    assert stand_on(layout, TASK, epoch=2) == Standing()
    assert numbers(layout) == []


def test_only_so_many_reports_are_told_again_as_can_be_unconfirmed(layout: Layout) -> None:
    work(layout, 1, [item for number in range(1, 101) for item in (seen(number), up_to(number))])
    layout.results(TASK, epoch=2).touch()
    unconfirmed = stand_on(layout, TASK, epoch=2).unconfirmed

    assert [report.sequence for report in unconfirmed] == list(range(101 - UNCONFIRMED_MAX, 101))


def test_progress_of_an_epoch_is_its_own_checkpoint(layout: Layout) -> None:
    work(layout, 1, [seen(1), up_to(1)])
    work(layout, 2, [])

    assert has_checkpoint(layout, TASK, epoch=1)
    assert not has_checkpoint(layout, TASK, epoch=2)
    assert not has_checkpoint(layout, TASK, epoch=3)


def test_what_was_written_is_forced_to_the_disk_once_a_second_and_at_the_end(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, forced = iter((0.0, 0.5, 1.0, 1.5, 1.5, 2.0)), list[int]()
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(checkpoints.os, "fsync", forced.append)
    forced_after: list[int] = []
    with claim(layout, 1) as journal:
        for number in range(1, 5):
            journal.append(up_to(number))
            forced_after.append(len(forced))

    assert forced_after == [0, 0, 1, 1]
    assert len(forced) == 2, "the end was not forced"
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(forced[0])


def claim_again(layout: Layout, epoch: int) -> Journal:
    return Journal(layout, TASK, epoch=epoch, standing=Standing())
