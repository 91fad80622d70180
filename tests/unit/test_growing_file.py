"""Reading a file that is still arriving, on virtual time."""

import os
import threading
from pathlib import Path

import pytest

from contracts.failures import Failure, FailureCode
from engine.growing_file import (
    IDLE_POLL_S,
    PROMISED_WAIT_MAX_S,
    STARVING_POLL_S,
    WRITER_SILENT_MAX_S,
    GrowingFile,
    MediumFile,
    StoppedError,
)
from engine.reading import Seekable
from tests.uploads import Upload, VirtualTime

CONTENT = bytes(range(256)) * 40


@pytest.fixture
def time() -> VirtualTime:
    return VirtualTime()


def _whole(source: GrowingFile) -> bytes:
    return source.read_whole_at(0, 1 << 30)


def test_a_finished_file_is_read_without_waiting(tmp_path: Path, time: VirtualTime) -> None:
    path = tmp_path / "clip"
    path.write_bytes(CONTENT)
    with GrowingFile(MediumFile(path=path), passing=time.passing()) as source:
        assert _whole(source) == CONTENT
        assert source.total_bytes == len(CONTENT)
        assert source.is_complete
    assert time.sleeps_s == []


def test_what_has_arrived_is_read_at_once_and_the_rest_is_waited_for(tmp_path: Path, time: VirtualTime) -> None:
    upload = Upload(tmp_path, CONTENT, chunks=(100,))
    upload.send_until(300)
    time.on_sleep = upload.step
    with GrowingFile(upload.medium, passing=time.passing()) as source:
        assert source.read_at(250, 1000) == CONTENT[250:300]
        assert time.sleeps_s == []
        assert source.read_at(300, 1000) == CONTENT[300:400]
        assert time.sleeps_s == [STARVING_POLL_S]


@pytest.mark.parametrize("is_total_known", [True, False])
def test_it_ends_when_the_upload_is_sealed(tmp_path: Path, time: VirtualTime, is_total_known: bool) -> None:
    upload = Upload(tmp_path, CONTENT, chunks=(7, 1500), is_total_known=is_total_known)
    time.on_sleep = upload.step
    with GrowingFile(upload.medium, passing=time.passing()) as source:
        assert _whole(source) == CONTENT
        source.wait_until_complete()
        assert source.is_complete
        assert source.total_bytes == len(CONTENT)
        source.raise_if_over()


def test_an_empty_upload_has_no_bytes_and_no_failure(tmp_path: Path, time: VirtualTime) -> None:
    upload = Upload(tmp_path, b"", is_total_known=False)
    time.on_sleep = upload.step
    with GrowingFile(upload.medium, passing=time.passing()) as source:
        assert source.read_at(0, 10) == b""
        source.raise_if_over()


def test_it_is_starving_only_while_it_waits(tmp_path: Path, time: VirtualTime) -> None:
    upload = Upload(tmp_path, CONTENT)
    seen: list[bool] = []
    with GrowingFile(upload.medium, passing=time.passing()) as source:

        def look_and_send() -> None:
            seen.append(source.is_starving)
            upload.step()

        time.on_sleep = look_and_send
        source.read_at(0, 10)
        assert seen == [True]
        assert not source.is_starving


def test_it_looks_less_often_when_nothing_has_come_for_a_second(tmp_path: Path, time: VirtualTime) -> None:
    upload = Upload(tmp_path, CONTENT)
    started_s = time.now_s
    time.on_sleep = lambda: upload.step() if time.now_s > started_s + 2 else upload.beat()
    with GrowingFile(upload.medium, passing=time.passing()) as source:
        source.read_at(0, 10)
    assert time.sleeps_s[0] == STARVING_POLL_S
    assert time.sleeps_s[-1] == IDLE_POLL_S
    assert len(time.sleeps_s) < 250


def test_an_aborted_upload_fails_even_while_bytes_are_left(tmp_path: Path, time: VirtualTime) -> None:
    upload = Upload(tmp_path, CONTENT)
    upload.send_until(5000)
    with GrowingFile(upload.medium, passing=time.passing()) as source:
        assert source.read_at(0, 10)
        upload.abort()
        time.now_s += 1
        assert source.read_at(10, 10) == b""
        with pytest.raises(Failure) as failure:
            source.raise_if_over()
    assert failure.value.code is FailureCode.UPLOAD_ABORTED


def test_a_writer_that_is_silent_for_ten_seconds_has_abandoned_the_upload(tmp_path: Path, time: VirtualTime) -> None:
    upload = Upload(tmp_path, CONTENT)
    with GrowingFile(upload.medium, passing=time.passing()) as source:
        started_s = time.now_s
        assert source.read_at(0, 10) == b""
        with pytest.raises(Failure) as failure:
            source.raise_if_over()
    assert failure.value.code is FailureCode.UPLOAD_ABANDONED
    assert WRITER_SILENT_MAX_S < time.now_s - started_s < WRITER_SILENT_MAX_S + 0.2


def test_a_machine_that_stood_still_has_abandoned_no_upload(tmp_path: Path, time: VirtualTime) -> None:
    """A reader that goes on first finds a heartbeat of long ago."""
    upload = Upload(tmp_path, CONTENT)
    upload.send_until(5000)
    with GrowingFile(upload.medium, passing=time.passing()) as source:
        assert source.read_at(0, 10) == CONTENT[:10]
        time.now_s += 600
        time.on_sleep = lambda: upload.step() if len(time.sleeps_s) > 10 else None
        assert source.read_at(5000, 10) == CONTENT[5000:5010]


def test_a_resumable_upload_is_waited_for_as_long_as_it_may_be_resumed(tmp_path: Path, time: VirtualTime) -> None:
    upload = Upload(tmp_path, CONTENT, resume_s=60)
    upload.send_until(5000)
    with GrowingFile(upload.medium, passing=time.passing()) as source:
        started_s = time.now_s
        time.on_sleep = lambda: upload.step() if time.now_s - started_s > WRITER_SILENT_MAX_S + 50 else None
        assert source.read_at(5000, 10) == CONTENT[5000:5010]
        time.on_sleep = lambda: None
        started_s = time.now_s
        assert source.read_at(len(CONTENT) - 1, 1) == b""
        with pytest.raises(Failure) as failure:
            source.raise_if_over()
    assert failure.value.code is FailureCode.UPLOAD_ABANDONED
    assert WRITER_SILENT_MAX_S + 60 < time.now_s - started_s < WRITER_SILENT_MAX_S + 61


def test_a_writer_that_beats_without_sending_is_waited_for(tmp_path: Path, time: VirtualTime) -> None:
    upload = Upload(tmp_path, CONTENT)
    started_s = time.now_s
    beaten_s = started_s

    def beat_each_second() -> None:
        nonlocal beaten_s
        if time.now_s - started_s > 60:
            upload.step()
        elif time.now_s - beaten_s >= 1:
            beaten_s = time.now_s
            upload.beat()

    time.on_sleep = beat_each_second
    with GrowingFile(upload.medium, passing=time.passing()) as source:
        assert source.read_at(0, 10) == CONTENT[:10]


def test_an_upload_whose_seal_never_comes_is_abandoned(tmp_path: Path, time: VirtualTime) -> None:
    upload = Upload(tmp_path, CONTENT)
    upload.send_until(len(CONTENT))
    with GrowingFile(upload.medium, passing=time.passing()) as source:
        assert _whole(source) == CONTENT
        source.wait_until_complete()
        with pytest.raises(Failure) as failure:
            source.raise_if_over()
    assert failure.value.code is FailureCode.UPLOAD_ABANDONED


def test_the_tail_is_read_at_once_and_the_hole_before_it_is_waited_for(tmp_path: Path, time: VirtualTime) -> None:
    upload = Upload(tmp_path, CONTENT, chunks=(500,), tail_bytes=1000)
    upload.send_until(1500)
    with GrowingFile(upload.medium, passing=time.passing()) as source:
        assert source.read_at(len(CONTENT) - 1000, 5000) == CONTENT[-1000:]
        assert source.read_at(len(CONTENT), 10) == b""
        assert source.read_at(400, 5000) == CONTENT[400:500]
        assert time.sleeps_s == []
        time.on_sleep = upload.step
        assert source.read_at(500, 5000) == CONTENT[500:1000]
        assert _whole(source) == CONTENT


def test_a_seek_from_the_end_waits_until_the_length_is_known(tmp_path: Path, time: VirtualTime) -> None:
    upload = Upload(tmp_path, CONTENT, is_total_known=False)
    time.on_sleep = upload.step
    with GrowingFile(upload.medium, passing=time.passing()) as source:
        reader = Seekable(source)
        assert reader.seek(-10, 2) == len(CONTENT) - 10
        assert reader.read(100) == CONTENT[-10:]
        assert reader.tell() == len(CONTENT)
        reader.seek(5)
        assert reader.seek(3, 1) == 8


def test_a_stop_ends_the_waiting(tmp_path: Path, time: VirtualTime) -> None:
    stop = threading.Event()
    time.on_sleep = stop.set
    with GrowingFile(Upload(tmp_path, CONTENT).medium, stop=stop, passing=time.passing()) as source:
        assert source.read_at(0, 10) == b""
        with pytest.raises(StoppedError):
            source.raise_if_over()
    assert len(time.sleeps_s) == 1


def test_bytes_that_the_extent_promises_may_come_a_little_later(tmp_path: Path, time: VirtualTime) -> None:
    upload = Upload(tmp_path, CONTENT)
    upload.send_until(3000)
    os.truncate(upload.medium.path, 0)
    time.on_sleep = lambda: upload.medium.path.write_bytes(CONTENT[:3000]) and None
    with GrowingFile(upload.medium, passing=time.passing()) as source:
        assert source.read_at(0, 10) == CONTENT[:10]


def test_bytes_that_the_extent_promises_and_that_never_come_are_a_failure(tmp_path: Path, time: VirtualTime) -> None:
    upload = Upload(tmp_path, CONTENT)
    upload.send_until(3000)
    os.truncate(upload.medium.path, 0)
    started_s = time.now_s
    with GrowingFile(upload.medium, passing=time.passing()) as source:
        assert source.read_at(0, 10) == b""
        with pytest.raises(Failure, match="promised") as failure:
            source.raise_if_over()
    assert failure.value.code is FailureCode.MEDIUM_MISSING
    assert time.now_s - started_s < PROMISED_WAIT_MAX_S + 1


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(Failure) as failure:
        GrowingFile(MediumFile(path=tmp_path / "nothing"))
    assert failure.value.code is FailureCode.MEDIUM_MISSING


@pytest.mark.parametrize("broken", [None, b"", b"x" * 48])
def test_a_missing_or_broken_extent_is_a_failure(tmp_path: Path, broken: bytes | None) -> None:
    upload = Upload(tmp_path, CONTENT)
    assert upload.medium.extent is not None
    upload.medium.extent.unlink() if broken is None else upload.medium.extent.write_bytes(broken)
    with pytest.raises(Failure) as failure:
        GrowingFile(upload.medium)
    assert failure.value.code is FailureCode.MEDIUM_MISSING


def test_an_extent_that_vanishes_while_it_is_read_is_a_failure_and_no_exception_inside_a_read(
    tmp_path: Path, time: VirtualTime
) -> None:
    upload = Upload(tmp_path, CONTENT)
    assert upload.medium.extent is not None
    time.on_sleep = upload.medium.extent.unlink
    with GrowingFile(upload.medium, passing=time.passing()) as source:
        assert source.read_at(0, 10) == b""
        with pytest.raises(Failure):
            source.raise_if_over()
