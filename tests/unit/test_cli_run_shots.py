"""`detections run --shots`: scene lists, pictures of shots, and what is refused."""

import csv
import io
from pathlib import Path

import cv2
import msgspec
import pytest
from typer.testing import CliRunner, Result

from contracts.events import DetectionEvent
from contracts.formats import SCENE_COLUMNS
from contracts.shots import Shot
from detections.cli import build
from detections.model_files import find_shot_model
from tests.cut_finder import write_scenes
from tests.media import RED, Square, write_audio_only, write_image
from tests.scripted import write_model

ENDS = [29, 69, 119]
"""Last frames of the shots of `clip`; the shipped model may see a boundary of plain colours in two frames."""
RED_SQUARE = Square(rgb=RED, x=40, y=40, side=40)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    return write_scenes(folder / "film.mp4", 30, 70, frames=120, over=(RED_SQUARE,))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(build(), ["run", *map(str, arguments)])


def events_of(result: Result) -> list[DetectionEvent]:
    return [msgspec.json.decode(line, type=DetectionEvent) for line in result.stdout.splitlines()]


def shots_of(events: list[DetectionEvent]) -> list[Shot]:
    return [shot for event in events for shot in event.shots or ()]


def test_a_video_gives_a_line_for_each_shot(clip: Path) -> None:
    result = run(clip, "--shots")

    events = events_of(result)
    assert result.exit_code == 0
    assert [shot.end_frame for shot in shots_of(events)] == ENDS
    first, _, last = shots_of(events)
    assert (first.start_time, first.end_time) == ("00:00:00.000", "00:00:01.200")
    assert first.transition == "cut"
    assert (first.confidence or 0) > 0.5
    assert (last.transition, last.confidence) == (None, None)
    assert [event.annotations for event in events] == [[], [], []]
    assert result.stderr.splitlines()[-1].startswith("3 shots, 120 of 120 frames looked at")


def test_csv_is_a_scene_list(clip: Path) -> None:
    header, *rows = csv.reader(io.StringIO(run(clip, "--shots", "-f", "csv").stdout))

    assert tuple(header) == SCENE_COLUMNS
    assert rows[0] == [
        *("1", "1", "00:00:00.000", "0.000"),
        *("30", "00:00:01.200", "1.200", "30", "00:00:01.200", "1.200"),
    ]
    assert [(row[0], row[4], row[5]) for row in rows[1:]] == [("2", "70", "00:00:02.800"), ("3", "120", "00:00:04.800")]


def test_json_is_one_array(clip: Path) -> None:
    assert len(msgspec.json.decode(run(clip, "--shots", "-f", "json").stdout, type=list[DetectionEvent])) == 3


def test_the_options_of_shots_are_those_of_the_service(clip: Path) -> None:
    options = '{"min_shot_frames": 50, "shot_threshold": 0.4}'
    assert [shot.end_frame for shot in shots_of(events_of(run(clip, "--shots", "--config", options)))] == [69, 119]
    assert run(clip, "--shots", "--config", '{"shot_threshold": 2}').exit_code == 2


def test_each_shot_has_its_middle_frame_as_a_picture(clip: Path, tmp_path: Path) -> None:
    result = run(clip, "--shots", "--thumbnails", tmp_path / "pictures")

    assert result.exit_code == 0
    names = [f"film-Scene-{number:03d}.jpg" for number in (1, 2, 3)]
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == names
    colours = [cv2.imread(str(tmp_path / "pictures" / name))[10, 10] for name in names]
    assert [int(colour.argmax()) for colour in colours[1:]] == [1, 0]  # green, blue
    assert colours[0].tolist() == pytest.approx([110] * 3, abs=12)


def test_objects_and_shots_come_in_one_pass(clip: Path, tmp_path: Path) -> None:
    model = write_model(tmp_path / "squares.json")
    config = '{"shots": true, "frame_period_recognition": 1, "frame_recognition_seconds": 3600}'
    result = run(clip, "-m", model, "--config", config)

    events = events_of(result)
    assert [shot.end_frame for shot in shots_of(events)] == ENDS
    starts = [shot.start_frame for shot in shots_of(events)]
    assert [event.frame_index for event in events if event.annotations] == starts
    assert f"in {len(events)} reports, 3 shots, 120 of 120 frames looked at" in result.stderr


def test_the_official_weights_are_used_once_they_lie_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELS_DIR", str(tmp_path))
    shipped = find_shot_model(None)
    assert isinstance(shipped, Path)
    assert shipped.name == "shots-small.onnx"
    (tmp_path / "transnetv2.onnx").write_bytes(shipped.read_bytes())
    assert find_shot_model(None) == tmp_path / "transnetv2.onnx"
    assert find_shot_model("shots-small") == shipped


def test_a_picture_has_no_shots(tmp_path: Path) -> None:
    result = run(write_image(tmp_path / "picture.png"), "--shots")
    assert result.exit_code == 1
    assert "no_video_stream" in result.stderr


def test_sound_alone_has_no_shots(tmp_path: Path) -> None:
    result = run(write_audio_only(tmp_path / "sound.mp4"), "--shots")
    assert result.exit_code == 1
    assert "no_video_stream" in result.stderr


def test_a_model_for_objects_is_refused_for_shots(clip: Path) -> None:
    result = run(clip, "--shots", "-m", "aerial-vehicle")
    assert result.exit_code == 1
    assert "no model for shot boundaries" in result.stderr


def test_a_model_for_shots_is_refused_for_objects(clip: Path) -> None:
    result = run(clip, "-m", "shots-small")
    assert result.exit_code == 1
    assert "model_not_a_detector" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("--thumbnails", "pictures"),
        ("--shots", "--save-video", "out.mp4"),
        ("--shots", "--thumbnails", "no/such/folder"),
    ],
    ids=["pictures without shots", "boxes without objects", "no folder"],
)
def test_what_cannot_be_is_refused_before_the_work(clip: Path, arguments: tuple[str, ...]) -> None:
    assert run(clip, *arguments).exit_code == 2


@pytest.mark.parametrize("arguments", [("--thumbnails", "pictures"), ("--shots", "--thumbnails", "no/such/folder")])
def test_submit_refuses_the_same_before_anything_is_sent(arguments: tuple[str, ...], clip: Path) -> None:
    nobody = "http://127.0.0.1:1"

    result = CliRunner().invoke(build(), ["submit", str(clip), "--url", nobody, *arguments])

    assert result.exit_code == 2
    assert "--thumbnails" in result.stderr
