"""Uploads on the disk: what is kept under which name, and what happens when the disk is full or two want the same."""

import errno
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from contracts import crashpoints
from contracts.failures import Failure, FailureCode
from contracts.media import MediumKind
from contracts.storage import ExtentState, Layout, Seal, read_extent
from edge.disk import storage_failures
from edge.growing_body import GrowingBody, UploadPlan
from edge.storage import UploadStore
from tests.conftest import REPOSITORY
from tests.edge_app import names_in

# Two different files of one length that differ only where the media hash does not look.
ONE = bytes(10_000)
OTHER = bytes(2000) + b"x" + bytes(7999)


@pytest.fixture
def store(tmp_path: Path) -> UploadStore:
    return UploadStore(Layout(tmp_path), keep_for=timedelta(days=1))


def upload(store: UploadStore, content: bytes) -> Seal:
    task_id = str(uuid4())
    body = store.begin(task_id, UploadPlan(total_bytes=len(content)))
    body.append([content])
    return store.seal(task_id, body, name="a.mp4", kind=MediumKind.VIDEO)


def test_two_different_files_with_the_same_hash_never_share_an_id(store: UploadStore) -> None:
    one, other = upload(store, ONE), upload(store, OTHER)

    assert other.media_id == f"{one.media_id}-{other.digest[:8]}"
    assert store.layout.source(one.media_id).read_bytes() == ONE
    assert store.layout.source(other.media_id).read_bytes() == OTHER
    assert [upload(store, ONE).media_id, upload(store, OTHER).media_id] == [one.media_id, other.media_id]


def test_files_that_come_in_at_the_same_moment_each_get_their_own_id(store: UploadStore) -> None:
    barrier = threading.Barrier(8)

    def race(index: int) -> tuple[int, str]:
        barrier.wait()
        return index % 2, upload(store, (ONE, OTHER)[index % 2]).media_id

    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(race, range(8)))

    assert len(ids) == 2  # one id per content, whoever was first
    contents = {store.layout.source(media_id).read_bytes(): index for index, media_id in ids}
    assert contents == {ONE: 0, OTHER: 1}
    assert len(names_in(store.layout.media)) == 2


def test_a_task_id_is_given_once(store: UploadStore) -> None:
    task_id = str(uuid4())
    store.begin(task_id, UploadPlan())
    with pytest.raises(Failure) as refused:
        store.begin(task_id, UploadPlan())
    assert refused.value.code is FailureCode.TASK_ID_IN_USE


def test_the_id_of_a_task_whose_upload_has_gone_stays_taken(store: UploadStore) -> None:
    task_id = str(uuid4())
    store.layout.task(task_id).mkdir(parents=True)
    with pytest.raises(Failure, match=task_id):
        store.begin(task_id, UploadPlan())
    assert names_in(store.layout.uploads) == []


def test_an_upload_that_would_fill_the_disk_is_refused_before_it_begins(tmp_path: Path) -> None:
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    store = UploadStore(Layout(tmp_path), keep_for=timedelta(days=1), free_bytes_min=1000)
    with pytest.raises(Failure) as refused:
        store.begin(str(uuid4()), UploadPlan(total_bytes=free))
    assert refused.value.code is FailureCode.STORAGE_FULL


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_says_it_is_full_is_a_named_failure(number: int) -> None:
    with pytest.raises(Failure) as refused, storage_failures():
        raise OSError(number, os.strerror(number))
    assert refused.value.code is FailureCode.STORAGE_FULL


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_medium_for_whose_record_there_is_no_room_holds_no_room_itself(
    store: UploadStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.storage.create_record", full)
    with pytest.raises(Failure, match="storage_full"):
        upload(store, ONE)
    assert names_in(store.layout.media) == []


def test_an_upload_that_the_disk_did_not_let_begin_leaves_its_task_id_free(
    store: UploadStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    task_id = str(uuid4())
    with monkeypatch.context() as without_room:
        without_room.setattr("edge.growing_body.pack_extent", full)
        with pytest.raises(Failure, match="storage_full"):
            store.begin(task_id, UploadPlan())
    assert store.begin(task_id, UploadPlan()).received_bytes == 0


BEGIN = """
import os, sys
from datetime import timedelta
from pathlib import Path

from contracts import crashpoints
from contracts.commands import DetectVideo
from contracts.media import MediumKind
from contracts.options import DetectionOptions
from contracts.storage import Layout, upload_medium
from edge.growing_body import UploadPlan
from edge.resumable import UploadRecord
from edge.storage import UploadStore

root, task_id = sys.argv[1:]
crashpoints.arm(os.environ)
medium = upload_medium(task_id, kind=MediumKind.VIDEO, name="a.mp4", is_growing=True)
command = DetectVideo(task_id=task_id, medium=medium, options=DetectionOptions())
plan = UploadPlan(total_bytes=4, resume_s=5)
UploadStore(Layout(Path(root)), keep_for=timedelta(days=1)).begin(
    task_id, plan, record=UploadRecord(command=command, plan=plan)
)
"""
"""An edge that takes a resumable upload in."""


@pytest.mark.parametrize("point", ["edge.upload.folder-made:1", "file.synced:1"])
def test_an_upload_whose_edge_died_before_others_could_go_on_with_it_leaves_its_task_id_free(
    store: UploadStore, point: str
) -> None:
    task_id = str(uuid4())
    call = [sys.executable, "-c", BEGIN, str(store.layout.root), task_id]
    died = subprocess.run(call, env=os.environ | {crashpoints.VARIABLE: point}, cwd=REPOSITORY, check=False)

    assert died.returncode == -signal.SIGKILL
    assert store.begin(task_id, UploadPlan()).received_bytes == 0


def test_another_fault_of_the_disk_stays_what_it_is() -> None:
    with pytest.raises(OSError, match="Input/output"), storage_failures():
        raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_a_body_says_how_far_it_has_come_and_that_it_lives(tmp_path: Path) -> None:
    body = GrowingBody(tmp_path, UploadPlan(total_bytes=6))
    before = read_extent(tmp_path / "extent")
    assert (before.head_bytes, before.total_bytes, before.state) == (0, 6, ExtentState.WRITING)
    body.append([b"abc"])
    first = read_extent(tmp_path / "extent")
    body.beat()
    assert first.head_bytes == 3
    assert read_extent(tmp_path / "extent").heartbeat_s > first.heartbeat_s > before.heartbeat_s
    body.end(ExtentState.ABORTED)
    body.beat()
    assert read_extent(tmp_path / "extent").state is ExtentState.ABORTED


def test_half_a_tail_is_not_shown(tmp_path: Path) -> None:
    body = GrowingBody(tmp_path, UploadPlan(total_bytes=10, tail_bytes=4))
    body.append([b"67"])
    assert read_extent(tmp_path / "extent").received_bytes == 0
    body.append([b"89012"])
    extent = read_extent(tmp_path / "extent")
    assert (extent.head_bytes, extent.tail_bytes) == (3, 4)
    assert (tmp_path / "body").read_bytes() == b"012\0\0\x006789"


def test_more_bytes_than_announced_are_refused_and_not_written(tmp_path: Path) -> None:
    body = GrowingBody(tmp_path, UploadPlan(total_bytes=3))
    with pytest.raises(Failure) as refused:
        body.append([b"abcd"])
    assert refused.value.code is FailureCode.LENGTH_MISMATCH
    assert (tmp_path / "body").read_bytes() == b""


@pytest.mark.parametrize(("sent", "code"), [(b"ab", FailureCode.LENGTH_MISMATCH), (b"", FailureCode.EMPTY_MEDIA)])
def test_a_body_that_is_not_whole_has_no_seal(tmp_path: Path, sent: bytes, code: FailureCode) -> None:
    body = GrowingBody(tmp_path, UploadPlan(total_bytes=3))
    body.append([sent])
    with pytest.raises(Failure) as refused:
        body.finish()
    assert refused.value.code is code


def test_an_ended_body_takes_no_more_and_ends_once(tmp_path: Path) -> None:
    body = GrowingBody(tmp_path, UploadPlan())
    body.end(ExtentState.ABORTED)
    body.end(ExtentState.SEALED)
    assert read_extent(tmp_path / "extent").state is ExtentState.ABORTED
    with pytest.raises(Failure):
        body.append([b"x"])


def test_an_ended_body_never_speaks_for_the_file_that_has_its_descriptor_now(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    one = GrowingBody(tmp_path / "one", UploadPlan())
    one.append([b"one"])
    one.end(ExtentState.ABORTED)
    GrowingBody(tmp_path / "other", UploadPlan()).append([b"two"])
    with pytest.raises(Failure, match="has ended"):
        one.finish()


def test_a_late_sign_of_life_leaves_the_extent_to_whoever_can_have_the_body(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = GrowingBody(tmp_path, UploadPlan(resume_s=5))
    close, written = os.close, list[bytes]()

    def close_and_beat(descriptor: int) -> None:
        is_body = Path(f"/proc/self/fd/{descriptor}").readlink().name == "body"
        close(descriptor)
        if is_body:
            written.append((tmp_path / "extent").read_bytes())
            body.beat()
            written.append((tmp_path / "extent").read_bytes())

    monkeypatch.setattr(os, "close", close_and_beat)
    body.release()

    before, after = written
    assert before == after


def test_many_small_parts_are_one_file(tmp_path: Path) -> None:
    body = GrowingBody(tmp_path, UploadPlan())
    body.append([bytes([index % 256]) for index in range(5000)])
    assert (tmp_path / "body").read_bytes() == bytes(index % 256 for index in range(5000))
