"""What an upload sends, in which order, how fast."""

import io
import math
import os
from pathlib import Path

import pytest

from contracts.options import CameraConfig, DetectionOptions
from detections.calls import read_picture
from detections.uploading import CHUNK_BYTES_MAX, Progress, Upload, config_text

MOOV = (300).to_bytes(4, "big") + b"moov" + bytes(range(46)) * 6 + b"end moov" * 2
MDAT = (1_000_008).to_bytes(4, "big") + b"mdat" + b"video..." * 125_000
FTYP = (16).to_bytes(4, "big") + b"ftypisom\0\0\0\0"


def a_file(folder: Path, content: bytes) -> Path:
    path = folder / "clip.mp4"
    path.write_bytes(content)
    return path


def test_a_file_is_sent_in_order_with_its_length(tmp_path: Path) -> None:
    content = FTYP + MOOV + MDAT

    with Upload(a_file(tmp_path, content)) as upload:
        chunks = list(upload.chunks())

    assert b"".join(chunks) == content
    assert max(map(len, chunks)) == CHUNK_BYTES_MAX
    assert upload.headers()["Content-Length"] == str(len(content))
    assert "X-Tail-Bytes" not in upload.headers()


def test_a_pipe_is_refused_and_nobody_waits_for_its_writer(tmp_path: Path) -> None:
    pipe = tmp_path / "clip.mp4"
    os.mkfifo(pipe)

    with pytest.raises(OSError, match="Not a regular file"):
        Upload(pipe)
    with pytest.raises(OSError, match="Not a regular file"):
        read_picture(pipe, name=None, config=None)


def test_a_file_with_its_index_at_the_end_is_sent_tail_first(tmp_path: Path) -> None:
    content = FTYP + MDAT + MOOV

    with Upload(a_file(tmp_path, content)) as upload:
        body = b"".join(upload.chunks())

    assert upload.headers()["X-Tail-Bytes"] == str(len(MOOV))
    assert body == MOOV + FTYP + MDAT


def test_an_open_file_is_sent_as_it_is_read_without_a_length() -> None:
    with Upload(io.BytesIO(FTYP + MDAT + MOOV), name="camera.mp4") as upload:
        body = b"".join(upload.chunks())

    assert body == FTYP + MDAT + MOOV
    assert upload.progress == Progress(sent_bytes=0, total_bytes=None)
    assert not {"Content-Length", "X-Tail-Bytes"} & set(upload.headers())


def test_an_infinite_pace_is_none(tmp_path: Path) -> None:
    with Upload(a_file(tmp_path, MDAT), bytes_per_s_max=math.inf) as upload:
        assert len(next(upload.chunks())) == CHUNK_BYTES_MAX
        assert upload.wait_s() == 0


def test_an_open_file_needs_a_name() -> None:
    with pytest.raises(ValueError, match="name"):
        Upload(io.BytesIO(b"x"))


def test_any_name_fits_into_a_header() -> None:
    upload = Upload(io.BytesIO(b"x"), name="Straße nach\r\nX-Evil: 1 🚗.mp4")

    assert upload.headers()["X-Filename"] == "Stra%C3%9Fe%20nach%0D%0AX-Evil%3A%201%20%F0%9F%9A%97.mp4"


def test_a_missing_file_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Upload(tmp_path / "nothing.mp4")


def test_a_file_that_shrinks_meanwhile_is_not_completed_with_anything(tmp_path: Path) -> None:
    path = a_file(tmp_path, bytes(1_000_000))

    with Upload(path) as upload:
        chunks = upload.chunks()
        next(chunks)
        os.truncate(path, 600_000)

        with pytest.raises(OSError, match="got shorter"):
            list(chunks)


def test_a_file_that_grows_meanwhile_is_sent_as_it_was(tmp_path: Path) -> None:
    path = a_file(tmp_path, bytes(1_000_000))

    with Upload(path) as upload:
        with path.open("ab") as more:
            more.write(b"later")
        body = b"".join(upload.chunks())

    assert len(body) == 1_000_000


def test_a_throttled_upload_goes_in_small_even_steps(tmp_path: Path) -> None:
    with Upload(a_file(tmp_path, bytes(100_000)), bytes_per_s_max=500_000) as upload:
        chunks = list(upload.chunks())

    assert {len(chunk) for chunk in chunks} == {10_000}


def test_the_next_chunk_waits_for_what_was_sent(tmp_path: Path) -> None:
    with Upload(a_file(tmp_path, bytes(100_000)), bytes_per_s_max=1_000) as upload:
        first_s = upload.wait_s()
        upload.count(bytes(5_000), None)
        then_s = upload.wait_s()

    assert first_s == 0
    assert 4.5 < then_s <= 5


def test_an_unthrottled_upload_never_waits(tmp_path: Path) -> None:
    with Upload(a_file(tmp_path, bytes(10))) as upload:
        upload.count(bytes(10**9), None)

        assert upload.wait_s() == 0


def test_progress_is_told_as_it_goes(tmp_path: Path) -> None:
    told: list[Progress] = []
    with Upload(a_file(tmp_path, bytes(600_000))) as upload:
        for chunk in upload.chunks():
            upload.count(chunk, told.append)

    assert [progress.sent_bytes for progress in told] == [CHUNK_BYTES_MAX, 2 * CHUNK_BYTES_MAX, 600_000]
    assert {progress.total_bytes for progress in told} == {600_000}


def test_only_what_differs_from_the_defaults_is_asked_for() -> None:
    options = DetectionOptions(frame_period_recognition=1, camera_config=CameraConfig(current_height=400.0))

    assert config_text(DetectionOptions()) == "{}"
    assert '"frame_period_recognition":1,"camera_config":{"focal_length":24.0' in config_text(options)


def test_fields_and_json_are_sent_as_they_are() -> None:
    assert config_text({"tiling": "off"}) == '{"tiling":"off"}'
    assert config_text('{"tiling": "off"}') == '{"tiling": "off"}'
