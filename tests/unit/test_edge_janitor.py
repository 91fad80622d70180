"""The janitor: what has had its time goes, and nothing that a task without an end uses."""

import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import msgspec
import pytest

from contracts.commands import DetectVideo
from contracts.events import TaskEnded
from contracts.failures import FailureCode
from contracts.media import MediumKind
from contracts.storage import Layout, create_record, read_record, replace_record, upload_medium
from edge.app import _parts
from edge.growing_body import UploadPlan
from edge.idempotency import IdempotencyKeys
from edge.janitor import Janitor, JanitorLease, Retention, Swept
from edge.outcomes import PictureSeen
from edge.settings import EdgeSettings
from edge.storage import UploadStore
from edge.task_store import TaskStore
from tests.edge_app import names_in
from tests.unit.small_disk import fill, small_disk

__all__ = ["small_disk"]

DAY = timedelta(days=1)


class Place:
    """A storage with a clock that a test turns."""

    def __init__(self, root: Path) -> None:
        self.layout = Layout(root)
        self.now = datetime.now(UTC)
        self.uploads = UploadStore(self.layout, keep_for=DAY, clock=self.clock)
        self.tasks = TaskStore(self.layout, clock=self.clock)
        self.keys = IdempotencyKeys(self.layout, claim_max=timedelta(minutes=10), clock=self.clock)
        self.janitor = self.another_janitor()

    def clock(self) -> datetime:
        return self.now

    def another_janitor(self, **kept: timedelta) -> Janitor:
        return Janitor(self.layout, [self.keys], retention=Retention(**kept), clock=self.clock)

    def pass_time(self, age: timedelta) -> None:
        self.now += age

    def upload(self, content: bytes = b"content") -> str:
        """A sealed upload whose task has no end; its media id is that of its content."""
        task_id = str(uuid4())
        body = self.uploads.begin(task_id, UploadPlan())
        body.append([content])
        seal = self.uploads.seal(task_id, body, name="a.mp4", kind=MediumKind.VIDEO)
        medium = upload_medium(task_id, kind=MediumKind.VIDEO, name="a.mp4", is_growing=True)
        self.tasks.create(DetectVideo(task_id=task_id, medium=medium, created_at=self.now))
        assert self.layout.source(seal.media_id).exists()
        return task_id

    def end(self, task_id: str) -> None:
        create_record(self.layout.end(task_id), TaskEnded(task_id=task_id, media_id="m", sequence=1, at=self.now))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_what_a_task_without_an_end_uses_stays_beyond_its_time(place: Place) -> None:
    task_id = place.upload()
    place.pass_time(6 * DAY)
    assert place.janitor.sweep() == Swept()
    assert place.layout.body(task_id).exists()
    assert len(names_in(place.layout.media)) == 1


def test_a_task_that_was_silent_for_a_week_is_given_up_and_then_has_its_time(place: Place) -> None:
    task_id = place.upload()
    place.tasks.mark_published(task_id)
    place.pass_time(8 * DAY)
    assert place.janitor.sweep() == Swept(given_up=1)
    end = place.tasks.last_event(task_id)
    assert end is not None
    assert end.failure is not None
    assert end.failure.code is FailureCode.TASK_ABANDONED
    assert end.at == place.now
    assert place.tasks.view(task_id).status == "Failed"
    assert place.tasks.unpublished(before=place.now) == [task_id]  # the announcer publishes its end
    place.pass_time(timedelta(minutes=2))
    assert place.janitor.sweep() == Swept(uploads=1, media=1)
    place.pass_time(31 * DAY)
    assert place.janitor.sweep() == Swept(tasks=1)


@pytest.mark.parametrize("alive", ["lease", "results.1.jsonl", "extent"])
def test_a_task_with_a_sign_of_life_is_not_given_up(place: Place, alive: str) -> None:
    """A consumer's heartbeat, a report, an upload that goes on."""
    task_id = place.upload()
    folder = place.layout.uploads / task_id if alive == "extent" else place.layout.task(task_id)
    place.pass_time(8 * DAY)
    (folder / alive).touch()
    os.utime(folder / alive, (place.now.timestamp(), place.now.timestamp()))
    assert place.janitor.sweep() == Swept()
    assert place.tasks.last_event(task_id) is None


def test_a_task_whose_upload_is_gone_is_given_up_too(place: Place) -> None:
    task_id = place.upload()
    shutil.rmtree(place.layout.uploads / task_id)
    place.pass_time(8 * DAY)
    assert place.janitor.sweep().given_up == 1


def test_the_upload_of_an_ended_task_goes_and_its_medium_stays_for_its_time(place: Place) -> None:
    task_id = place.upload()
    place.end(task_id)
    assert place.janitor.sweep() == Swept()
    place.pass_time(timedelta(minutes=2))
    assert place.janitor.sweep() == Swept(uploads=1)
    assert place.layout.source(names_in(place.layout.media)[0]).read_bytes() == b"content"
    place.pass_time(DAY)
    assert place.janitor.sweep() == Swept(media=1)
    assert names_in(place.layout.media) == []
    place.pass_time(30 * DAY)
    assert place.janitor.sweep() == Swept(tasks=1)
    assert names_in(place.layout.tasks) == []


def test_where_tasks_are_not_kept_for_long_an_upload_goes_with_its_task(place: Place) -> None:
    task_id = place.upload()
    place.end(task_id)
    place.pass_time(timedelta(seconds=40))
    place.another_janitor(tasks=timedelta(seconds=30)).sweep()
    assert names_in(place.layout.tasks) == names_in(place.layout.uploads) == []
    assert len(names_in(place.layout.media)) == 1


def test_a_medium_that_came_in_again_is_kept_from_then_on(place: Place) -> None:
    place.end(place.upload())
    place.pass_time(0.9 * DAY)
    place.end(place.upload())
    place.pass_time(0.9 * DAY)
    place.janitor.sweep()
    assert len(names_in(place.layout.media)) == 1


def test_a_medium_that_comes_in_while_it_is_taken_away_is_kept_whole(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def taken_away(path: Path, record: object, **more: bool) -> None:
        place.another_janitor(unfinished=30 * DAY).sweep()
        replace_record(path, record, **more)

    place.end(place.upload())
    place.pass_time(1.1 * DAY)
    monkeypatch.setattr("edge.storage.replace_record", taken_away)
    place.upload()

    (media_id,) = names_in(place.layout.media)
    assert names_in(place.layout.medium(media_id)) == ["media.json", "source"]
    assert place.layout.source(media_id).read_bytes() == b"content"


def test_a_medium_with_an_owner_is_kept(place: Place) -> None:
    place.end(place.upload())
    (media_id,) = names_in(place.layout.media)
    path = place.layout.media_record(media_id)
    record = msgspec.json.decode(path.read_bytes())
    path.write_bytes(msgspec.json.encode(record | {"expiresAt": None}))
    place.pass_time(400 * DAY)
    assert place.janitor.sweep().media == 0


def test_an_upload_that_never_became_a_task_goes_when_it_is_old(place: Place) -> None:
    task_id = str(uuid4())
    place.uploads.begin(task_id, UploadPlan()).append([b"x"])
    place.pass_time(timedelta(hours=1))
    assert place.janitor.sweep() == Swept()
    place.pass_time(timedelta(hours=2))
    assert place.janitor.sweep() == Swept(uploads=1)


def test_folders_built_aside_by_an_edge_that_died_go_when_they_are_old(place: Place) -> None:
    aside = place.layout.media / ".abc.123"
    aside.mkdir(parents=True)
    assert place.janitor.sweep() == Swept()
    assert aside.exists()
    place.pass_time(timedelta(hours=3))
    place.janitor.sweep()
    assert not aside.exists()


def test_keys_go_after_a_day(place: Place) -> None:
    place.keys.claim("k", "f")
    place.keys.settle("k", "f", PictureSeen(detections=[]))
    place.pass_time(timedelta(hours=23))
    assert place.janitor.sweep() == Swept()
    assert place.keys.claim("k", "f") == PictureSeen(detections=[])
    place.pass_time(timedelta(hours=2))
    assert place.janitor.sweep() == Swept(records=1)
    assert place.keys.claim("k", "other") is None


def test_a_claim_of_an_edge_that_died_does_not_block_its_key_for_a_day(place: Place) -> None:
    assert place.keys.claim("k", "f") is None
    place.pass_time(timedelta(minutes=11))
    assert place.keys.claim("k", "f") is None


def test_a_broken_record_is_left_alone_and_stops_nothing(place: Place) -> None:
    broken = place.layout.task_record(str(uuid4()))
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"{")
    place.end(place.upload())
    place.pass_time(400 * DAY)
    assert place.janitor.sweep() == Swept(uploads=1, media=1, tasks=1)
    assert broken.exists()


UNREADABLE = pytest.mark.parametrize("name", ["task.json", "end.json"])
"""A file of a task of which nobody can tell whether it lives, and what it uses."""


def unreadable_task(place: Place, name: str) -> Path:
    """Reading a folder as a file is an error of the file system, as of a defect disk, also for root."""
    path = place.layout.task(str(uuid4())) / name
    path.mkdir(parents=True)
    return path


@UNREADABLE
def test_what_cannot_be_read_stops_nothing(place: Place, name: str) -> None:
    unreadable = unreadable_task(place, name)
    (place.layout.root / "idempotency" / "a.json").mkdir(parents=True)
    place.layout.uploads.mkdir()
    place.layout.end("u").mkdir(parents=True)
    (place.layout.uploads / "u").mkdir()
    place.keys.claim("k", "f")
    place.end(place.upload())
    place.pass_time(400 * DAY)

    assert place.janitor.sweep() == Swept(uploads=1, media=1, tasks=1, records=1)
    assert unreadable.exists()


@UNREADABLE
def test_no_medium_goes_while_a_task_may_use_it_that_cannot_be_read(place: Place, name: str) -> None:
    unreadable_task(place, name)
    place.end(place.upload())
    place.pass_time(2 * DAY)
    assert place.janitor.sweep() == Swept(uploads=1)

    place.pass_time(6 * DAY)
    assert place.janitor.sweep() == Swept(media=1)


@pytest.mark.parametrize("content", [b'{"taskId": "\xff"}', b'{"x":' + b"[" * 100_000])
def test_a_record_of_which_the_disk_has_made_something_else_is_broken(place: Place, content: bytes) -> None:
    task_id = place.upload()
    place.layout.task_record(task_id).write_bytes(content)
    place.end(place.upload(b"other"))
    place.pass_time(400 * DAY)

    assert place.janitor.sweep() == Swept(uploads=1, media=2, tasks=1)


def test_one_janitor_sweeps_at_a_time(place: Place) -> None:
    other = place.another_janitor()
    assert place.janitor.sweep_if_ours() == Swept()
    assert other.sweep_if_ours() is None
    assert place.janitor.sweep_if_ours() == Swept()


def test_another_janitor_takes_over_from_one_that_is_silent(place: Place) -> None:
    assert place.janitor.take_lease()
    other = place.another_janitor()
    place.pass_time(timedelta(minutes=16))
    assert other.take_lease()
    assert not place.janitor.take_lease()
    lease = read_record(place.layout.root / "janitor", JanitorLease)
    assert lease is not None
    assert lease.heartbeat_at == place.now


def test_a_clock_that_is_put_back_does_not_stop_the_sweeping(place: Place) -> None:
    assert place.janitor.take_lease()
    place.pass_time(-DAY)
    assert place.another_janitor().take_lease()


def test_a_full_disk_is_swept_all_the_same(small_disk: Path) -> None:
    place = Place(small_disk)
    place.end(place.upload(b"one"))
    silent = place.upload(b"another")
    place.pass_time(8 * DAY)
    fill(small_disk)
    swept = place.janitor.sweep_if_ours()

    assert swept == Swept(uploads=1, media=1)
    assert place.tasks.last_event(silent) is None  # there was no room for its end
    swept = place.janitor.sweep_if_ours()
    assert (swept and swept.given_up, place.tasks.last_event(silent) is not None) == (1, True)


def test_an_empty_storage_is_no_trouble(place: Place) -> None:
    assert place.janitor.sweep_if_ours() == Swept()
    assert names_in(place.layout.root) == ["janitor"]


def test_the_edge_s_janitor_looks_after_used_tickets_and_refreshed_tokens(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    for path in (layout.tickets / "0123", layout.sessions / "4567.sealed", layout.sessions / "turn-00"):
        path.parent.mkdir(exist_ok=True)
        path.touch()
        os.utime(path, (1_000, 1_000))
    swept = _parts(EdgeSettings(storage_dir=str(tmp_path))).intake.janitor.sweep()

    assert swept == Swept(records=2)
    assert [path.name for path in (*layout.tickets.iterdir(), *layout.sessions.iterdir())] == ["turn-00"]
