"""`detections models check`, and where models are found."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from typer.testing import CliRunner, Result

from contracts.failures import Failure, FailureCode
from detections.cli import build
from detections.model_files import SHIPPED_MODELS, find_model
from detections.models_use import named
from detections.timing import Blank
from engine.runtimes.onnx import OnnxRuntime
from engine.sources import RemoteModel
from tests.families import BRIGHT, DARK, FAMILIES
from tests.scripted import write_model
from tests.tiny_models import write_colour_model, write_constant_model, write_two_faced_model


def check(*arguments: object) -> Result:
    return CliRunner().invoke(build(), ["models", "check", *map(str, arguments)])


def write_classifier(path: Path) -> Path:
    """An ONNX model that takes pictures and gives one number for each."""
    picture = helper.make_tensor_value_info("picture", TensorProto.FLOAT, [1, 3, 64, 64])
    score = helper.make_tensor_value_info("score", TensorProto.FLOAT, [1, 3, 1, 1])
    graph = helper.make_graph(
        [helper.make_node("GlobalAveragePool", ["picture"], ["score"])], "classifier", [picture], [score]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, str(path))
    return path


def test_a_name_that_is_no_utf8_is_refused_and_no_fault_of_ours(tmp_path: Path) -> None:
    model = tmp_path / "street\udcff.onnx"
    model.symlink_to(SHIPPED_MODELS / "aerial-vehicle.onnx")

    with pytest.raises(Failure, match="surrogates not allowed"):
        OnnxRuntime(model)


# What it says


def test_the_shipped_model_is_described_line_by_line() -> None:
    result = check("aerial-vehicle", "--runs", 1)

    assert result.exit_code == 0, result.stderr
    said = dict(line.split(maxsplit=1) for line in result.stdout.splitlines())
    assert list(said) == [
        "file",
        "runtime",
        "input",
        "shown",
        "batch",
        "output",
        "head",
        "repeats",
        "classes",
        "sees",
        "timing",
    ]
    assert said["runtime"] == "onnx"
    assert said["input"] == "images float32[?, 3, ?, ?]"
    assert said["shown"].startswith("960 x 960 px, native")
    assert said["head"].startswith("yolov8")
    assert said["classes"] == "1: vehicle"


def test_the_timing_is_a_median_in_ms(tmp_path: Path) -> None:
    result = check(write_model(tmp_path / "slow.json", delay_s=0.05), "--runs", 3)

    timing = next(line for line in result.stdout.splitlines() if line.startswith("timing"))
    assert 50 <= float(timing.split()[1]) < 5000
    assert "median of 3, 1 thread;" in timing


def test_a_scripted_model_is_described_too(tmp_path: Path) -> None:
    result = check(write_model(tmp_path / "squares.json"), "--runs", 1)

    assert result.exit_code == 0
    assert "runtime   scripted" in result.stdout
    assert "red, green" in result.stdout


def test_what_nobody_stated_is_said_to_be_assumed(tmp_path: Path) -> None:
    model = write_two_faced_model(
        tmp_path / "model.onnx", FAMILIES["yolov8"].outputs(DARK), FAMILIES["yolov8"].outputs(BRIGHT)
    )

    said = dict(line.split(maxsplit=1) for line in check(model, "--runs", 1).stdout.splitlines())

    assert said["shown"] == "128 x 128 px, letterbox, NCHW, RGB 0..1"
    assert said["assumed"].startswith("colour, scale, resize: as usual for this head")
    assert said["batch"] == "any number of pictures in one inference"
    assert said["sees"].startswith("class_2 0.60 in the drawn picture")


def test_a_model_that_mixes_its_pictures_is_said_to_be_shown_one_at_a_time(tmp_path: Path) -> None:
    said = check(write_colour_model(tmp_path / "model.onnx", mixes=True), "--runs", 1).stdout

    assert "batch     1 at most in one inference" in said
    assert "warning   one picture at a time: " in said


@pytest.mark.real_media
def test_a_real_model_sees_what_is_drawn(shared_data: Path) -> None:
    said = check(shared_data / "models" / "deimv2_femto.onnx", "--runs", 1).stdout

    assert "head      detr: boxes, scores and classes in three tensors" in said
    assert "in the drawn picture of a stop sign and a clock" in said


def test_an_address_is_a_model_and_what_is_wrong_with_it_is_said() -> None:
    nobody = check("triton+http://127.0.0.1/street")

    assert find_model("triton+grpc://127.0.0.1:8001/aerial-vehicle/1") == RemoteModel(
        protocol="grpc", host="127.0.0.1", port=8001, name="aerial-vehicle", version="1", folder=SHIPPED_MODELS
    )
    assert (nobody.exit_code, nobody.stdout) == (1, "")
    assert "an address is triton+grpc://host:port/model" in nobody.stderr


# What it refuses


def test_a_refusal_says_which_lines_to_write_into_which_file(tmp_path: Path) -> None:
    model = write_constant_model(tmp_path / "mine.onnx", {"output": np.zeros((0, 7), np.float32)})

    result = check(model)

    assert (result.exit_code, result.stdout) == (1, "")
    lines = result.stderr.splitlines()
    assert lines[0] == (
        "detections: model_not_a_detector: it has a row of seven numbers per box, but their order can't be told:"
        " it finds nothing in the picture it is tried on"
    )
    assert "    outputs output float32[0, 7]" in lines
    assert "    if it is a detector, write into `mine.json` beside it" in lines
    assert any(line.startswith('    {"head": "flat", "output": {"columns": ["batch",') for line in lines)
    assert lines[-1].startswith("then ask again: detections models check mine.onnx")


def test_a_model_that_is_no_detector_is_refused_with_what_was_seen(tmp_path: Path) -> None:
    result = check(write_classifier(tmp_path / "classifier.onnx"))

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("detections: model_not_a_detector: ")
    assert "score float32[1, 3, 1, 1]" in result.stderr


@pytest.mark.parametrize("content", [b"", b"no model", bytes(1000)])
def test_a_broken_file_is_refused(content: bytes, tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(content)

    result = check(broken)

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("detections: model_")
    assert len(result.stderr.splitlines()) == 1


def test_a_missing_model_is_refused() -> None:
    result = check("nope.onnx")

    assert result.exit_code == 1
    assert result.stderr.startswith("detections: model_missing: ")


@pytest.mark.parametrize("runs", [0, -1, 1001, "many"])
def test_a_number_of_runs_out_of_range_is_wrong_usage(runs: object) -> None:
    assert check("aerial-vehicle", "--runs", runs).exit_code == 2


# Where models are found


def test_a_name_stands_for_a_shipped_model() -> None:
    assert find_model("aerial-vehicle") == SHIPPED_MODELS / "aerial-vehicle.onnx"


def test_the_models_folder_comes_before_the_shipped_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "aerial-vehicle.onnx"
    own.write_bytes(b"")
    monkeypatch.setenv("MODELS_DIR", str(tmp_path))

    assert find_model("aerial-vehicle") == own
    assert find_model("aerial-vehicle.onnx") == own


def test_what_lies_in_the_folder_of_the_service_is_used_by_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    own = write_model(folder / "squares.json")

    assert named("squares", models=folder) == own
    assert named("squares.json", models=folder) == own
    assert named(str(own), models=tmp_path / "elsewhere") == own
    assert named("aerial-vehicle", models=folder) == SHIPPED_MODELS / "aerial-vehicle.onnx"


def test_a_path_is_taken_as_it_is(tmp_path: Path) -> None:
    model = write_model(tmp_path / "squares.json")

    assert find_model(str(model)) == model


def test_a_file_of_another_kind_is_no_model(tmp_path: Path) -> None:
    other = tmp_path / "model.pt"
    other.write_bytes(b"x")

    with pytest.raises(Failure) as caught:
        find_model(str(other))
    assert caught.value.code is FailureCode.MODEL_NOT_A_DETECTOR


def test_a_folder_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "folder.onnx").mkdir()

    with pytest.raises(Failure) as caught:
        find_model(str(tmp_path / "folder.onnx"))
    assert caught.value.code is FailureCode.MODEL_MISSING


def test_a_blank_picture_has_the_size_that_was_asked_for() -> None:
    shown = Blank(width=64, height=32).scaled(width=20, height=10)

    assert (shown.shape, shown.dtype) == ((10, 20, 3), np.uint8)
