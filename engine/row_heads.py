"""Heads of models that finish their boxes themselves: one row, or one place in several tensors, is one box."""

from collections.abc import Sequence

import msgspec
import numpy as np

from engine.heads import BATCH, BOX, ROWS, Shown, corners_of, output_at, quiet, real_boxes, unreadable
from engine.postprocess import Boxes, Flags
from engine.runtime import Tensor
from engine.side_files import BOX_COLUMNS, BoxForm, Column, HeadName, Unit

END_TO_END_COLUMNS: tuple[Column, ...] = ("x1", "y1", "x2", "y2", "score", "class")


class RowsHead(msgspec.Struct, frozen=True, kw_only=True):
    """float[N, K, columns], or float[D, columns] for all pictures together; unused rows have a score of 0."""

    name: HeadName = "end_to_end"
    columns: tuple[Column, ...] = END_TO_END_COLUMNS
    unit: Unit = "pixels"
    first_class: int = 0
    """What the model calls its first class."""
    nms_iou: float | None = None

    @property
    def is_flat(self) -> bool:
        """Whether the rows of all pictures lie one after the other."""
        return self.name == "flat"

    @quiet
    def boxes(self, outputs: Sequence[Tensor], shown: Shown) -> list[Boxes]:
        rows = output_at(outputs, 0, rank=ROWS if self.is_flat else BATCH, rows_min=0 if self.is_flat else shown.count)
        if rows.shape[-1] != len(self.columns):
            raise unreadable(f"{list(rows.shape)} for the columns {', '.join(self.columns)}")
        return [self._of_one(self.rows_of(rows, at), shown) for at in range(shown.count)]

    def rows_of(self, rows: Tensor, at: int) -> Tensor:
        """float[K, columns]: the rows of that picture of the batch."""
        if not self.is_flat:
            return rows[at]
        return rows[rows[:, self.columns.index("batch")] == at] if "batch" in self.columns else rows

    def _of_one(self, rows: Tensor, shown: Shown) -> Boxes:
        at = self.columns.index
        rows = rows[_worth(rows[:, at("score")], rows[:, at("class")], shown.score_min)]
        form: BoxForm = "cxcywh" if "cx" in self.columns else "x1y1x2y2"
        box = rows[:, [at(column) for column in BOX_COLUMNS[form]]]
        corners = corners_of(box, form=form, unit=self.unit, size=shown.size)
        classes = rows[:, at("class")].astype(np.float64) - self.first_class
        return real_boxes(corners, rows[:, at("score")], classes, nms_iou=self.nms_iou)


class TensorsHead(msgspec.Struct, frozen=True, kw_only=True):
    """Boxes float[N, K, 4], scores float[N, K] and classes [N, K] in tensors of their own; or all without N."""

    name: HeadName = "detr"
    boxes_at: int
    scores_at: int
    """The same as `boxes_at`: the score is the fifth number of a box."""
    classes_at: int
    counts_at: int | None = None
    """[N] or [N, 1]: how many boxes of each picture mean something; None: those with a score."""
    is_batched: bool = True
    form: BoxForm = "x1y1x2y2"
    unit: Unit = "pixels"
    first_class: int = 0
    """What the model calls its first class."""
    nms_iou: float | None = None

    @quiet
    def boxes(self, outputs: Sequence[Tensor], shown: Shown) -> list[Boxes]:
        if not self.is_batched and shown.count > 1:
            raise unreadable(f"boxes of one picture for {shown.count}")
        rank = BATCH if self.is_batched else ROWS
        boxes, classes = self._of_all(outputs, self.boxes_at, rank), self._of_all(outputs, self.classes_at, rank - 1)
        has_scores = self.scores_at == self.boxes_at
        scores = _last(boxes) if has_scores else self._of_all(outputs, self.scores_at, rank - 1)
        is_alike = boxes.shape[:2] == scores.shape == classes.shape
        if not is_alike or len(boxes) < shown.count or boxes.shape[2] != BOX + has_scores:
            raise unreadable(f"boxes, scores, classes {[list(part.shape) for part in (boxes, scores, classes)]}")
        counts = self._counts(outputs, shown.count, boxes.shape[1])
        return [self._of_one(boxes[at, :n], scores[at, :n], classes[at, :n], shown) for at, n in enumerate(counts)]

    def _of_all(self, outputs: Sequence[Tensor], at: int, rank: int) -> Tensor:
        """That output with a dimension for the pictures, even if there is always one."""
        output = output_at(outputs, at, rank=rank)
        return output if self.is_batched else output[None]

    def _counts(self, outputs: Sequence[Tensor], pictures: int, most: int) -> list[int]:
        """How many boxes of each picture mean something, at most as many as there are."""
        if self.counts_at is None:
            return [most] * pictures
        stated = outputs[self.counts_at].reshape(-1) if self.counts_at < len(outputs) else np.empty(0)
        if len(stated) < pictures:
            raise unreadable(f"{len(stated)} counts for {pictures} pictures")
        return [int(number) for number in np.nan_to_num(stated[:pictures], nan=0).clip(0, most)]

    def _of_one(self, boxes: Tensor, scores: Tensor, classes: Tensor, shown: Shown) -> Boxes:
        chosen = _worth(scores, classes, shown.score_min)
        corners = corners_of(boxes[chosen, :BOX], form=self.form, unit=self.unit, size=shown.size)
        numbers = classes[chosen].astype(np.float64) - self.first_class
        return real_boxes(corners, scores[chosen], numbers, nms_iou=self.nms_iou)


def _last(boxes: Tensor) -> Tensor:
    """The last column of boxes [N, K, columns]. Raises `Failure(inference_failed)` without any."""
    if not boxes.shape[2]:
        raise unreadable(f"boxes {list(boxes.shape)}")
    return boxes[..., -1]


def _worth(scores: Tensor, classes: Tensor, score_min: float) -> Flags:
    """bool[K]: which boxes are sure enough, of a class that is a number."""
    exact = scores.astype(np.float32, copy=False)  # beside halves numpy rounds the limit to a half, too
    return (exact >= score_min) & np.isfinite(classes)
