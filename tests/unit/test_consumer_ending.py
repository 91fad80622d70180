"""The end of a task on disk, also on a full one."""

from pathlib import Path

import pytest

from consumers.ending import RESERVED_BYTES, Ending, reserve_end
from contracts.events import TaskEnded
from contracts.failures import FailureCode, FailureRecord
from contracts.storage import Layout, read_record
from tests.unit.small_disk import fill, small_disk

__all__ = ["small_disk"]

TASK = "0b8b8a2e-0000-4000-8000-000000000001"
END = TaskEnded(task_id=TASK, media_id="m", sequence=3)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return claimed(tmp_path)


def claimed(root: Path) -> Layout:
    layout = Layout(root)
    layout.task(TASK).mkdir(parents=True)
    reserve_end(layout, TASK, epoch=1)
    return layout


def test_an_end_is_read_as_it_was_written(layout: Layout) -> None:
    assert Ending(layout, TASK, epoch=1).create(END)

    assert read_record(layout.end(TASK), TaskEnded) == END


def test_there_is_one_end(layout: Layout) -> None:
    Ending(layout, TASK, epoch=1).create(END)
    late = TaskEnded(task_id=TASK, media_id="m", sequence=9)

    assert not Ending(layout, TASK, epoch=2).create(late)
    assert read_record(layout.end(TASK), TaskEnded) == END


def test_what_was_reserved_is_given_back_and_the_end_stays(layout: Layout) -> None:
    ending = Ending(layout, TASK, epoch=1)
    ending.create(END)
    ending.give_back()
    ending.give_back()

    assert [path.name for path in layout.task(TASK).iterdir()] == ["end.json"]


def test_a_long_reason_is_kept_whole(layout: Layout) -> None:
    failure = FailureRecord(code=FailureCode.INTERNAL, detail="x" * 2 * RESERVED_BYTES)
    end = TaskEnded(task_id=TASK, media_id="m", sequence=1, failure=failure)
    Ending(layout, TASK, epoch=1).create(end)

    assert read_record(layout.end(TASK), TaskEnded) == end


def test_a_full_disk_has_room_for_the_end(small_disk: Path) -> None:
    layout = claimed(small_disk)
    fill(small_disk)

    assert Ending(layout, TASK, epoch=1).create(END)
    assert read_record(layout.end(TASK), TaskEnded) == END
