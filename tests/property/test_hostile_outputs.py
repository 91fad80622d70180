"""Whatever a model gives, no head crashes, and no box leaves the engine that cannot be one."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.failures import Failure, FailureCode
from contracts.options import DetectionOptions
from engine.detector import Detector
from engine.heads import Head, InputSize, Shown
from engine.models import ModelCard, OpenModel, open_model
from engine.row_heads import RowsHead, TensorsHead
from engine.runtime import Tensor
from tests.families import DARK, FAMILIES, SIDE
from tests.pictures import drawn
from tests.tiny_models import write_two_faced_model

HOSTILE = [
    np.nan,
    np.inf,
    -np.inf,
    0.0,
    -0.0,
    1.0,
    0.5,
    -1.0,
    7.0,
    64.0,
    1e30,
    -1e30,
    3e38,
    -3e38,
    1e-45,
    2.0**31,
    -(2.0**63),
]
DTYPES = ["float32", "float16", "float64", "int64", "int32", "uint8", "bool", "complex64", "str", "object"]
FLAT = RowsHead(name="flat", columns=("batch", "x1", "y1", "x2", "y2", "score", "class"))
ALONE = TensorsHead(boxes_at=0, scores_at=1, classes_at=2, is_batched=False)
SHAPES_OF_MORE: dict[str, tuple[Head, list[tuple[int, ...]]]] = {
    "flat": (FLAT, [(9, 7)]),
    "one-picture": (ALONE, [(9, 4), (9,), (9,)]),
}
NAMES = [*FAMILIES, *SHAPES_OF_MORE]


class Given:
    """A runtime that gives what the test says."""

    engine_type, gathers, inputs, outputs, metadata = "given", False, (), (), {}

    def __init__(self, outputs: Sequence[Tensor]) -> None:
        self._given = tuple(outputs)

    def infer(self, tensors: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        return self._given

    def close(self) -> None:
        """Nothing is held."""


@lru_cache
def known(name: str, folder: Path) -> tuple[ModelCard, Head, list[tuple[int, ...]]]:
    """A family's card and head, and the shapes of its outputs for one picture."""
    if name in SHAPES_OF_MORE:
        card, _, _ = known("yolov8", folder)
        return (card, *SHAPES_OF_MORE[name])
    family = FAMILIES[name]
    outputs = family.outputs(DARK)
    model = write_two_faced_model(folder / f"{name}.onnx", outputs, outputs, metadata=family.metadata)
    opened = open_model(model)
    opened.runtime.close()
    return opened.card, opened.head, [(1, *array.shape) for array in outputs.values()]


@st.composite
def hostile(draw: st.DrawFn, shape: tuple[int, ...], *, keeps_shape: bool) -> Tensor:
    """Numbers of every bad kind between ordinary ones, sometimes in another shape or of another type."""
    dtype = "float32"
    if not keeps_shape:
        sides = [draw(st.sampled_from([side, side, side, 0, 1, side + 1])) for side in shape]
        shape = draw(st.sampled_from([tuple(sides), tuple(sides), shape, shape[1:], (1, *shape), ()]))
        dtype = draw(st.sampled_from(DTYPES))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    ordinary = rng.uniform(0, draw(st.sampled_from([1.0, SIDE])), shape)
    is_bad = rng.uniform(size=shape) < draw(st.sampled_from([0.0, 0.01, 0.3, 1.0]))
    with np.errstate(all="ignore"):
        return np.where(is_bad, rng.choice(HOSTILE, shape), ordinary).astype(dtype)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("families")


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data(), score_min=st.sampled_from([0.0, 0.01, 0.25, 1.0]))
@settings(max_examples=8)
def test_every_box_of_a_head_is_finite_and_has_an_area_a_class_and_a_score(
    folder: Path, name: str, data: st.DataObject, score_min: float
) -> None:
    _, head, shapes = known(name, folder)
    outputs = [data.draw(hostile(shape, keeps_shape=True)) for shape in shapes]

    for boxes in head.boxes(outputs, Shown(count=1, size=InputSize(width=SIDE, height=SIDE), score_min=score_min)):
        assert np.isfinite(boxes.corners).all()
        assert (boxes.corners[:, 2:] > boxes.corners[:, :2]).all()
        assert ((boxes.scores > 0) & (boxes.scores <= 1) & (boxes.scores >= min(score_min, 1))).all()
        assert (boxes.classes >= 0).all()
        assert (boxes.corners.dtype, boxes.scores.dtype, boxes.classes.dtype) == ("float32", "float32", "int32")
        assert (np.diff(boxes.scores) <= 0).all()


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
@settings(max_examples=15)
def test_outputs_of_other_shapes_and_types_are_a_failure_or_boxes_but_never_a_crash(
    folder: Path, name: str, data: st.DataObject
) -> None:
    card, head, shapes = known(name, folder)
    outputs = [data.draw(hostile(shape, keeps_shape=False)) for shape in shapes]
    detector = Detector(
        OpenModel(runtime=Given(outputs[: data.draw(st.integers(0, len(outputs)))]), head=head, card=card)
    )

    try:
        found = detector.detect(drawn(200, 150), DetectionOptions(probability_threshold=0.01))
    except Failure as failure:
        assert failure.code is FailureCode.INFERENCE_FAILED  # noqa: PT017
        return
    for entry in found:
        numbers = (entry.center_x, entry.center_y, entry.width, entry.height, entry.confidence)
        assert all(0 < number <= 1 for number in numbers)


def test_the_shapes_that_are_tried_are_those_of_every_head(folder: Path) -> None:
    heads = {known(name, folder)[1].name for name in NAMES}

    assert heads == {"padded", "detr", "flat", "end_to_end", "rtdetr", "fastestdet", "nanodet", "yolov5", "yolov8"} | {
        "yolox_decoded",
        "yolox",
        "detr_logits",
        "boxes_scores",
    }
