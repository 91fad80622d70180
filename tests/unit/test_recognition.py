"""Which head a model has is told by its outputs, never by its name; what cannot be told is refused with what helps."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from contracts.failures import Failure, FailureCode
from engine.dense_heads import DenseHead, NanoDetHead, YoloxHead
from engine.heads import InputSize, Shown
from engine.models import describe
from engine.picture_input import image_input, input_rule
from engine.recognition import RECOGNISERS, recognise
from engine.row_heads import RowsHead, TensorsHead
from engine.row_recognition import FLAT_ORDERS
from engine.runtime import Tensor, TensorSpec
from engine.seen import IMAGENET, STRETCHED, YOLO, YOLOX, Recognised, Seen
from engine.side_files import InputStatement, OutputStatement, SideFile, Thresholds
from tests.families import DARK, detr_sigmoid, end_to_end, ssd, yolov8, yolox_decoded
from tests.tiny_models import write_constant_model

Shape = tuple[int | None, ...]
IMAGES = TensorSpec(name="images", shape=(None, 3, 640, 640), dtype="float32")


def spec(shape: Shape, *, name: str = "output", dtype: str = "float32") -> TensorSpec:
    return TensorSpec(name=name, shape=shape, dtype=dtype)


def seen(
    *values: Tensor, called: Sequence[str] = "abcd", side_px: int = 640, side: SideFile | None = None, **known: object
) -> Seen:
    """What is known of a model that gave these; its outputs are called a, b, c, d."""
    outputs = tuple(
        TensorSpec(name=name, shape=value.shape, dtype=str(value.dtype))
        for name, value in zip(called, values, strict=False)
    )
    size = InputSize(width=side_px, height=side_px)
    fields = {"scale": "0..1", "side": side or SideFile()} | known
    return Seen(inputs=(IMAGES,), outputs=outputs, values=values, size=size, **fields)


def recognised(*values: Tensor, **known: object) -> Recognised:
    return recognise(seen(*values, **known))


def refusal(*values: Tensor, **known: object) -> str:
    with pytest.raises(Failure) as caught:
        recognised(*values, **known)
    assert caught.value.code is FailureCode.MODEL_NOT_A_DETECTOR
    return caught.value.detail


def zeros(*shape: int) -> Tensor:
    return np.zeros(shape, np.float32)


# -- by shape --


@pytest.mark.parametrize(
    ("shape", "side_px", "head"),
    [
        ((1, 3549, 85), 416, "yolox"),
        ((1, 8400, 6), 640, "yolox"),  # one class: the number of rows tells it from an end-to-end output
        ((1, 25200, 85), 640, "yolov5"),
        ((1, 85, 25200), 640, "yolov5"),
        ((1, 102000, 8), 1280, "yolov5"),
        ((1, 84, 8400), 640, "yolov8"),
        ((1, 5, 8400), 640, "yolov8"),
        ((1, 300, 6), 640, "end_to_end"),
        ((1, 100, 6), 640, "end_to_end"),
        ((1, 85, 22, 22), 352, "fastestdet"),
    ],
)
def test_the_shape_of_a_single_output_tells_the_head(shape: Shape, side_px: int, head: str) -> None:
    assert recognised(zeros(*shape), side_px=side_px).head.name == head


@pytest.mark.parametrize(
    "shape",
    [(1, 84, 8000), (1, 1000), (1, 100, 27, 48), (1, 4, 8400), (1, 25201, 85), (1, 85, 20, 20), (1,), (), (0, 300, 6)],
)
def test_other_shapes_are_no_head(shape: tuple[int, ...]) -> None:
    detail = refusal(zeros(*shape))

    assert f"a float32[{', '.join(map(str, shape))}]" in detail
    assert "<model>.json" in detail


@pytest.mark.parametrize(
    ("shapes", "called"),
    [
        ([(1, 300, 84)], "a"),  # queries with zeros only: nothing says that these are fractions
        ([(1, 3597, 112)], "a"),  # one cell less than the grids of a NanoDet
        ([(1, 2000, 6)], "a"),
        ([(1, 300, 4), (1, 299, 80)], ["boxes", "scores"]),
        ([(1, 300, 4), (1, 300, 80), (1, 300, 80)], ["boxes", "scores", "more"]),
        ([(1, 1), (1, 100, 4), (1, 100)], ["num_dets", "det_boxes", "det_scores"]),
        ([(1, 100), (1, 100, 4), (1, 100), (1, 100)], ["num_dets", "det_boxes", "det_scores", "det_classes"]),
        ([(1, 80, 80, 80), (1, 32, 80, 80), (1, 80, 40, 40)], "abc"),  # a NanoDet cut before its outputs are joined
        ([(1, 3, 80, 80, 85), (1, 3, 40, 40, 85), (1, 3, 20, 20, 85)], "abc"),  # YOLOv5 without its grid
    ],
)
def test_what_is_nearly_a_head_is_refused(shapes: list[tuple[int, ...]], called: Sequence[str]) -> None:
    detail = refusal(*(zeros(*shape) for shape in shapes), called=called)

    assert all(str(list(shape)) in detail for shape in shapes)


def test_key_points_are_not_taken_for_classes() -> None:
    columns = np.zeros((1, 4 + 1 + 51, 8400), np.float32)
    columns[0, 5:] = np.random.default_rng(1).uniform(0, 640, (51, 8400))

    assert "no known head" in refusal(columns)
    assert "task pose" in refusal(columns * 0, metadata={"task": "pose"})


def test_a_model_without_its_grid_is_told_to_be_exported_with_it() -> None:
    assert "export it with its grid" in refusal(zeros(1, 3, 80, 80, 85), zeros(1, 3, 40, 40, 85))


def test_metadata_decides_where_the_number_of_boxes_is_unusual() -> None:
    with pytest.raises(Failure):
        recognised(zeros(1, 5, 5000))
    assert recognised(zeros(1, 5, 5000), metadata={"task": "detect"}).head.name == "yolov8"
    assert recognised(zeros(1, 8400, 6), metadata={"end2end": "True"}).head.name == "end_to_end"


def test_labels_boxes_and_scores_are_told_apart_in_any_order() -> None:
    boxes, scores, labels = zeros(1, 300, 4), zeros(1, 300), np.zeros((1, 300), np.int64)

    assert recognised(scores, labels, boxes).head == TensorsHead(scores_at=0, classes_at=1, boxes_at=2)
    assert refusal(scores, scores, boxes)
    assert refusal(labels, boxes)
    assert refusal(boxes, scores, labels, zeros(1, 32, 160, 160))


def test_four_boxes_are_not_taken_for_one() -> None:
    boxes, scores, labels = zeros(1, 4, 4), zeros(1, 4), np.zeros((1, 4), np.int64)

    assert recognised(boxes, scores, labels).head == TensorsHead(boxes_at=0, scores_at=1, classes_at=2)


def test_outputs_of_one_picture_only_are_known_by_their_ranks() -> None:
    boxes = np.array([[1, 2, 11, 12]], np.float32)

    found = recognised(boxes, np.array([1]), np.array([0.9], np.float32))

    assert found.head == TensorsHead(boxes_at=0, classes_at=1, scores_at=2, is_batched=False)


def test_numbers_that_are_no_floats_are_no_boxes() -> None:
    assert refusal(np.zeros((1, 300, 6), np.int64))
    assert refusal(np.zeros((1, 84, 8400), np.int32))


def test_the_outputs_tell_how_many_classes_there_are() -> None:
    assert recognised(zeros(1, 8400, 85)).class_count == 80
    assert recognised(zeros(1, 84, 8400)).class_count == 80
    assert recognised(zeros(1, 25200, 85)).class_count == 80
    assert recognised(zeros(1, 300, 6)).class_count is None


# -- by what the numbers are --


def rows(*boxes: tuple[float, ...]) -> Tensor:
    return np.array(boxes, np.float32)


def test_the_columns_of_flat_rows_are_told_by_their_numbers() -> None:
    score_first = recognised(rows((0, 1, 2, 30, 40, 0.7, 11), (0, 1, 2, 30, 40, 0.6, 74)))
    class_first = recognised(rows((0, 1, 2, 30, 40, 11, 0.7)))

    assert score_first.head == RowsHead(name="flat", columns=FLAT_ORDERS[0])
    assert class_first.head == RowsHead(name="flat", columns=FLAT_ORDERS[1])


def test_flat_rows_seen_only_in_bright_pixels_are_of_a_model_that_wants_them() -> None:
    found = rows((0, 1, 2, 30, 40, 0.7, 11))

    assert recognised(found, scale="0..255").usual == YOLOX
    assert recognised(found, scale="0..1").usual == YOLO


@pytest.mark.parametrize("values", [zeros(0, 7), rows((0, 1, 2, 30, 40, 1, 1)), rows((0, 1, 2, 30, 40, 0.5, 0.5))])
def test_flat_rows_that_may_be_in_either_order_are_refused_with_both(values: Tensor) -> None:
    detail = refusal(values)

    assert (
        '{"head": "flat", "output": {"columns": ["batch", "x1", "y1", "x2", "y2", "score", "class"]}, "input": {"colour"'
        in detail
    )
    assert (
        '{"head": "flat", "output": {"columns": ["batch", "x1", "y1", "x2", "y2", "class", "score"]}, "input": {"colour"'
        in detail
    )


def test_six_columns_of_fractions_are_queries_of_two_classes() -> None:
    queries = np.random.default_rng(1).uniform(0.1, 0.9, (1, 300, 6)).astype(np.float32)

    assert recognised(queries).head.name == "rtdetr"


def test_rows_without_a_score_are_end_to_end_whatever_their_boxes_are() -> None:
    values = zeros(1, 100, 6)
    values[..., :4] = np.random.default_rng(1).uniform(-9, 9, (100, 4))

    assert recognised(values).head.name == "end_to_end"


def test_unused_rows_of_minus_one_change_nothing() -> None:
    values = end_to_end(DARK)["output0"][None]
    values[0, 5:] = -1

    assert recognised(values).head == RowsHead()


def test_decoded_boxes_are_told_from_raw_ones_by_lying_near_their_cells() -> None:
    decoded = yolox_decoded(DARK)["output"][None]

    assert recognised(decoded, side_px=128, names=3).head.name == "yolox_decoded"
    assert isinstance(
        recognised(np.random.default_rng(1).normal(size=decoded.shape).astype(np.float32), side_px=128).head, YoloxHead
    )


def test_a_column_that_may_be_objectness_or_class_is_refused_with_both() -> None:
    detail = refusal(yolox_decoded(DARK)["output"][None], side_px=128)

    assert '{"head": "yolox_decoded"} if it is an objectness and 3 classes follow' in detail
    assert '{"head": "yolov8"} if these are 4 classes' in detail


def test_the_number_of_named_classes_tells_whether_there_is_an_objectness() -> None:
    decoded = yolox_decoded(DARK)["output"][None]

    assert recognised(decoded, side_px=128, names=4).head.name == "yolov8"


def test_what_makes_scores_of_logits_is_told_or_refused() -> None:
    outputs = detr_sigmoid(DARK)
    boxes, logits = outputs["pred_boxes"][None], outputs["logits"][None]

    assert recognised(logits, boxes).usual == STRETCHED
    assert '"activation": "softmax"' in refusal(
        np.random.default_rng(1).normal(size=(1, 300, 3)).astype(np.float32) * 4, boxes
    )


def test_the_logits_of_a_single_class_are_no_background() -> None:
    boxes, logits = np.full((1, 300, 4), 0.5, np.float32), np.full((1, 300, 1), -6, np.float32)
    logits[0, 7] = 2

    found = recognised(logits, boxes)

    assert isinstance(found.head, DenseHead)
    assert (found.head.scoring.activation, found.class_count) == ("sigmoid", 1)
    [seen_boxes] = found.head.boxes(
        (logits, boxes), Shown(count=1, size=InputSize(width=640, height=640), score_min=0.5)
    )
    assert seen_boxes.classes.tolist() == [0]


def test_a_last_class_that_is_highest_but_never_sure_may_be_either() -> None:
    logits = np.full((1, 300, 2), -6, np.float32)
    logits[..., -1] = -5

    detail = refusal(logits, np.full((1, 300, 4), 0.5, np.float32))

    assert '"activation": "softmax"' in detail
    assert '"activation": "sigmoid"' in detail


def test_a_softmax_has_a_last_column_that_is_no_object() -> None:
    logits = zeros(1, 100, 92)
    logits[..., -1] = 9

    found = recognised(logits, np.full((1, 100, 4), 0.5, np.float32))

    assert isinstance(found.head, DenseHead)
    assert (found.head.scoring.activation, found.head.scoring.background) == ("softmax", "last")
    assert (found.class_count, found.usual) == (91, IMAGENET)


def test_boxes_that_may_be_corners_or_centers_are_refused_with_both() -> None:
    boxes, scores = np.full((1, 300, 4), 0.5, np.float32), np.full((1, 300, 3), 0.1, np.float32)
    boxes[..., 2:] = 0.9

    detail = refusal(boxes, scores)

    assert '{"head": "boxes_scores", "output": {"box": "x1y1x2y2"}} if they are corners' in detail
    assert '{"head": "boxes_scores", "output": {"box": "cxcywh"}}' in detail


def test_scores_that_add_up_to_one_have_a_background() -> None:
    outputs = ssd(DARK)

    found = recognised(outputs["scores"][None], outputs["boxes"][None], side_px=128, called=("scores", "boxes"))

    assert isinstance(found.head, DenseHead)
    assert (found.head.scoring.background, found.class_count, found.head.nms_iou) == ("first", 3, 0.45)


def test_distributions_are_told_from_class_scores_by_not_being_scores() -> None:
    values = np.full((1, 3598, 80 + 32), 0.1, np.float32)
    assert isinstance(recognised(values, side_px=416).head, YoloxHead)

    values[..., 80:] = np.random.default_rng(1).normal(size=32)

    assert isinstance(recognised(values, side_px=416).head, NanoDetHead)


def test_numbers_that_are_not_finite_are_no_evidence() -> None:
    values = yolov8(DARK)["output0"][None]
    values[0, :, 5], values[0, 2, 6] = np.nan, np.inf

    found = recognised(values, side_px=128).head

    assert isinstance(found, DenseHead)
    assert (found.unit, found.scoring.activation) == ("pixels", "none")


@pytest.mark.parametrize("fill", [np.nan, np.inf, -np.inf, 3e38, -1.0])
@pytest.mark.parametrize(
    "shapes",
    [
        [(1, 84, 8400)],
        [(1, 8400, 85)],
        [(1, 25200, 85)],
        [(1, 300, 6)],
        [(3, 7)],
        [(1, 300, 84)],
        [(1, 3598, 112)],
        [(1, 85, 40, 40)],
        [(1, 300, 4), (1, 300, 80)],
        [(1, 300, 4), (1, 300), (1, 300)],
        [(1, 1), (1, 300, 4), (1, 300), (1, 300)],
        [(), ()],
        [(0,), (0, 4)],
        [(0, 85, 40, 40)],
        [(0, 300, 4), (0, 300), (0, 300)],
        [],
    ],
)
def test_a_model_of_nonsense_is_recognised_or_refused_and_never_crashes(
    shapes: list[tuple[int, ...]], fill: float
) -> None:
    values = [np.full(shape, fill, np.float32) for shape in shapes]
    for head in (None, *RECOGNISERS):
        with np.errstate(all="ignore"):
            try:
                recognised(*values, side=SideFile(head=head))
            except Failure as failure:
                assert failure.code is FailureCode.MODEL_NOT_A_DETECTOR  # noqa: PT017


def test_a_side_file_that_takes_a_single_number_for_the_boxes_is_refused() -> None:
    side = SideFile(head="detr", output=OutputStatement(boxes="a"))

    assert "its outputs are not of head detr" in refusal(zeros(), side=side)


# -- the side file's word --


def test_the_side_file_names_the_head_but_cannot_make_one_of_other_outputs() -> None:
    stated = SideFile(head="yolov8", thresholds=Thresholds(nms=0.4))

    assert recognised(zeros(1, 5, 5000), side=stated).head.nms_iou == 0.4
    assert "not of head yolov8" in refusal(zeros(1, 5), side=stated)
    assert "not of head end_to_end" in refusal(zeros(1, 8400, 85), side=SideFile(head="end_to_end"))
    assert "not of head yolox" in refusal(zeros(1, 5000, 85), side=SideFile(head="yolox"))
    assert recognised(zeros(1, 8400, 6), side=SideFile(head="end_to_end")).head.name == "end_to_end"
    assert recognised(zeros(1, 8400, 85), side=SideFile(head="yolox")).head.name == "yolox"
    assert recognised(zeros(1, 5000, 85), side=SideFile(head="yolov5")).head.name == "yolov5"


def test_the_side_file_states_what_the_numbers_are() -> None:
    stated = OutputStatement(columns=["class", "score", "x1", "y1", "x2", "y2"], unit="fractions")

    found = recognised(zeros(1, 100, 6), side=SideFile(head="end_to_end", output=stated)).head

    assert found == RowsHead(columns=("class", "score", "x1", "y1", "x2", "y2"), unit="fractions")


def test_the_side_file_says_which_output_is_which() -> None:
    stated = OutputStatement(boxes="d", scores="b", classes="a", counts="c")
    values = (zeros(1, 9), zeros(1, 9), zeros(1, 1), zeros(1, 9, 4))

    found = recognised(*values, side=SideFile(output=stated)).head

    assert found == TensorsHead(name="padded", boxes_at=3, scores_at=1, classes_at=0, counts_at=2)


@pytest.mark.parametrize(
    "outputs",
    [
        {"output": zeros(0, 7)},
        {"output": yolox_decoded(DARK)["output"][None]},
        {
            "logits": np.random.default_rng(1).normal(size=(1, 300, 3)).astype(np.float32) * 4,
            "pred_boxes": zeros(1, 300, 4),
        },
        {"boxes": zeros(1, 300, 4), "scores": np.full((1, 300, 3), 0.1, np.float32)},
        {"output": zeros(1, 7, 5000)},
    ],
)
def test_what_a_refusal_says_to_write_makes_the_model_load(tmp_path: Path, outputs: dict[str, Tensor]) -> None:
    model = write_constant_model(tmp_path / "model.onnx", outputs, shape=("N", 3, 128, 128))
    with pytest.raises(Failure) as caught:
        describe(model)

    lines = [part for part in caught.value.detail.split("; ") if part.startswith("{")]
    assert lines
    for line in lines:
        content, _ = json.JSONDecoder().raw_decode(line)
        model.with_suffix(".json").write_text(json.dumps(content))
        assert describe(model).head == content["head"]


# -- inputs --


def image(shape: Shape, *more: TensorSpec, dtype: str = "float32", side: SideFile | None = None):
    return image_input([spec(shape, name="images", dtype=dtype), *more], [spec((1, 300, 6))], side or SideFile())


@pytest.mark.parametrize(
    ("shape", "layout", "width", "height"),
    [
        ((None, 3, 416, 608), "NCHW", 608, 416),
        ((1, 416, 608, 3), "NHWC", 608, 416),
        ((1, 3, None, None), "NCHW", 640, 640),
    ],
)
def test_the_place_of_the_three_colours_tells_the_layout(shape: Shape, layout: str, width: int, height: int) -> None:
    found = image(shape)

    assert (found.layout, found.size.width, found.size.height) == (layout, width, height)


def test_the_side_file_gives_free_sides_their_size() -> None:
    found = image((None, 3, None, None), side=SideFile(input=InputStatement(size=(960, 544))))

    assert (found.size.width, found.size.height, found.has_free_sides, found.is_size_stated) == (960, 544, True, True)
    assert not image((None, 3, None, None)).is_size_stated


def test_a_side_file_that_contradicts_the_model_is_refused() -> None:
    with pytest.raises(Failure, match="size 960 x 960, but the model takes 640 x 640") as caught:
        image((1, 3, 640, 640), side=SideFile(input=InputStatement(size=(960, 960))))
    assert caught.value.code is FailureCode.MODEL_CORRUPT


def test_an_input_that_asks_for_the_original_size_is_known() -> None:
    sizes = spec((None, 2), name="orig_target_sizes", dtype="int64")

    assert image((None, 3, 320, 320), sizes).size_tensor == "orig_target_sizes"


@pytest.mark.parametrize(
    "inputs",
    [
        [spec((None, 100, 27, 48, 3), name="frames", dtype="uint8")],
        [spec((1, 1, 640, 640), name="grey")],
        [spec((1, 3, 64, 64), name="a"), spec((1, 3, 64, 64), name="b")],
        [spec((1, 3, 64, 64), name="a"), spec((1, 77), name="tokens", dtype="int64")],
        [],
    ],
)
def test_a_model_that_looks_at_no_single_picture_is_refused_with_what_was_seen(inputs: list[TensorSpec]) -> None:
    with pytest.raises(Failure) as caught:
        image_input(inputs, [spec((1, 100), name="shots")], SideFile())

    assert caught.value.code is FailureCode.MODEL_NOT_A_DETECTOR
    assert "shots float32[1, 100]" in caught.value.detail
    assert all(entry.name in caught.value.detail for entry in inputs)
    assert "<model>.json" in caught.value.detail


# -- conventions --


def test_the_side_files_word_is_above_what_is_usual() -> None:
    stated = InputStatement(colour="RGB", scale="0..1", resize="stretch", pad=0, mean=(0.5, 0.5, 0.5))

    rule = input_rule(image((1, 3, 640, 640)), YOLOX, stated)

    assert (rule.colour, rule.scale, rule.resize, rule.pad, rule.mean) == ("RGB", "0..1", "stretch", 0, (0.5, 0.5, 0.5))


def test_what_nobody_states_is_usual() -> None:
    rule = input_rule(image((1, 3, 640, 640)), YOLOX, InputStatement())

    assert (rule.colour, rule.scale, rule.resize, rule.batch, rule.pad) == (
        "BGR",
        "0..255",
        "letterbox_top_left",
        1,
        114,
    )


def test_a_model_that_takes_bytes_is_given_bytes() -> None:
    rule = input_rule(image((1, 640, 640, 3), dtype="uint8"), IMAGENET, InputStatement())

    assert (rule.scale, rule.mean, rule.std) == ("0..255", (0, 0, 0), (1, 1, 1))


def test_a_model_with_fixed_sides_cannot_be_shown_pictures_unscaled() -> None:
    with pytest.raises(Failure, match="native"):
        input_rule(image((1, 3, 640, 640)), YOLO, InputStatement(resize="native"))
