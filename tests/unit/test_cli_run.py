"""`detections run`: the engine on one file, and what stdout, stderr and the exit code say."""

import csv
import io
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import msgspec
import numpy as np
import onnxruntime
import pytest
from typer.testing import CliRunner, Result

from contracts.events import DetectionEvent
from detections.cli import build
from tests.conftest import REPOSITORY
from tests.media import GREEN, RED, Square, write_audio_only, write_image, write_no_frames, write_video
from tests.scripted import write_model
from tests.tiny_models import write_colour_model

EVERY_FRAME = '{"frame_period_recognition": 1, "frame_recognition_seconds": 0}'
SURE_OF_NOTHING = '{"probability_threshold": 0.1}'
TASK_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "squares.json")


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_video(tmp_path / "clip.mp4", frames=20, squares=(Square(rgb=RED, x=16, y=32, dx=2),))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(build(), ["run", *map(str, arguments)])


def events_of(result: Result) -> list[DetectionEvent]:
    return [msgspec.json.decode(line, type=DetectionEvent) for line in result.stdout.splitlines()]


def last_line(result: Result) -> str:
    return result.stderr.splitlines()[-1]


# What comes out


def test_a_video_gives_a_line_for_each_report(clip: Path, model: Path) -> None:
    result = run(clip, "-m", model, "--config", EVERY_FRAME)

    events = events_of(result)
    assert result.exit_code == 0
    assert [event.frame_index for event in events] == list(range(20))
    assert [event.sequence for event in events] == list(range(1, 21))
    assert events[10].video_time == "00:00:00.400"
    [seen] = events[10].annotations
    assert seen.label == "red"
    assert (seen.center_x * 160, seen.center_y * 128) == pytest.approx((16 + 20 + 16, 32 + 16), abs=1.5)


def test_every_event_names_the_task_and_the_content(clip: Path, model: Path) -> None:
    events = events_of(run(clip, "-m", model, "--config", EVERY_FRAME))

    assert len({event.task_id for event in events}) == len({event.media_id for event in events}) == 1
    assert TASK_ID.fullmatch(events[0].task_id)
    again = events_of(run(clip, "-m", model))
    assert again[0].media_id == events[0].media_id
    assert again[0].task_id != events[0].task_id


def test_the_media_id_is_the_content_hash(tmp_path: Path, model: Path) -> None:
    first, same, other = (tmp_path / name for name in ("a.png", "b.png", "c.png"))
    write_image(first)
    same.write_bytes(first.read_bytes())
    write_image(other, background=(1, 2, 3))

    ids = [events_of(run(path, "-m", model))[0].media_id for path in (first, same, other)]

    assert ids[0] == ids[1] != ids[2]
    assert all(re.fullmatch(r"[0-9a-f]{16}", media_id) for media_id in ids)


def test_a_picture_gives_one_event_also_when_it_shows_nothing(tmp_path: Path, model: Path) -> None:
    [event] = events_of(run(write_image(tmp_path / "empty.png", squares=()), "-m", model))

    assert (event.annotations, event.sequence) == ([], 1)


def test_a_file_without_an_extension_is_what_its_content_is(tmp_path: Path, model: Path, clip: Path) -> None:
    picture = tmp_path / "picture"
    picture.write_bytes(write_image(tmp_path / "p.png").read_bytes())
    video = clip.rename(tmp_path / "video")

    assert len(events_of(run(picture, "-m", model))[0].annotations) == 1
    assert events_of(run(video, "-m", model))[0].video_time == "00:00:00.000"


def test_json_is_one_array(clip: Path, model: Path) -> None:
    result = run(clip, "-m", model, "--format", "json", "--config", EVERY_FRAME)

    assert len(msgspec.json.decode(result.stdout, type=list[DetectionEvent])) == 20


def test_csv_has_a_row_for_each_detection(tmp_path: Path, model: Path) -> None:
    squares = (Square(rgb=RED, x=8), Square(rgb=GREEN, x=100))
    result = run(write_image(tmp_path / "two.png", squares=squares), "-m", model, "-f", "csv")

    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert sorted(row["label"] for row in rows) == ["green", "red"]


def test_options_are_honoured(tmp_path: Path, model: Path) -> None:
    picture = write_image(tmp_path / "two.png", squares=(Square(rgb=RED, x=8), Square(rgb=GREEN, x=100)))

    [event] = events_of(run(picture, "-m", model, "--config", '{"probability_threshold": 0.7}'))

    assert [seen.label for seen in event.annotations] == ["red"]


def test_an_unknown_option_is_named_and_ignored(clip: Path, model: Path) -> None:
    result = run(clip, "-m", model, "--config", '{"colour": 1}')

    assert result.exit_code == 0
    assert "unknown fields of --config are ignored: colour" in result.stderr


def test_the_summary_goes_to_stderr(clip: Path, model: Path) -> None:
    result = run(clip, "-m", model, "--config", EVERY_FRAME)

    assert last_line(result).startswith("20 detections in 20 reports, 20 of 20 frames looked at, ")


def test_frames_that_fail_are_told(clip: Path, tmp_path: Path) -> None:
    result = run(clip, "-m", write_model(tmp_path / "frail.json", fail_every=5), "--config", EVERY_FRAME)

    assert result.exit_code == 0
    assert "16 of 20 frames looked at, 4 failed" in last_line(result)


def test_a_cut_video_says_so_after_what_could_be_decoded(tmp_path: Path, model: Path) -> None:
    clip = write_video(tmp_path / "noisy.mp4", frames=50, noise=40)
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])

    result = run(clip, "-m", model, "--config", EVERY_FRAME)

    assert result.exit_code == 0
    assert "the file is cut or damaged" in last_line(result)


# The annotated video


def test_the_saved_video_has_boxes_round_what_was_seen(clip: Path, model: Path, tmp_path: Path) -> None:
    target = tmp_path / "drawn.mp4"
    result = run(clip, "-m", model, "--save-video", target)

    assert result.exit_code == 0, result.stderr
    before, after = frames_of(clip), frames_of(target)
    assert len(after) == len(before) == 20
    changed = np.abs(after[0].astype(int) - before[0].astype(int)).max(axis=2) > 60
    assert changed[32, 16:48].mean() > 0.8  # the upper edge of the square at (16, 32)
    assert not changed[100:, 100:].any()


def test_every_look_is_drawn_though_few_are_reported(clip: Path, model: Path, tmp_path: Path) -> None:
    target = tmp_path / "drawn.mp4"
    result = run(clip, "-m", model, "--save-video", target, "--config", '{"frame_recognition_seconds": 3600}')

    assert len(events_of(result)) == 1
    before, after = frames_of(clip), frames_of(target)
    changed = np.abs(after[16].astype(int) - before[16].astype(int)).max(axis=2) > 60
    assert changed[32, 16 + 32 : 48 + 32].mean() > 0.8  # where the square is by then


def frames_of(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


@pytest.mark.parametrize("target", ["nowhere/out.mp4", "out.avi", "clip.mp4"])
def test_a_target_that_cannot_be_is_refused_before_the_work(
    target: str, clip: Path, model: Path, tmp_path: Path
) -> None:
    content = clip.read_bytes()

    result = run(clip, "-m", model, "--save-video", tmp_path / target)

    assert (result.exit_code, result.stdout) == (2, "")
    assert clip.read_bytes() == content


def test_a_picture_cannot_be_saved_as_a_video(tmp_path: Path, model: Path) -> None:
    result = run(write_image(tmp_path / "a.png"), "-m", model, "--save-video", tmp_path / "a.mp4")

    assert (result.exit_code, result.stdout) == (2, "")


# Bad input: one line, no traceback


def bad_files(folder: Path) -> dict[str, Path]:
    files = {name: folder / name for name in ("empty.mp4", "random.mp4", "random.jpg", "random", "list.mp4")}
    files["empty.mp4"].write_bytes(b"")
    for name in ("random.mp4", "random.jpg", "random"):
        files[name].write_bytes(bytes(range(7, 250)) * 40)
    files["list.mp4"].write_text("ffconcat version 1.0\nfile other.mp4\n")
    return files | {
        "audio.mp4": write_audio_only(folder / "audio.mp4"),
        "none.mp4": write_no_frames(folder / "none.mp4"),
        "missing.mp4": folder / "missing.mp4",
        "folder.mp4": folder,
    }


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("empty.mp4", "empty_media"),
        ("random.mp4", "unsupported_media"),
        ("random.jpg", "unsupported_media"),
        ("random", "unsupported_media"),
        ("list.mp4", "unsupported_media"),
        ("audio.mp4", "no_video_stream"),
        ("none.mp4", "no_frames"),
        ("missing.mp4", "medium_missing"),
        ("folder.mp4", "medium_missing"),
    ],
)
def test_a_bad_file_is_one_line_with_its_code(name: str, code: str, tmp_path: Path, model: Path) -> None:
    result = run(bad_files(tmp_path)[name], "-m", model)

    assert result.exit_code == 1
    assert last_line(result).startswith(f"detections: {code}: ")
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("{", "malformed_options"),
        ("[]", "malformed_options"),
        ('{"frame_period_recognition": 0}', "frame_period_recognition: Expected `int` >= 1"),
        ('{"probability_threshold": 1.5}', "probability_threshold"),
    ],
)
def test_a_bad_config_is_wrong_usage(config: str, said: str, clip: Path, model: Path) -> None:
    result = run(clip, "-m", model, "--config", config)

    assert (result.exit_code, result.stdout) == (2, "")
    assert said in last_line(result)


def test_a_model_that_is_not_there_is_named_with_the_places(clip: Path) -> None:
    result = run(clip, "-m", "nope")

    assert result.exit_code == 1
    assert last_line(result).startswith("detections: model_missing: no model 'nope' (here, ")


def test_a_broken_model_is_refused(clip: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a model")

    result = run(clip, "-m", broken)

    assert result.exit_code == 1
    assert last_line(result).startswith("detections: model_corrupt: ")


# The process


def start(*arguments: object, **pipes: int) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "detections", "run", *map(str, arguments)]
    return subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **pipes)


@pytest.fixture
def endless(tmp_path: Path) -> list[object]:
    """Arguments of a run that takes minutes and reports often."""
    clip = write_video(tmp_path / "long.mp4", frames=400)
    return [clip, "-m", write_model(tmp_path / "slow.json", delay_s=0.5), "--config", EVERY_FRAME]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_ends_the_output_in_good_order(endless: list[object], number: signal.Signals) -> None:
    process = start(*endless, "-f", "json")
    assert process.stdout is not None
    assert process.stderr is not None
    first = process.stdout.readline()
    process.send_signal(number)
    interrupted_s = time.monotonic()

    with process.stdout, process.stderr:
        output, errors = first + process.stdout.read(), process.stderr.read()

    assert process.wait(timeout=60) == 130
    assert time.monotonic() - interrupted_s < 60
    assert msgspec.json.decode(output, type=list[DetectionEvent])
    assert b"Traceback" not in errors


def test_an_interrupt_ends_a_large_picture_between_two_tiles(tmp_path: Path) -> None:
    picture = write_image(tmp_path / "large.png", size=(1600, 1280))
    process = start(picture, "-m", write_model(tmp_path / "slow.json", delay_s=1.0), "--config", '{"colour": 1}')
    assert process.stdout is not None
    assert process.stderr is not None
    process.stderr.readline()  # what it says of the config comes before two minutes of tiles
    process.send_signal(signal.SIGINT)
    interrupted_s = time.monotonic()

    with process.stdout, process.stderr:
        assert process.stdout.read() == b""
        assert b"Traceback" not in process.stderr.read()

    assert process.wait(timeout=60) == 130
    assert time.monotonic() - interrupted_s < 60


def test_a_reader_that_has_seen_enough_ends_it_quietly(endless: list[object]) -> None:
    process = start(*endless)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()

    errors = process.stderr.read()

    assert process.wait(timeout=60) != 0
    assert b"Traceback" not in errors
    process.stderr.close()


def test_results_and_progress_do_not_mix_on_a_terminal(clip: Path, model: Path) -> None:
    leader, follower = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "detections", "run", str(clip), "-m", str(model), "--config", EVERY_FRAME],
        cwd=REPOSITORY,
        stdout=follower,
        stderr=follower,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "80"},
    )
    os.close(follower)
    shown = read_terminal(leader)
    assert process.wait(timeout=60) == 0

    lines = [line.rsplit("\r\x1b[2K", 1)[-1] for line in shown.replace("\r\n", "\n").split("\n")]
    assert sum(line.startswith('{"annotations"') and line.endswith("}") for line in lines) == 20
    assert "detections" in shown


def read_terminal(leader: int) -> str:
    shown = b""
    try:
        while part := os.read(leader, 65536):
            shown += part
    except OSError:  # the other side was closed: how a terminal ends on Linux
        pass
    os.close(leader)
    return shown.decode()


# Real models and media


@pytest.mark.real_media
def test_the_shipped_model_finds_vehicles_from_the_air(shared_data: Path) -> None:
    result = run(shared_data / "videos" / "clips" / "aerial_seq_street02_1284x376.mp4", "--config", EVERY_FRAME)

    events = events_of(result)
    assert len(events) == 20
    assert all(20 <= sum(seen.confidence > 0.5 for seen in event.annotations) <= 45 for event in events)


@pytest.mark.real_media
def test_a_coco_model_names_what_is_in_a_photo(shared_data: Path) -> None:
    result = run(
        shared_data / "images" / "photos" / "bus.jpg", "-m", shared_data / "models" / "yolox_nano_dynbatch.onnx"
    )

    [event] = events_of(result)
    assert {"bus", "person"} <= {seen.label for seen in event.annotations}


def test_a_provider_that_is_missing_is_told_and_the_cpu_used(tmp_path: Path) -> None:
    picture = write_image(tmp_path / "a.png")
    model = write_colour_model(tmp_path / "model.onnx")

    result = run(picture, "-m", model, "--provider", "cuda", "--config", SURE_OF_NOTHING)

    assert result.exit_code == 0, result.stderr
    assert len(events_of(result)) == 1
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        assert "warning: CUDAExecutionProvider is not available" in result.stderr


def test_openvino_sees_what_the_default_sees(tmp_path: Path) -> None:
    picture = write_image(tmp_path / "a.png")
    model = write_colour_model(tmp_path / "model.onnx")
    options = ("-m", model, "--config", '{"probability_threshold": 0.1, "tiling": "off"}')

    [exact], [fast] = (events_of(run(picture, *options, *more)) for more in ((), ("--provider", "openvino")))

    assert len(exact.annotations) == len(fast.annotations) == 1
    assert fast.annotations[0].width == pytest.approx(exact.annotations[0].width, rel=0.02)
