"""Recognises the heads that score every class in every cell or query, by shapes and by what the numbers tell."""

import msgspec

from engine.dense_heads import BOX, MAPS, NANODET_BINS, DenseHead, FastestDetHead, NanoDetHead, YoloxHead
from engine.evidence import (
    are_shares,
    can_be_scores,
    finite_rows,
    lie_near_their_cells,
    strides_of,
)
from engine.refusals import line
from engine.runtime import Tensor
from engine.seen import FASTESTDET, NANODET, STRETCHED, YOLO, YOLOX, Recognised, Seen
from engine.side_files import HeadName

YOLOX_STRIDES = ((8, 16, 32), (8, 16, 32, 64))
YOLOV5_STRIDES = ((8, 16, 32), (8, 16, 32, 64), (16, 32))
YOLOV8_STRIDES = ((8, 16, 32), (4, 8, 16, 32), (8, 16, 32, 64), (16, 32), (4,), (8,))
NANODET_STRIDES = ((8, 16, 32, 64), (8, 16, 32))
YOLOV5_BOXES_PER_CELL = 3
QUERIES_MAX = 1000
"""A model with more rows than this repeats itself."""
NMS_IOU, YOLOV8_NMS_IOU, NANODET_NMS_IOU = 0.45, 0.7, 0.6
_COCO = 80


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """What a model with a single output gave for the known picture, a row per box."""

    rows: Tensor
    """float[A, columns]."""
    is_transposed: bool = False
    """As it came it had a column per box."""


def yolov5(seen: Seen) -> Recognised | None:
    """Decoded boxes with an objectness: three a cell (YOLOv5, v7), or one a cell and the objectness always 1 (v6)."""
    table = _table(seen)
    if table is None or table.rows.shape[1] < BOX + 2:
        return None
    thirds, rest = divmod(len(table.rows), YOLOV5_BOXES_PER_CELL)
    is_yolov5 = rest == 0 and strides_of(thirds, seen.size, YOLOV5_STRIDES) is not None
    is_yolov6 = _is_decoded(table.rows, seen) and bool((table.rows[:, BOX] == 1).all())
    is_told = (is_yolov5 or is_yolov6) and can_be_scores(finite_rows(table.rows[:, BOX:]))
    if not (is_told or seen.is_stated):
        return None
    return _dense("yolov5", table, seen, has_objectness=seen.stated.objectness is not False)


def yolov8(seen: Seen) -> Recognised | None:
    """Decoded boxes without an objectness, channels first as they come; rows first where the classes are counted."""
    table = _table(seen)
    if table is None or table.rows.shape[1] < BOX + 1:
        return None
    if table.is_transposed:
        is_grid = strides_of(len(table.rows), seen.size, YOLOV8_STRIDES) is not None
        is_told = is_grid or seen.metadata.get("task") == "detect"
    else:
        is_told = _is_decoded(table.rows, seen) and table.rows.shape[1] - BOX == (seen.names or _COCO)
    is_of_boxes = seen.metadata.get("task", "detect") == "detect" and can_be_scores(finite_rows(table.rows[:, BOX:]))
    if not ((is_told and is_of_boxes) or seen.is_stated):
        return None
    return _dense("yolov8", table, seen, has_objectness=bool(seen.stated.objectness))


def yolox(seen: Seen) -> Recognised | None:
    """What a grid of cells leaves before it is decoded: offsets and logarithms."""
    rows = seen.matrix()
    if rows is None or rows.shape[1] < BOX + 2:
        return None
    strides = strides_of(len(rows), seen.size, YOLOX_STRIDES)
    if strides is None or (not seen.is_stated and _is_decoded(rows, seen)):
        return None
    scoring = seen.scoring(rows[:, BOX:], has_objectness=True)
    head = YoloxHead(strides=strides, scoring=scoring, nms_iou=seen.nms(NMS_IOU))
    return Recognised(head=head, usual=YOLOX, class_count=rows.shape[1] - BOX - 1)


def yolox_decoded(seen: Seen) -> Recognised | None:
    """YOLOX with the decoding in its graph. Raises `Failure` if the fifth number may as well be a class."""
    rows = seen.matrix()
    if rows is None or rows.shape[1] < BOX + 2:
        return None
    if not seen.is_stated:
        if not _is_decoded(rows, seen):
            return None
        numbers = rows.shape[1] - BOX
        if numbers == (seen.names or _COCO):
            return None
        if numbers != 1 + (seen.names or _COCO):
            raise seen.refused(
                "its boxes are decoded, but whether an objectness or a class comes behind a box can't be told",
                (
                    line({"head": "yolox_decoded"}, f"if it is an objectness and {numbers - 1} classes follow"),
                    line({"head": "yolov8"}, f"if these are {numbers} classes"),
                ),
            )
    found = _dense("yolox_decoded", Table(rows=rows), seen, has_objectness=True)
    return Recognised(head=found.head, usual=YOLOX, class_count=found.class_count)


def rtdetr(seen: Seen) -> Recognised | None:
    """Queries with the scores of all classes, the boxes in fractions."""
    rows = seen.matrix()
    if rows is None or rows.shape[1] < BOX + 1:
        return None
    known = finite_rows(rows)
    are_fractions = bool(known.any()) and are_shares(known) and BOX + 1 < rows.shape[1] < len(rows)
    is_told = rows.shape[1] - BOX == seen.names or are_fractions
    is_few = len(rows) <= QUERIES_MAX and strides_of(len(rows), seen.size, YOLOV8_STRIDES) is None
    if not (seen.is_stated or (is_few and is_told)):
        return None
    head = DenseHead(
        name="rtdetr",
        form=seen.stated.box or "cxcywh",
        unit=seen.unit(rows[:, :BOX], otherwise="fractions"),
        scoring=seen.scoring(rows[:, BOX:]),
        nms_iou=seen.nms(None),
    )
    return Recognised(head=head, usual=STRETCHED, class_count=rows.shape[1] - BOX)


def nanodet(seen: Seen) -> Recognised | None:
    """Class scores, then the distributions of four distances, which are no scores."""
    rows = seen.matrix()
    if rows is None or rows.shape[1] <= BOX * NANODET_BINS:
        return None
    strides = strides_of(len(rows), seen.size, NANODET_STRIDES)
    known = finite_rows(rows)
    scores, distances = known[:, : -BOX * NANODET_BINS], known[:, -BOX * NANODET_BINS :]
    is_told = are_shares(scores) and not are_shares(distances) and not _is_decoded(rows, seen)
    if strides is None or not (seen.is_stated or is_told):
        return None
    head = NanoDetHead(
        strides=strides,
        cell_center=0.0 if len(strides) == len(NANODET_STRIDES[0]) else 0.5,
        scoring=seen.scoring(scores),
        nms_iou=seen.nms(NANODET_NMS_IOU),
    )
    return Recognised(head=head, usual=NANODET, class_count=scores.shape[1])


def fastestdet(seen: Seen) -> Recognised | None:
    """One map of cells of 16 pixels: objectness, box, and classes that are shares of one whole."""
    output = seen.values[0]
    if len(seen.values) != 1 or output.ndim != MAPS or output.dtype.kind != "f" or output.shape[1] < BOX + 2:
        return None
    is_sized = output.shape[2:] == (-(-seen.size.height // 16), -(-seen.size.width // 16))
    table = finite_rows(output[0].reshape(output.shape[1], -1).T)
    is_told = is_sized and are_shares(table[:, 0]) and are_shares(table[:, BOX + 1 :])
    if not (is_told or seen.is_stated):
        return None
    head = FastestDetHead(nms_iou=seen.nms(NMS_IOU))
    return Recognised(head=head, usual=FASTESTDET, class_count=output.shape[1] - BOX - 1)


def _table(seen: Seen) -> Table | None:
    """The single output with a row per box: boxes are more than columns."""
    matrix = seen.matrix()
    if matrix is None:
        return None
    is_transposed = len(matrix) < matrix.shape[1]
    return Table(rows=matrix.T if is_transposed else matrix, is_transposed=is_transposed)


def _is_decoded(rows: Tensor, seen: Seen) -> bool:
    """Whether there is a row per cell and each has its box near its cell."""
    strides = strides_of(len(rows), seen.size, YOLOX_STRIDES)
    return strides is not None and lie_near_their_cells(rows[:, :2], seen.size, strides)


def _dense(name: HeadName, table: Table, seen: Seen, *, has_objectness: bool) -> Recognised:
    """A head of decoded boxes with their scores behind them."""
    rows = table.rows
    scoring = seen.scoring(rows[:, BOX:], has_objectness=has_objectness)
    head = DenseHead(
        name=name,
        is_transposed=table.is_transposed,
        form=seen.stated.box or "cxcywh",
        unit=seen.unit(rows[:, :BOX]),
        scoring=scoring,
        nms_iou=seen.nms(YOLOV8_NMS_IOU if name == "yolov8" else NMS_IOU),
    )
    return Recognised(head=head, usual=YOLO, class_count=rows.shape[1] - BOX - scoring.class_from)
