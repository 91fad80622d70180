"""Models that find shot boundaries are known by their shapes and answers, whatever their outputs are called."""

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from contracts.failures import Failure, FailureCode
from engine.shot_model import ShotModel, open_shot_model, shot_model_file
from engine.shot_windows import HEIGHT, MARGIN, STEP, WIDTH, WINDOW, Window
from engine.shot_workers import ShotWorkers

WAIT_S = 10

CUT_AT = 60
"""The frame of `a_cut` that is the first bright one."""


def write_model(path: Path, *, shape: tuple[int, ...] = (WINDOW,), is_logit: bool = False, name: str = "out") -> Path:
    """A model whose answer for a frame is its mean brightness, 0..1 (or -4..4 as a logit)."""
    gain, offset = (8.0, -4.0) if is_logit else (1.0, 0.0)
    wanted = np.arange(MARGIN, MARGIN + STEP) if STEP in shape else np.arange(WINDOW)
    nodes = [
        helper.make_node("Cast", ["frames"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats"], ["means"], axes=[2, 3, 4], keepdims=0),
        helper.make_node("Gather", ["means", "wanted"], ["asked"], axis=1),
        helper.make_node("Mul", ["asked", "gain"], ["gained"]),
        helper.make_node("Add", ["gained", "offset"], ["shifted"]),
        helper.make_node("Reshape", ["shifted", "sides"], [name]),
    ]
    stated: dict[str, Any] = {
        "wanted": wanted,
        "gain": np.array(gain / 255, np.float32),
        "offset": np.array(offset, np.float32),
        "sides": np.array([-1, *shape]),
    }
    frames = helper.make_tensor_value_info("frames", TensorProto.UINT8, ["N", WINDOW, HEIGHT, WIDTH, 3])
    output = helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *shape])
    initializers = [numpy_helper.from_array(array, key) for key, array in stated.items()]
    graph = helper.make_graph(nodes, "shots", [frames], [output], initializers)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def a_cut() -> Window:
    window = np.zeros((WINDOW, HEIGHT, WIDTH, 3), np.uint8)
    window[CUT_AT:] = 255
    return window


@pytest.mark.parametrize("shape", [(WINDOW,), (WINDOW, 1), (STEP,), (STEP, 1)])
@pytest.mark.parametrize("is_logit", [False, True])
def test_every_form_of_output_says_the_same(tmp_path: Path, shape: tuple[int, ...], is_logit: bool) -> None:
    model = open_shot_model(write_model(tmp_path / "any.onnx", shape=shape, is_logit=is_logit))

    boundary, transition = model.look([a_cut(), a_cut()])

    assert boundary.shape == transition.shape == (2, STEP)
    assert model.card.has_logits is is_logit
    expected = np.arange(MARGIN, MARGIN + STEP) >= CUT_AT
    assert ((boundary > 0.5) == expected).all()
    assert (boundary >= 0).all()
    assert (boundary <= 1).all()
    model.close()


def test_a_model_that_answers_for_one_window_of_several_fails_and_is_asked_for_each_alone(tmp_path: Path) -> None:
    """Where a runtime gathers, windows are shown to it together, whatever it was tried with."""
    path = write_model(tmp_path / "any.onnx")
    model = onnx.load(path)
    next(tensor for tensor in model.graph.initializer if tensor.name == "sides").CopyFrom(
        numpy_helper.from_array(np.array([1, WINDOW]), "sides")
    )
    model.graph.node.insert(1, helper.make_node("ReduceMax", ["floats"], ["first"], axes=[0], keepdims=1))
    model.graph.node[2].input[0] = "first"
    onnx.save(model, path)
    opened = open_shot_model(path)
    with pytest.raises(Failure, match=r"\[1, 100\] for 2 windows") as failed:
        opened.look([a_cut(), a_cut()])
    assert failed.value.code is FailureCode.INFERENCE_FAILED

    with closing(ShotWorkers(Gathering(opened), count=1)) as workers:
        found = [asked.result(WAIT_S).boundary for asked in [workers.submit(a_cut()) for _ in range(6)]]

    assert [odds.shape for odds in found] == [(STEP,)] * 6


def test_an_output_that_says_nothing_of_frames_is_left_alone(tmp_path: Path) -> None:
    path = write_model(tmp_path / "any.onnx")
    model = onnx.load(path)
    model.graph.node.append(helper.make_node("ReduceMax", ["out"], ["most"], keepdims=0))
    model.graph.output.append(helper.make_tensor_value_info("most", TensorProto.FLOAT, []))
    onnx.save(model, path)

    boundary, _ = open_shot_model(path).look([a_cut()])

    assert boundary.shape == (1, STEP)


class Gathering:
    """A model as if its runtime gathered."""

    rows_best = None

    def __init__(self, model: ShotModel) -> None:
        self.look = model.look
        self.close = model.close


def test_a_model_of_other_shapes_is_refused_with_what_was_seen(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"out float32\[None, 20, 5\]") as refused:
        open_shot_model(write_model(tmp_path / "any.onnx", shape=(20, 5)))
    assert refused.value.code is FailureCode.MODEL_NOT_A_DETECTOR


def test_a_model_of_more_windows_at_a_time_than_there_is_memory_for_is_refused_untried(tmp_path: Path) -> None:
    path = write_model(tmp_path / "any.onnx")
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 200_000
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 200_000
    onnx.save(model, path)
    with pytest.raises(Failure, match="200000 windows at a time") as refused:
        open_shot_model(path)
    assert refused.value.code is FailureCode.MODEL_NOT_A_DETECTOR


def test_a_window_alone_is_answered_as_in_a_batch(tmp_path: Path) -> None:
    model = open_shot_model(write_model(tmp_path / "any.onnx"))

    alone, together = model.look([a_cut()]), model.look([a_cut() // 2, a_cut()])

    assert model.rows_best == 1
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one[0], other[1])
    model.close()


def test_the_official_weights_serve_once_they_are_there(tmp_path: Path) -> None:
    shipped, own = tmp_path / "shipped", tmp_path / "own"
    shipped.mkdir(), own.mkdir()
    with pytest.raises(Failure, match="shots-small") as missing:
        shot_model_file([own, shipped])
    assert missing.value.code is FailureCode.MODEL_MISSING
    (shipped / "shots-small.onnx").touch()
    assert shot_model_file([own, shipped]).parent == shipped
    (own / "transnetv2.onnx").touch()
    assert shot_model_file([own, shipped]) == own / "transnetv2.onnx"
    assert shot_model_file([shipped, own]) == own / "transnetv2.onnx"
