"""Recognises models that give boxes and the scores of all classes in two tensors."""

import msgspec

from engine.dense_heads import BOX, DenseHead
from engine.dense_recognition import NMS_IOU, QUERIES_MAX
from engine.evidence import add_up_to_one, are_mostly_unsure, are_shares, finite_rows, form_of, is_mostly
from engine.refusals import line
from engine.runtime import Tensor
from engine.scoring import Scoring
from engine.seen import IMAGENET, SSD, STRETCHED, YOLO, Recognised, Seen
from engine.side_files import Activation, Background, BoxForm, HeadName

_PAIRS = (("boxes", "scores"), ("pred_boxes", "logits"), ("boxes", "logits"), ("dets", "labels"))


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """What a model with boxes and scores in two outputs gave for the known picture, and which outputs these are."""

    boxes: Tensor
    """float[A, 4]."""
    scores: Tensor
    """float[A, C]."""
    boxes_at: int
    scores_at: int


def detr_logits(seen: Seen) -> Recognised | None:
    """Boxes and numbers that are no scores yet. Raises `Failure` if what makes scores of them can't be told."""
    pair = _pair(seen)
    if pair is None or (are_shares(finite_rows(pair.scores)) and not seen.is_stated and seen.named("logits") is None):
        return None
    scoring = _logits_scoring(finite_rows(pair.scores), seen)
    head = DenseHead(
        name="detr_logits",
        boxes_at=pair.boxes_at,
        scores_at=pair.scores_at,
        form=seen.stated.box or "cxcywh",
        unit=seen.unit(pair.boxes, otherwise="fractions"),
        scoring=scoring,
        nms_iou=seen.nms(None),
    )
    is_normalised = scoring.activation == "softmax" or seen.named("dets") is not None
    count = pair.scores.shape[1] - scoring.columns_min + 1
    return Recognised(head=head, usual=IMAGENET if is_normalised else STRETCHED, class_count=count)


def boxes_scores(seen: Seen) -> Recognised | None:
    """Decoded boxes and scores 0..1 in two tensors. Raises `Failure` if the way the boxes are written can't be told."""
    pair = _pair(seen)
    if pair is None or not (are_shares(finite_rows(pair.scores)) or seen.is_stated):
        return None
    scoring = seen.scoring(pair.scores, background=_background(finite_rows(pair.scores)))
    has_background = scoring.background != "none"
    unit = seen.unit(pair.boxes)
    head = DenseHead(
        name="boxes_scores",
        boxes_at=pair.boxes_at,
        scores_at=pair.scores_at,
        form=_form(pair.boxes, seen),
        unit=unit,
        scoring=scoring,
        nms_iou=seen.nms(NMS_IOU if has_background or len(pair.boxes) > QUERIES_MAX else None),
    )
    usual = SSD if has_background else YOLO if unit == "pixels" else STRETCHED
    return Recognised(head=head, usual=usual, class_count=pair.scores.shape[1] - scoring.columns_min + 1)


def _pair(seen: Seen) -> Pair | None:
    """Boxes and scores in two tensors, by their names or by their shapes."""
    stated = (seen.stated.boxes, seen.stated.scores)
    for boxes_name, scores_name in (*((stated,) if all(stated) else ()), *_PAIRS):
        found = _of_pair(seen, seen.named(boxes_name or ""), seen.named(scores_name or ""))
        if found is not None:
            return found
    if len(seen.values) != len(_PAIRS[0]) or all(output.shape[-1:] == (BOX,) for output in seen.values):
        return None
    return _of_pair(seen, 0, 1) or _of_pair(seen, 1, 0)


def _of_pair(seen: Seen, boxes_at: int | None, scores_at: int | None) -> Pair | None:
    if boxes_at is None or scores_at is None:
        return None
    boxes, scores = seen.rows(boxes_at), seen.rows(scores_at)
    if boxes is None or scores is None or boxes.shape[1] != BOX or len(boxes) != len(scores):
        return None
    return Pair(boxes=boxes, scores=scores, boxes_at=boxes_at, scores_at=scores_at)


def _logits_scoring(logits: Tensor, seen: Seen) -> Scoring:
    """How classes are read from logits float32[K, C]. Raises `Failure` if it can't be told."""
    activation: Activation | None = seen.stated.activation
    if activation is None:
        may_be_background = logits.shape[1] > 1 and is_mostly(logits, -1)
        is_unsure = are_mostly_unsure(logits)
        if len(logits) and may_be_background != is_unsure:  # both: a class seen everywhere, or a weak background
            activation = "softmax" if may_be_background else "sigmoid"
        else:
            raise seen.refused(
                "what makes scores of its logits can't be told",
                (
                    line(_stating("activation", "sigmoid", head="detr_logits"), "if each class is asked for itself"),
                    line(_stating("activation", "softmax", head="detr_logits"), "if the last one is no object"),
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
                line(_stating("box", "x1y1x2y2", head="boxes_scores"), "if they are corners"),
                line(_stating("box", "cxcywh", head="boxes_scores"), "if they are a center and a size"),
            ),
        )
    return form


def _stating(field: str, value: str, *, head: HeadName) -> dict[str, object]:
    """A side file that names the head and one of its ways."""
    return {"head": head, "output": {field: value}}
