"""A model in eight bits is kept only if it still sees what it saw."""

from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from typer.testing import CliRunner, Result

from contracts.failures import Failure, FailureCode
from detections.cli import build
from detections.models_quantise import pictures_of
from engine.drawing import write_picture
from engine.images import read_picture
from engine.loading import load_detector
from engine.quantising import PICTURES_MAX, quantise
from engine.side_files import SideFile
from tests.media import write_video
from tests.pictures import ArrayPicture
from tests.tiny_models import write_convolved_model


def colours(count: int = 12) -> list[ArrayPicture]:
    """Pictures of one colour each, of which the convolved model is sure."""
    random = np.random.default_rng(1)
    return [ArrayPicture(np.full((64, 64, 3), random.integers((60, 60, 160), 255, 3), np.uint8)) for _ in range(count)]


def operators(model: Path) -> list[str]:
    return [node.op_type for node in onnx.load(model).graph.node]


@pytest.mark.parametrize("opset", [12, 17])
def test_a_quantised_model_sees_the_same_and_keeps_its_head_in_float(tmp_path: Path, opset: int) -> None:
    model = write_convolved_model(tmp_path / "model.onnx", opset=opset)
    target = tmp_path / "small.onnx"

    agreement = quantise(model, target, colours())

    assert agreement.is_enough
    assert (agreement.expected, agreement.pictures) == (6, 6)
    made = operators(target)
    assert "QuantizeLinear" in made
    assert made[made.index("GlobalAveragePool") :] == ["GlobalAveragePool", "Reshape", "MatMul"]
    assert load_detector(target).model.head == "end_to_end", "its metadata came along"


def test_a_model_that_lost_its_detections_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    model = write_convolved_model(tmp_path / "model.onnx", swing=1e5)

    with pytest.raises(Failure, match=r"lost its detections in eight bits: recall 0\.000 \(0 of 6") as caught:
        quantise(model, tmp_path / "small.onnx", colours())

    assert caught.value.code is FailureCode.MODEL_CORRUPT
    assert list(tmp_path.iterdir()) == [model]


def test_forced_it_is_written_and_the_loss_told(tmp_path: Path) -> None:
    model = write_convolved_model(tmp_path / "model.onnx", swing=1e5)

    agreement = quantise(model, tmp_path / "small.onnx", colours(), is_forced=True)

    assert not agreement.is_enough
    assert (tmp_path / "small.onnx").exists()


def test_a_model_that_sees_nothing_in_the_pictures_is_refused(tmp_path: Path) -> None:
    black = [ArrayPicture(np.zeros((64, 64, 3), np.uint8))] * 4

    with pytest.raises(Failure, match="nothing to compare"):
        quantise(write_convolved_model(tmp_path / "model.onnx"), tmp_path / "small.onnx", black)


def test_what_is_said_of_the_model_comes_along_without_the_checksum(tmp_path: Path) -> None:
    model = write_convolved_model(tmp_path / "model.onnx")
    said = SideFile(description="colours", classes=["colour"])
    (tmp_path / "model.json").write_bytes(msgspec.json.encode(said))

    quantise(model, tmp_path / "small.onnx", colours())

    assert msgspec.json.decode((tmp_path / "small.json").read_bytes(), type=SideFile) == said
    assert load_detector(tmp_path / "small.onnx").model.label(0) == "colour"


def test_one_picture_is_too_few(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="1 pictures, at least 2"):
        quantise(write_convolved_model(tmp_path / "model.onnx"), tmp_path / "small.onnx", colours(1))


# The command


def command(*arguments: object) -> Result:
    return CliRunner().invoke(build(), ["models", "quantise", *map(str, arguments)])


def test_the_command_says_what_became_of_the_model(tmp_path: Path) -> None:
    model, target = write_convolved_model(tmp_path / "model.onnx"), tmp_path / "small.onnx"
    folder = tmp_path / "pictures"
    folder.mkdir()
    for at, picture in enumerate(colours(8)):
        write_picture(folder / f"{at}.png", picture.pixels)

    result = command(model, "--calibration", folder, "-o", target)

    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[0].startswith(f"written   {target} (")
    assert result.stdout.splitlines()[1].startswith("agreement recall 1.000 (4 of 4")


@pytest.mark.parametrize("name", ["model.onnx", "small.engine", "nowhere/small.onnx"])
def test_a_target_that_cannot_be_is_refused_before_the_work(tmp_path: Path, name: str) -> None:
    model = write_convolved_model(tmp_path / "model.onnx")

    result = command(model, "--calibration", tmp_path, "-o", tmp_path / name)

    assert result.exit_code == 2


def test_frames_of_a_video_are_chosen_evenly(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip", frames=PICTURES_MAX * 2 + 6)

    chosen = [getattr(frame, "index", None) for frame in pictures_of(clip)]

    assert chosen == list(range(0, PICTURES_MAX * 2 + 6, 3))


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no picture")

    with pytest.raises(Failure, match="no picture in"):
        pictures_of(tmp_path)


def test_of_many_pictures_the_one_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()

    with pytest.raises(Failure, match=r"empty\.jpg: the file has no bytes"):
        pictures_of(tmp_path)


# Real models


@pytest.mark.real_media
def test_a_real_model_that_does_not_survive_is_refused(shared_data: Path, tmp_path: Path) -> None:
    photos = sorted((shared_data / "images" / "coco_val128").rglob("*.jpg"))[:6]
    model = shared_data / "models" / "yolox_nano_dynbatch.onnx"

    with pytest.raises(Failure, match="lost its detections"):
        quantise(model, tmp_path / "small.onnx", [read_picture(path) for path in photos])

    assert list(tmp_path.iterdir()) == []


@pytest.mark.real_media
@pytest.mark.parametrize("name", ["agpl_NEGATIVE_dead_scores_qdq", "agpl_yolov8n_int8"])
def test_a_model_in_eight_bits_is_not_quantised_again(shared_data: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(Failure, match="quantised already") as caught:
        quantise(shared_data / "models" / f"{name}.onnx", tmp_path / "small.onnx", colours(2))

    assert caught.value.code is FailureCode.MODEL_CORRUPT


@pytest.mark.real_media
def test_a_model_that_suppresses_boxes_in_its_graph_is_refused_with_what_to_do(
    shared_data: Path, tmp_path: Path
) -> None:
    with pytest.raises(Failure, match="export the model without it") as caught:
        quantise(shared_data / "models" / "yolox_nano_e2e_dynbatch.onnx", tmp_path / "small.onnx", colours(2))

    assert caught.value.code is FailureCode.MODEL_CORRUPT
