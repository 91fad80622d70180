"""The end of a dead-lettered task, without a broker."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
import structlog

from contracts.commands import DetectImage, DetectVideo
from contracts.detections import Counts
from contracts.events import TaskEnded
from contracts.failures import Failure, FailureCode, FailureRecord
from contracts.media import Medium, MediumKind
from contracts.results import Checkpoint
from contracts.storage import Layout, TaskRecord, create_record, read_record
from contracts.wire import encode
from edge.dead_letters import DeadLetters, Notice
from edge.settings import EdgeSettings
from tests.events import end, new_task
from tests.fakes import FakeOutbox

POISON = FailureRecord(code=FailureCode.DELIVERED_TOO_OFTEN, detail="lost")


class Graveyard:
    def __init__(self, storage: Path) -> None:
        self.task_id = new_task()
        self.layout = Layout(storage)
        self.outbox = FakeOutbox()
        self.letters = DeadLetters(EdgeSettings(storage_dir=str(storage)), self.outbox)

    @property
    def notice(self) -> Notice:
        medium = Medium(root="storage", path="a/b", kind=MediumKind.VIDEO, media_id="abc")
        return Notice(task_id=self.task_id, failure=POISON, command=DetectVideo(task_id=self.task_id, medium=medium))

    async def end(self) -> None:
        await self.letters.end(self.notice)


async def test_the_end_follows_the_last_report_and_keeps_its_counts(tmp_path: Path) -> None:
    graveyard = Graveyard(tmp_path)
    counts = Counts(decoded=8, sampled=2, inferred=2, reported=1)
    results = graveyard.layout.results(graveyard.task_id, epoch=3)
    results.parent.mkdir(parents=True)
    checkpoint = Checkpoint(frame_index=7, at_s=0.3, counts=counts, sequence=5, percent=40)
    results.write_bytes(_line(checkpoint))
    await graveyard.end()
    expected = TaskEnded(
        task_id=graveyard.task_id, media_id="abc", epoch=3, percent=40, sequence=6, counts=counts, failure=POISON
    )
    assert graveyard.outbox.ends == [expected]
    assert read_record(graveyard.layout.end(graveyard.task_id), TaskEnded) == expected


async def test_a_task_without_results_ends_with_the_first_sequence(tmp_path: Path) -> None:
    graveyard = Graveyard(tmp_path)
    await graveyard.end()
    assert [event.sequence for event in graveyard.outbox.ends] == [1]


async def test_an_end_that_is_there_is_published_whoever_wrote_it_may_never_have_come_to_that(tmp_path: Path) -> None:
    graveyard = Graveyard(tmp_path)
    there = end(graveyard.task_id, 9)
    create_record(graveyard.layout.end(graveyard.task_id), there)
    await graveyard.end()
    assert graveyard.outbox.ends == [there]


async def test_an_end_that_may_never_have_been_published_is_published_as_it_was_written(tmp_path: Path) -> None:
    graveyard = Graveyard(tmp_path)
    graveyard.outbox.is_away = True
    with pytest.raises(Failure):
        await graveyard.end()
    graveyard.outbox.is_away = False
    await graveyard.end()
    assert graveyard.outbox.ends == [read_record(graveyard.layout.end(graveyard.task_id), TaskEnded)]


@pytest.mark.parametrize("has_come_again", [True, False])
async def test_the_end_of_a_fleeting_picture_is_kept_where_a_consumer_wrote_it_down(
    tmp_path: Path, has_come_again: bool
) -> None:
    graveyard = Graveyard(tmp_path)
    medium = Medium(root="storage", path="a/b", kind=MediumKind.IMAGE)
    command = DetectImage(task_id=graveyard.task_id, medium=medium, is_quiet=True)
    if has_come_again:
        record = TaskRecord(task_id=command.task_id, command=command, created_at=datetime.now(UTC))
        create_record(graveyard.layout.task_record(command.task_id), record)
    await graveyard.letters.end(Notice(task_id=command.task_id, failure=POISON, command=command))
    assert [event.is_quiet for event in graveyard.outbox.ends] == [True]
    assert graveyard.layout.end(command.task_id).exists() is has_come_again


@pytest.mark.parametrize("name", ["end.json", "results.1.jsonl"])
@pytest.mark.parametrize("content", [b"{", b'{"record": "\xff"}', b'{"version": 9, "taskId": {}}'])
async def test_a_task_with_a_broken_record_costs_the_letters_behind_it_nothing(
    tmp_path: Path, name: str, content: bytes
) -> None:
    graveyard = Graveyard(tmp_path)
    broken = graveyard.layout.task(graveyard.task_id) / name
    broken.parent.mkdir(parents=True)
    broken.write_bytes(content + b"\n")
    with structlog.testing.capture_logs() as lines:
        await graveyard.letters._take(graveyard.notice)
    assert graveyard.outbox.ends == []
    assert broken.read_bytes() == content + b"\n"
    assert [(line["event"], line["task_id"]) for line in lines if line["log_level"] == "error"] == [
        ("left alone: a record is broken", graveyard.task_id)
    ]


def _line(checkpoint: Checkpoint) -> bytes:
    return encode(checkpoint) + b"\n"  # type: ignore[arg-type]
