"""Recognises the heads of finished boxes: rows, or tensors for boxes, scores and classes."""

import msgspec

from engine.dense_recognition import NMS_IOU, QUERIES_MAX, YOLOX_STRIDES
from engine.evidence import finite_rows, fit, strides_of
from engine.heads import BATCH, ROWS
from engine.refusals import EXAMPLE_INPUT, line
from engine.row_heads import END_TO_END_COLUMNS, RowsHead, TensorsHead
from engine.runtime import Tensor, TensorSpec
from engine.seen import MMDETECTION, STRETCHED, YOLO, YOLOX, Recognised, Seen, first_of
from engine.side_files import BOX_COLUMNS, BoxForm, Column, HeadName

_BOX = BOX_COLUMNS["x1y1x2y2"]
_BOX_AND_SCORE = 5
_TENSORFLOW_EXTRAS = (
    "raw_detection_boxes",
    "raw_detection_scores",
    "detection_anchor_indices",
    "detection_multiclass_scores",
)
"""Further outputs of the models of TensorFlow's detection library, which say nothing new."""
FLAT_ORDERS: tuple[tuple[Column, ...], ...] = (
    ("batch", *_BOX, "score", "class"),
    ("batch", *_BOX, "class", "score"),
    ("batch", "class", "score", *_BOX),
)
ROW_ORDERS: tuple[tuple[Column, ...], ...] = (
    END_TO_END_COLUMNS,
    (*_BOX, "class", "score"),
    ("class", "score", *_BOX),
)


def flat(seen: Seen) -> Recognised | None:
    """Rows of all pictures one after the other. Raises `Failure` if the order of the columns can't be told."""
    output = seen.values[0]
    if len(seen.values) != 1 or output.ndim != ROWS or output.dtype.kind != "f":
        return None
    stated = _stated_columns(seen)
    if output.shape[1] != len(stated or FLAT_ORDERS[0]):
        return None
    rows = finite_rows(output)
    told = [columns for columns in FLAT_ORDERS if fit(rows, columns)]
    columns = stated or (told[0] if len(told) == 1 else None)
    if columns is None:
        raise seen.refused(
            "it has a row of seven numbers per box, but their order can't be told"
            + ("" if len(rows) else ": it finds nothing in the picture it is tried on"),
            tuple(
                line(
                    {"head": "flat", "output": {"columns": order}, "input": EXAMPLE_INPUT},
                    f"if {order[5]} stands before {order[6]}",
                )
                for order in FLAT_ORDERS[:2]
            ),
        )
    head = RowsHead(
        name="flat",
        columns=columns,
        unit=seen.unit(_box_of(rows, columns)),
        first_class=seen.stated.first_class,
        nms_iou=seen.nms(None),
    )
    # what finds things only in bright pixels was made for them, and that is YOLOX
    is_bright = seen.scale == "0..255" and seen.inputs[0].dtype != "uint8"
    return Recognised(head=head, usual=YOLOX if is_bright else YOLO, reads_one_picture="batch" not in columns)


def end_to_end(seen: Seen) -> Recognised | None:
    """A fixed number of rows per picture, the unused ones without a score."""
    rows = seen.matrix()
    stated = _stated_columns(seen)
    if rows is None or rows.shape[1] != len(stated or END_TO_END_COLUMNS):
        return None
    known = finite_rows(rows)
    told = [columns for columns in ROW_ORDERS if len(columns) == rows.shape[1] and fit(known, columns)]
    is_used = bool(known[:, len(_BOX) :].any())
    is_marked = seen.is_stated or seen.metadata.get("end2end") == "True"
    is_few = len(rows) <= QUERIES_MAX and strides_of(len(rows), seen.size, YOLOX_STRIDES) is None
    if not (is_marked or told or (is_few and not is_used)):
        return None
    columns = stated or (END_TO_END_COLUMNS if is_marked or not told else told[0])
    head = RowsHead(
        columns=columns,
        unit=seen.unit(_box_of(known, columns)),
        first_class=seen.stated.first_class,
        nms_iou=seen.nms(None if is_few else NMS_IOU),
    )
    return Recognised(head=head, usual=YOLO)


class Roles(msgspec.Struct, frozen=True, kw_only=True):
    """Which output is what; None: there is none."""

    boxes: int | None = None
    scores: int | None = None
    classes: int | None = None
    counts: int | None = None


def detr(seen: Seen) -> Recognised | None:
    """Boxes, scores and classes of a fixed number of queries; or of one picture only; or the score within the box."""
    roles = _roles(seen)
    found = None if roles.counts is not None else _of_tensors("detr", roles, seen)
    if found is None or roles.scores != roles.boxes:
        return found
    return msgspec.structs.replace(found, usual=MMDETECTION)


def padded(seen: Seen) -> Recognised | None:
    """The suppression of repeats in the graph: how many boxes there are, and room for the most there can be."""
    roles = _roles(seen)
    return None if roles.counts is None else _of_tensors("padded", roles, seen)


def _of_tensors(name: HeadName, roles: Roles, seen: Seen) -> Recognised | None:
    boxes_at, scores_at, classes_at = roles.boxes, roles.scores, roles.classes
    if boxes_at is None or scores_at is None or classes_at is None:
        return None
    boxes = seen.values[boxes_at]
    if boxes.ndim not in (ROWS, BATCH):
        return None
    head = TensorsHead(
        name=name,
        boxes_at=boxes_at,
        scores_at=scores_at,
        classes_at=classes_at,
        counts_at=roles.counts,
        is_batched=boxes.ndim == BATCH,
        form=seen.stated.box or _usual_form(seen, classes_at),
        unit=seen.unit(first_of(boxes)[:, : len(_BOX)]),
        first_class=seen.stated.first_class,
        nms_iou=seen.nms(None),
    )
    usual = YOLO if roles.counts is not None or boxes.ndim == ROWS else STRETCHED
    return Recognised(head=head, usual=usual, reads_one_picture=boxes.ndim == ROWS)


def _roles(seen: Seen) -> Roles:
    """What each output is: by the side file, else by name, rank and type; nothing if one of them is unknown."""
    stated = seen.stated
    at: dict[str, int | None] = {
        role: seen.named(name or "")
        for role, name in (
            ("boxes", stated.boxes),
            ("scores", stated.scores),
            ("classes", stated.classes),
            ("counts", stated.counts),
        )
    }
    boxes_rank = max(len(spec.shape) for spec in seen.outputs)
    for place, spec in enumerate(seen.outputs):
        if place in at.values() or spec.name in _TENSORFLOW_EXTRAS:
            continue
        role = _role(spec, boxes_rank)
        if role is None or at[role] is not None:
            return Roles()  # the others may not be what they seem
        at[role] = place
    if at["boxes"] is not None and seen.outputs[at["boxes"]].shape[-1:] == (_BOX_AND_SCORE,):
        at["scores"] = at["boxes"] if at["scores"] is None else None
    return Roles(**at)


def _role(spec: TensorSpec, boxes_rank: int) -> str | None:
    """What an output of this name, shape and type is; None: it can't be told."""
    name, is_float = spec.name.lower(), spec.dtype.startswith("float")
    if "num" in name or "count" in name:
        return "counts" if spec.shape[1:] in ((), (1,)) else None
    if len(spec.shape) == boxes_rank:
        return "boxes" if is_float and spec.shape[-1:] in ((len(_BOX),), (_BOX_AND_SCORE,)) else None
    if len(spec.shape) != boxes_rank - 1:
        return None
    return "classes" if "class" in name or "label" in name or not is_float else "scores"


def _usual_form(seen: Seen, classes_at: int) -> BoxForm:
    """Corners; those of TensorFlow, whose classes are floats, have y first."""
    is_tensorflow = seen.named("detection_boxes") is not None and seen.values[classes_at].dtype.kind == "f"
    return "y1x1y2x2" if is_tensorflow else "x1y1x2y2"


def _stated_columns(seen: Seen) -> tuple[Column, ...] | None:
    return None if seen.stated.columns is None else tuple(seen.stated.columns)


def _box_of(rows: Tensor, columns: tuple[Column, ...]) -> Tensor:
    """float32[K, 4]: the numbers of rows that are a box."""
    return rows[:, [at for at, column in enumerate(columns) if column not in ("batch", "score", "class")]]
