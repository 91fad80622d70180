"""Records appear whole or not at all; extents are never read half-written."""

import errno
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import json

from contracts.detections import Counts
from contracts.events import FrameDetected
from contracts.results import Checkpoint, Reported, TakenOver, last_checkpoint, latest_epoch, reports
from contracts.storage import (
    EXTENT_BYTES,
    Extent,
    ExtentState,
    Layout,
    Seal,
    create_record,
    pack_extent,
    read_extent,
    read_record,
    replace_record,
    unpack_extent,
)

TASK_ID = "00000000-0000-0000-0000-000000000001"
SEAL = Seal(media_id="a", size_bytes=1, digest="d")

extents = st.builds(
    Extent,
    head_bytes=st.integers(0, 2**63),
    tail_bytes=st.integers(0, 2**63),
    total_bytes=st.none() | st.integers(0, 2**62),
    state=st.sampled_from(ExtentState),
    heartbeat_s=st.floats(0, 1e12),
    resume_s=st.just(120),
)


@given(extents)
def test_an_extent_comes_back_as_it_was_packed(extent: Extent) -> None:
    packed = pack_extent(extent)

    assert len(packed) == EXTENT_BYTES
    assert unpack_extent(packed) == extent


@given(extents, extents, st.integers(1, 43))
def test_a_torn_extent_is_noticed(before: Extent, after: Extent, cut: int) -> None:
    torn = pack_extent(after)[:cut] + pack_extent(before)[cut:]

    assert unpack_extent(torn) in {None, before, after}


def test_an_extent_of_an_older_writer_is_read_as_one_that_is_not_resumed() -> None:
    extent = Extent(head_bytes=5, total_bytes=10, heartbeat_s=1.5, resume_s=120)
    older = pack_extent(extent)[:44] + bytes(4)  # it left the last bytes empty, under the same checksum

    assert unpack_extent(older) == Extent(head_bytes=5, total_bytes=10, heartbeat_s=1.5)


def test_a_missing_extent_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_extent(tmp_path / "extent")


def test_a_file_that_is_no_extent_is_refused_in_bounded_time(tmp_path: Path) -> None:
    path = tmp_path / "extent"
    path.write_bytes(b"x" * EXTENT_BYTES)

    with pytest.raises(ValueError, match="no extent"):
        read_extent(path)


def test_a_record_is_created_once(tmp_path: Path) -> None:
    path = tmp_path / "new" / "seal.json"

    assert create_record(path, SEAL)
    assert not create_record(path, Seal(media_id="b", size_bytes=2, digest="e"))
    assert read_record(path, Seal) == SEAL


def test_of_many_who_create_a_record_one_wins(tmp_path: Path) -> None:
    path = tmp_path / "seal.json"
    wins: list[int] = []
    start = threading.Barrier(8)

    def create(number: int) -> None:
        start.wait()
        if create_record(path, Seal(media_id=str(number), size_bytes=1, digest="d")):
            wins.append(number)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    sealed = read_record(path, Seal)
    assert sealed is not None
    assert wins == [int(sealed.media_id)]


def test_replacing_leaves_no_temporary_file(tmp_path: Path) -> None:
    replace_record(tmp_path / "seal.json", SEAL)
    replace_record(tmp_path / "seal.json", SEAL)
    create_record(tmp_path / "seal.json", SEAL)

    assert [entry.name for entry in tmp_path.iterdir()] == ["seal.json"]


def test_a_record_for_which_there_is_no_room_leaves_no_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    for write in (create_record, replace_record):
        with pytest.raises(OSError, match="No space"):
            write(tmp_path / "seal.json", SEAL)

    assert list(tmp_path.iterdir()) == []


def test_a_record_that_is_not_there_is_none(tmp_path: Path) -> None:
    assert read_record(tmp_path / "seal.json", Seal) is None


def report(sequence: int, *, epoch: int = 1) -> Reported:
    return Reported(event=FrameDetected(task_id=TASK_ID, media_id="m", sequence=sequence, epoch=epoch))


def checkpoint(frame_index: int) -> Checkpoint:
    return Checkpoint(frame_index=frame_index, at_s=0.0, counts=Counts(), sequence=0)


def write_epoch(layout: Layout, epoch: int, *records: object, torn: bytes = b"") -> int:
    content = b"".join(json.encode(record) + b"\n" for record in records)
    path = layout.results(TASK_ID, epoch=epoch)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content + torn)
    return len(content)


def test_a_task_without_results_has_none(tmp_path: Path) -> None:
    layout = Layout(tmp_path)

    assert latest_epoch(layout, TASK_ID) == 0
    assert list(reports(layout, TASK_ID)) == []
    assert last_checkpoint(layout, TASK_ID) is None


def test_a_line_torn_by_a_crash_does_not_count(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    write_epoch(layout, 1, report(1), checkpoint(4), torn=json.encode(report(2))[:30])

    assert [event.sequence for event in reports(layout, TASK_ID)] == [1]


def test_what_a_stale_holder_appends_after_it_was_taken_over_is_never_read(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    counted = write_epoch(layout, 1, report(1), checkpoint(4))
    write_epoch(layout, 1, report(1), checkpoint(4), report(99), checkpoint(99))
    write_epoch(layout, 2, TakenOver(previous_epoch=1, previous_bytes=counted), report(2, epoch=2), checkpoint(8))

    assert [event.sequence for event in reports(layout, TASK_ID)] == [1, 2]
    assert last_checkpoint(layout, TASK_ID) == checkpoint(8)


def test_a_chain_of_takers_reads_as_one_sequence(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    first = write_epoch(layout, 1, report(1), checkpoint(4))
    second = write_epoch(
        layout, 2, TakenOver(previous_epoch=1, previous_bytes=first), report(2, epoch=2), checkpoint(8)
    )
    write_epoch(layout, 10, TakenOver(previous_epoch=2, previous_bytes=second), report(3, epoch=10), checkpoint(12))

    assert latest_epoch(layout, TASK_ID) == 10
    assert [event.sequence for event in reports(layout, TASK_ID)] == [1, 2, 3]
    assert last_checkpoint(layout, TASK_ID) == checkpoint(12)
