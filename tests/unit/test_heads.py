"""What each head makes of the numbers of its model."""

import numpy as np
import pytest

from contracts.failures import Failure
from engine.dense_heads import DenseHead, YoloxHead
from engine.heads import BoxForm, InputSize, Shown, corners_of, grid_cells
from engine.row_heads import RowsHead, TensorsHead
from engine.row_recognition import FLAT_ORDERS
from engine.scoring import Scoring

SIZE = InputSize(width=64, height=32)
YOLOX = YoloxHead(nms_iou=0.45)
YOLOV8 = DenseHead(name="yolov8", is_transposed=True, nms_iou=0.7)
FLAT = RowsHead(name="flat", columns=FLAT_ORDERS[0])


def shown(count: int = 1, score_min: float = 0.25) -> Shown:
    return Shown(count=count, size=SIZE, score_min=score_min)


def yolox_rows() -> np.ndarray:
    return np.zeros((1, grid_cells(64, 32, (8, 16, 32)), 5 + 3), np.float32)


@pytest.mark.parametrize(
    ("form", "row"), [("x1y1x2y2", [8, 4, 24, 20]), ("y1x1y2x2", [4, 8, 20, 24]), ("cxcywh", [16, 12, 16, 16])]
)
def test_every_way_to_write_a_box_comes_to_the_same_corners(form: BoxForm, row: list[int]) -> None:
    pixels = np.array([row, row], np.float16)
    height_first = form == "y1x1y2x2"
    shares = pixels / np.array([SIZE.height, SIZE.width] * 2 if height_first else [SIZE.width, SIZE.height] * 2)

    assert corners_of(pixels, form=form, unit="pixels", size=SIZE).tolist() == [[8, 4, 24, 20]] * 2
    assert corners_of(shares, form=form, unit="fractions", size=SIZE).tolist() == [[8, 4, 24, 20]] * 2


def test_a_yolox_row_counts_from_its_cell_in_strides() -> None:
    rows = yolox_rows()
    cell = (
        8 * 4 + 4 + 1
    )  # the second row's second cell of the grid of stride 16: 4 cells wide, behind 8 x 4 of stride 8
    rows[0, cell] = [0.5, 0.25, np.log(1.5), np.log(0.5), 0.8, 0, 0.5, 0]

    [found] = YOLOX.boxes([rows], shown())

    center_x, center_y, width, height = (1 + 0.5) * 16, (1 + 0.25) * 16, 1.5 * 16, 0.5 * 16
    expected = [center_x - width / 2, center_y - height / 2, center_x + width / 2, center_y + height / 2]
    assert found.corners[0].tolist() == pytest.approx(expected, abs=1e-4)
    assert found.scores.tolist() == pytest.approx([0.4])
    assert found.classes.tolist() == [1]


def test_a_yolox_score_is_objectness_times_class() -> None:
    rows = yolox_rows()
    rows[0, 0, 4:6] = [0.9, 0.2]  # objectness alone passes the threshold
    rows[0, 9, 4:6] = [0.2, 0.9]

    [found] = YOLOX.boxes([rows], shown())

    assert len(found) == 0


def test_an_infinite_yolox_size_is_no_box() -> None:
    rows = yolox_rows()
    rows[0, 0] = [0, 0, 500, 0, 1, 1, 0, 0]
    rows[0, 1] = [np.nan, 0, 0, 0, 1, 1, 0, 0]

    assert len(YOLOX.boxes([rows], shown())[0]) == 0


def test_a_yolox_model_repeats_itself_and_the_head_does_not() -> None:
    rows = yolox_rows()
    rows[0, 0] = [0.5, 0.5, 1, 1, 0.9, 1, 0, 0]
    rows[0, 1] = [-0.5, 0.5, 1, 1, 0.8, 1, 0, 0]  # the same place, from the next cell
    rows[0, 2] = [-1.5, 0.5, 1, 1, 0.7, 0, 1, 0]  # the same place, another class

    [found] = YOLOX.boxes([rows], shown())

    assert found.scores.tolist() == pytest.approx([0.9, 0.7])


def test_a_yolov8_column_is_a_center_and_a_size_in_pixels() -> None:
    columns = np.zeros((1, 4 + 2, 42), np.float32)
    columns[0, :, 7] = [20, 10, 8, 4, 0.3, 0.6]

    [found] = YOLOV8.boxes([columns], shown())

    assert found.corners.tolist() == [[16, 8, 24, 12]]
    assert found.scores.tolist() == pytest.approx([0.6])
    assert found.classes.tolist() == [1]


def test_the_iou_of_a_side_file_decides_what_a_yolov8_head_repeats() -> None:
    columns = np.zeros((1, 5, 42), np.float32)
    columns[0, :, 0] = [20, 10, 10, 10, 0.9]
    columns[0, :, 1] = [24, 10, 10, 10, 0.8]  # IoU 0.43

    assert len(YOLOV8.boxes([columns], shown())[0]) == 2
    assert len(DenseHead(name="yolov8", is_transposed=True, nms_iou=0.4).boxes([columns], shown())[0]) == 1


def test_detr_outputs_are_read_whatever_their_order() -> None:
    labels, scores = np.array([[3, 5]]), np.array([[0.9, 0.1]], np.float32)
    boxes = np.array([[[1, 2, 11, 12], [0, 0, 5, 5]]], np.float32)
    head = TensorsHead(classes_at=2, boxes_at=0, scores_at=1)

    [found] = head.boxes([boxes, scores, labels], shown())

    assert found.corners.tolist() == [[1, 2, 11, 12]]
    assert found.classes.tolist() == [3]


@pytest.mark.parametrize("score_min", [0.3, 0.4, 0.55, 0.8, 0.9])
def test_no_score_in_half_precision_is_below_what_was_asked(score_min: float) -> None:
    scores = np.arange(0, 1, 2**-11).astype(np.float16)
    rows = np.zeros((1, len(scores), 6), np.float16)
    rows[0, :, 2:4], rows[0, :, 4] = 10, scores
    tensors = TensorsHead(boxes_at=0, scores_at=1, classes_at=2)

    [of_rows] = RowsHead().boxes([rows], shown(score_min=score_min))
    [of_tensors] = tensors.boxes([rows[..., :4], rows[..., 4], rows[..., 5]], shown(score_min=score_min))

    for found in (of_rows, of_tensors):
        assert len(found) == (scores.astype(np.float64) >= score_min).sum()
        assert found.scores.min() >= score_min


def test_unused_rows_of_an_end_to_end_output_are_no_boxes() -> None:
    rows = np.zeros((1, 300, 6), np.float32)
    rows[0, 4] = [1, 2, 11, 12, 0.5, 7]

    [found] = RowsHead().boxes([rows], shown(score_min=0.0))

    assert found.classes.tolist() == [7]


@pytest.mark.parametrize("number", [np.nan, np.inf, -1, 3e9])
def test_a_class_that_is_no_class_is_no_box(number: float) -> None:
    rows = np.zeros((1, 300, 6), np.float32)
    rows[0, 0] = [1, 2, 11, 12, 0.5, number]

    assert len(RowsHead().boxes([rows], shown())[0]) == 0


def test_flat_rows_go_to_the_picture_they_name() -> None:
    rows = np.array(
        [[1, 0, 0, 5, 5, 0.9, 2], [0, 1, 1, 6, 6, 0.8, 3], [1, 2, 2, 7, 7, 0.7, 4], [9, 0, 0, 1, 1, 0.9, 1]], np.float32
    )

    first, second, third = FLAT.boxes([rows], shown(count=3))

    assert first.classes.tolist() == [3]
    assert second.classes.tolist() == [2, 4]
    assert len(third) == 0


def test_a_flat_output_without_rows_is_a_picture_without_boxes() -> None:
    assert len(FLAT.boxes([np.empty((0, 7), np.float32)], shown())[0]) == 0


def test_rows_of_a_fixed_batch_beyond_the_pictures_mean_nothing() -> None:
    rows = np.zeros((4, 300, 6), np.float32)
    rows[:, 0] = [1, 2, 11, 12, 0.5, 7]

    assert len(RowsHead().boxes([rows], shown(count=3))) == 3


def test_the_best_of_more_candidates_than_are_looked_at_stay() -> None:
    columns = np.zeros((1, 5, 5000), np.float32)
    columns[0, 0] = np.arange(5000) * 10
    columns[0, 2:4] = 5
    columns[0, 4] = np.linspace(0.3, 0.9, 5000)

    [found] = YOLOV8.boxes([columns], shown())

    assert len(found) == 2000
    assert float(found.scores.min()) > 0.6


def test_a_box_of_two_sure_classes_counts_once_or_for_each_as_the_side_file_says() -> None:
    columns = np.zeros((1, 4 + 3, 42), np.float32)
    columns[0, :, 7] = [20, 10, 8, 4, 0.3, 0.6, 0.1]
    of_each = DenseHead(name="yolov8", is_transposed=True, scoring=Scoring(classes_per_box="all"))

    assert YOLOV8.boxes([columns], shown())[0].classes.tolist() == [1]
    assert of_each.boxes([columns], shown())[0].classes.tolist() == [1, 0]


@pytest.mark.parametrize("score_min", [0.0, 1e-9, 0.25, 0.5, 1.0])
def test_the_cut_before_the_sigmoid_loses_no_box(score_min: float) -> None:
    logits = np.array([[-30, -9, -1.0986123, 0, 0.1, 30]], np.float32).T
    head = DenseHead(name="detr_logits", boxes_at=0, scores_at=1, scoring=Scoring(activation="sigmoid"))
    boxes = np.tile(np.array([10, 10, 5, 5], np.float32), (6, 1))

    [found] = head.boxes([boxes[None], logits[None]], shown(score_min=score_min))

    sure = 1 / (1 + np.exp(-logits[:, 0].astype(np.float64)))
    assert len(found) == sum(np.float32(score) >= score_min for score in sure)


def test_a_flat_output_of_one_picture_needs_no_column_for_the_batch() -> None:
    head = RowsHead(name="flat", columns=("x1", "y1", "x2", "y2", "score", "class"))

    [found] = head.boxes([np.array([[1, 2, 11, 12, 0.5, 7]], np.float32)], shown())

    assert found.classes.tolist() == [7]


def test_boxes_of_one_picture_only_cannot_be_those_of_two() -> None:
    head = TensorsHead(boxes_at=0, scores_at=1, classes_at=2, is_batched=False)
    outputs = [np.array([[1, 2, 11, 12]], np.float32), np.array([0.9], np.float32), np.array([4])]

    assert head.boxes(outputs, shown())[0].classes.tolist() == [4]
    with pytest.raises(Failure, match="one picture"):
        head.boxes(outputs, shown(count=2))


@pytest.mark.parametrize("counts", [[2.0], [np.inf], [9e9], [2]])
def test_a_count_is_at_most_what_there_is_room_for(counts: list[float]) -> None:
    head = TensorsHead(boxes_at=0, scores_at=1, classes_at=2, counts_at=3)
    boxes = np.array([[[1, 2, 11, 12], [21, 2, 31, 12]]], np.float32)

    [found] = head.boxes([boxes, np.array([[0.9, 0.8]]), np.array([[4, 5]]), np.array(counts)], shown())

    assert found.classes.tolist() == [4, 5]


@pytest.mark.parametrize("counts", [[0.0], [np.nan], [-5], [-np.inf]])
def test_a_count_that_is_no_count_is_none(counts: list[float]) -> None:
    head = TensorsHead(boxes_at=0, scores_at=1, classes_at=2, counts_at=3)
    boxes = np.array([[[1, 2, 11, 12]]], np.float32)

    assert len(head.boxes([boxes, np.array([[0.9]]), np.array([[4]]), np.array(counts)], shown())[0]) == 0


@pytest.mark.parametrize("dtype", ["float32", "int64", "uint8"])
def test_classes_may_count_from_one(dtype: str) -> None:
    head = TensorsHead(boxes_at=0, scores_at=1, classes_at=2, first_class=1)
    boxes, scores = np.array([[[1, 2, 11, 12], [1, 2, 11, 12]]], np.float32), np.array([[0.9, 0.8]], np.float32)

    [found] = head.boxes([boxes, scores, np.array([[3, 0]], dtype)], shown())

    assert found.classes.tolist() == [2]


def test_boxes_without_a_single_number_are_a_failure() -> None:
    head = TensorsHead(boxes_at=0, scores_at=0, classes_at=1)
    outputs = (np.empty((1, 300, 0), np.float32), np.zeros((1, 300), np.float32))

    with pytest.raises(Failure, match="boxes"):
        head.boxes(outputs, Shown(count=1, size=InputSize(width=128, height=128), score_min=0.1))
