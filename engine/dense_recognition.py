"""Recognises the heads that score every class in every cell or query, by shapes and by what the numbers tell."""

from engine.dense_heads import BOX, MAPS, NANODET_BINS, DenseHead, FastestDetHead, NanoDetHead, YoloxHead
from engine.evidence import (
    add_up_to_one,
    are_mostly_unsure,
    are_shares,
    finite_rows,
    form_of,
    is_mostly,
    lie_near_their_cells,
    strides_of,
)
from engine.runtime import Tensor
from engine.scoring import Scoring
from engine.seen import FASTESTDET, IMAGENET, NANODET, SSD, STRETCHED, YOLO, YOLOX, Recognised, Seen
from engine.side_files import Activation, Background, BoxForm, HeadName

YOLOX_STRIDES = ((8, 16, 32), (8, 16, 32, 64))
YOLOV5_STRIDES = ((8, 16, 32), (8, 16, 32, 64), (16, 32))
YOLOV8_STRIDES = ((8, 16, 32), (4, 8, 16, 32), (8, 16, 32, 64), (16, 32), (4,), (8,))
NANODET_STRIDES = ((8, 16, 32, 64), (8, 16, 32))
YOLOV5_BOXES_PER_CELL = 3
QUERIES_MAX = 1000
"""A model with more rows than this repeats itself."""
NMS_IOU, YOLOV8_NMS_IOU, NANODET_NMS_IOU = 0.45, 0.7, 0.6
_COCO = 80
_PAIRS = (("boxes", "scores"), ("pred_boxes", "logits"), ("boxes", "logits"), ("dets", "labels"))


def yolov5(seen: Seen) -> Recognised | None:
    """Decoded boxes with an objectness: three a cell (YOLOv5, v7), or one a cell and the objectness always 1 (v6)."""
    table, is_transposed = _table(seen)
    if table is None or table.shape[1] < BOX + 2:
        return None
    thirds, rest = divmod(len(table), YOLOV5_BOXES_PER_CELL)
    is_yolov5 = rest == 0 and strides_of(thirds, seen.size, YOLOV5_STRIDES) is not None
    is_yolov6 = _is_decoded(table, seen) and bool((table[:, BOX] == 1).all())
    if not (is_yolov5 or is_yolov6 or seen.is_stated):
        return None
    has_objectness = seen.stated.objectness is not False
    return _dense("yolov5", table, seen, has_objectness=has_objectness, is_transposed=is_transposed)


def yolov8(seen: Seen) -> Recognised | None:
    """Decoded boxes without an objectness, channels first as they come; rows first where the classes are counted."""
    table, is_transposed = _table(seen)
    if table is None or table.shape[1] < BOX + 1:
        return None
    is_grid = strides_of(len(table), seen.size, YOLOV8_STRIDES) is not None
    if is_transposed:
        is_told = is_grid or seen.metadata.get("task") == "detect"
    else:
        is_told = _is_decoded(table, seen) and table.shape[1] - BOX == (seen.names or _COCO)
    if not (is_told or seen.is_stated):
        return None
    return _dense("yolov8", table, seen, has_objectness=bool(seen.stated.objectness), is_transposed=is_transposed)


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
                    f'{{"head": "yolox_decoded"}} if it is an objectness and {numbers - 1} classes follow',
                    f'{{"head": "yolov8"}} if these are {numbers} classes',
                ),
            )
    found = _dense("yolox_decoded", rows, seen, has_objectness=True, is_transposed=False)
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


def detr_logits(seen: Seen) -> Recognised | None:
    """Boxes and numbers that are no scores yet. Raises `Failure` if what makes scores of them can't be told."""
    pair = _pair(seen)
    if pair is None or (are_shares(finite_rows(pair[1])) and not seen.is_stated and seen.named("logits") is None):
        return None
    boxes, logits, boxes_at, scores_at = pair
    scoring = _logits_scoring(finite_rows(logits), seen)
    head = DenseHead(
        name="detr_logits",
        boxes_at=boxes_at,
        scores_at=scores_at,
        form=seen.stated.box or "cxcywh",
        unit=seen.unit(boxes, otherwise="fractions"),
        scoring=scoring,
        nms_iou=seen.nms(None),
    )
    is_normalised = scoring.activation == "softmax" or seen.named("dets") is not None
    count = logits.shape[1] - scoring.columns_min + 1
    return Recognised(head=head, usual=IMAGENET if is_normalised else STRETCHED, class_count=count)


def boxes_scores(seen: Seen) -> Recognised | None:
    """Decoded boxes and scores 0..1 in two tensors. Raises `Failure` if the way the boxes are written can't be told."""
    pair = _pair(seen)
    if pair is None or not (are_shares(finite_rows(pair[1])) or seen.is_stated):
        return None
    boxes, scores, boxes_at, scores_at = pair
    scoring = seen.scoring(scores, background=_background(finite_rows(scores)))
    has_background = scoring.background != "none"
    unit = seen.unit(boxes)
    head = DenseHead(
        name="boxes_scores",
        boxes_at=boxes_at,
        scores_at=scores_at,
        form=_form(boxes, seen),
        unit=unit,
        scoring=scoring,
        nms_iou=seen.nms(NMS_IOU if has_background or len(boxes) > QUERIES_MAX else None),
    )
    usual = SSD if has_background else YOLO if unit == "pixels" else STRETCHED
    return Recognised(head=head, usual=usual, class_count=scores.shape[1] - scoring.columns_min + 1)


def _table(seen: Seen) -> tuple[Tensor | None, bool]:
    """The single output with a row per box, and whether it had to be transposed: boxes are more than columns."""
    matrix = seen.matrix()
    if matrix is None or len(matrix) >= matrix.shape[1]:
        return matrix, False
    return matrix.T, True


def _is_decoded(rows: Tensor, seen: Seen) -> bool:
    """Whether there is a row per cell and each has its box near its cell."""
    strides = strides_of(len(rows), seen.size, YOLOX_STRIDES)
    return strides is not None and lie_near_their_cells(rows[:, :2], seen.size, strides)


def _dense(name: HeadName, table: Tensor, seen: Seen, *, has_objectness: bool, is_transposed: bool) -> Recognised:
    """A head of decoded boxes with their scores behind them. table: float[A, columns]."""
    scoring = seen.scoring(table[:, BOX:], has_objectness=has_objectness)
    head = DenseHead(
        name=name,
        is_transposed=is_transposed,
        form=seen.stated.box or "cxcywh",
        unit=seen.unit(table[:, :BOX]),
        scoring=scoring,
        nms_iou=seen.nms(YOLOV8_NMS_IOU if name == "yolov8" else NMS_IOU),
    )
    return Recognised(head=head, usual=YOLO, class_count=table.shape[1] - BOX - scoring.class_from)


def _pair(seen: Seen) -> tuple[Tensor, Tensor, int, int] | None:
    """Boxes float[A, 4] and scores float[A, C] of the known picture, and where they are, by names or by shapes."""
    stated = (seen.stated.boxes, seen.stated.scores)
    for boxes_name, scores_name in (*((stated,) if all(stated) else ()), *_PAIRS):
        found = _of_pair(seen, seen.named(boxes_name or ""), seen.named(scores_name or ""))
        if found is not None:
            return found
    if len(seen.values) != len(_PAIRS[0]) or all(output.shape[-1:] == (BOX,) for output in seen.values):
        return None
    return _of_pair(seen, 0, 1) or _of_pair(seen, 1, 0)


def _of_pair(seen: Seen, boxes_at: int | None, scores_at: int | None) -> tuple[Tensor, Tensor, int, int] | None:
    if boxes_at is None or scores_at is None:
        return None
    boxes, scores = seen.rows(boxes_at), seen.rows(scores_at)
    if boxes is None or scores is None or boxes.shape[1] != BOX or len(boxes) != len(scores):
        return None
    return boxes, scores, boxes_at, scores_at


def _logits_scoring(logits: Tensor, seen: Seen) -> Scoring:
    """How classes are read from logits float32[K, C]. Raises `Failure` if it can't be told."""
    activation: Activation | None = seen.stated.activation
    if activation is None:
        if len(logits) and is_mostly(logits, -1):
            activation = "softmax"
        elif len(logits) and are_mostly_unsure(logits):
            activation = "sigmoid"
        else:
            raise seen.refused(
                "what makes scores of its logits can't be told",
                (
                    '{"head": "detr_logits", "output": {"activation": "sigmoid"}} if each class is asked for itself',
                    '{"head": "detr_logits", "output": {"activation": "softmax"}} if the last one is no object',
                ),
            )
    return seen.scoring(logits, activation=activation, background="last" if activation == "softmax" else "none")


def _background(scores: Tensor) -> Background:
    """The column of scores float32[K, C] that is no class."""
    if not add_up_to_one(scores):
        return "none"
    return "first" if is_mostly(scores, 0) else "last" if is_mostly(scores, -1) else "none"


def _form(boxes: Tensor, seen: Seen) -> BoxForm:
    form = seen.stated.box or form_of(finite_rows(boxes), seen.size)
    if form is None:
        raise seen.refused(
            "whether its boxes are corners or a center and a size can't be told",
            (
                '{"head": "boxes_scores", "output": {"box": "x1y1x2y2"}} if they are corners',
                '{"head": "boxes_scores", "output": {"box": "cxcywh"}} if they are a center and a size',
            ),
        )
    return form
