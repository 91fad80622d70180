"""Heads of models that score every class in every cell of their grids, or in every query."""

from collections.abc import Sequence

import msgspec
import numpy as np

from engine.heads import BATCH, BOX, Shown, around, corners_of, grid, output_at, quiet, real_boxes, unreadable
from engine.postprocess import Boxes, Floats
from engine.runtime import Tensor
from engine.scoring import Scored, Scoring, activated
from engine.side_files import BoxForm, HeadName, Unit

NANODET_BINS = 8
"""Values of the distribution of each of the four distances of a box (reg_max 7)."""
FASTESTDET_OBJECTNESS, FASTESTDET_CLASS = 0.6, 0.4
"""Exponents of the two parts of a FastestDet score."""
MAPS = 4
"""Dimensions of an output with a map of cells per picture and number."""
_OBJECTNESS = Scoring(has_objectness=True)


class DenseHead(msgspec.Struct, frozen=True, kw_only=True):
    """Decoded boxes with the scores of all classes: float[N, A, 4 + scores], or boxes and scores in two tensors."""

    name: HeadName
    boxes_at: int = 0
    scores_at: int = 0
    """The same as `boxes_at`: the scores follow the box."""
    is_transposed: bool = False
    """float[N, columns, A]."""
    form: BoxForm = "cxcywh"
    unit: Unit = "pixels"
    scoring: Scoring = Scoring()
    nms_iou: float | None = None

    @quiet
    def boxes(self, outputs: Sequence[Tensor], shown: Shown) -> list[Boxes]:
        boxes = output_at(outputs, self.boxes_at, rank=BATCH, rows_min=shown.count)
        scores = output_at(outputs, self.scores_at, rank=BATCH, rows_min=shown.count)
        if self.is_transposed:  # seen as rows, without moving a number
            boxes, scores = boxes.transpose(0, 2, 1), scores.transpose(0, 2, 1)
        scores = scores[:, :, BOX:] if self.scores_at == self.boxes_at else scores
        is_readable = boxes.shape[2] >= BOX and scores.shape[2] >= self.scoring.columns_min
        if boxes.shape[1] != scores.shape[1] or not is_readable:
            raise unreadable(f"boxes {list(boxes.shape)} with scores {list(scores.shape)}")
        return [self._of_one(boxes[at], scores[at], shown) for at in range(shown.count)]

    def _of_one(self, boxes: Tensor, scores: Tensor, shown: Shown) -> Boxes:
        found = self.scoring.of(scores, shown.score_min)
        corners = corners_of(boxes[found.at, :BOX], form=self.form, unit=self.unit, size=shown.size)
        return real_boxes(corners, found.scores, found.classes, nms_iou=self.nms_iou)


class YoloxHead(msgspec.Struct, frozen=True, kw_only=True):
    """float[N, A, 5 + C] as the network leaves it: x, y offsets in cells, log sizes, objectness, class scores."""

    name: HeadName = "yolox"
    strides: tuple[int, ...] = (8, 16, 32)
    scoring: Scoring = _OBJECTNESS
    nms_iou: float | None = None

    @quiet
    def boxes(self, outputs: Sequence[Tensor], shown: Shown) -> list[Boxes]:
        rows, cells = _rows_of_cells(outputs, shown, self.strides, columns_min=BOX + self.scoring.columns_min)
        found: list[Boxes] = []
        for table in rows[: shown.count]:
            scored = self.scoring.of(table[:, BOX:], shown.score_min)
            offsets = table[scored.at, :BOX].astype(np.float32, copy=False)
            x_y, stride = cells[scored.at, :2], cells[scored.at, 2:]
            corners = around((offsets[:, :2] + x_y) * stride, np.exp(offsets[:, 2:]) * stride)
            found.append(real_boxes(corners, scored.scores, scored.classes, nms_iou=self.nms_iou))
        return found


class NanoDetHead(msgspec.Struct, frozen=True, kw_only=True):
    """float[N, A, C + 32]: class scores, then how likely each distance from the cell to left, top, right, bottom is."""

    name: HeadName = "nanodet"
    strides: tuple[int, ...] = (8, 16, 32, 64)
    cell_center: float = 0.0
    """Where in a cell the distances start, in cells: at its corner (NanoDet-Plus) or at 0.5 (NanoDet)."""
    scoring: Scoring = Scoring()
    nms_iou: float | None = None

    @quiet
    def boxes(self, outputs: Sequence[Tensor], shown: Shown) -> list[Boxes]:
        rows, cells = _rows_of_cells(outputs, shown, self.strides, columns_min=BOX * NANODET_BINS + 1)
        found: list[Boxes] = []
        for table in rows[: shown.count]:
            scored = self.scoring.of(table[:, : -BOX * NANODET_BINS], shown.score_min)
            likely = table[scored.at, -BOX * NANODET_BINS :].reshape(-1, BOX, NANODET_BINS)
            distances = activated(likely, "softmax") @ np.arange(NANODET_BINS, dtype=np.float32)
            x_y, stride = cells[scored.at, :2] + self.cell_center, cells[scored.at, 2:]
            corners = np.concatenate([x_y - distances[:, :2], x_y + distances[:, 2:]], axis=1) * stride
            found.append(real_boxes(corners, scored.scores, scored.classes, nms_iou=self.nms_iou))
        return found


class FastestDetHead(msgspec.Struct, frozen=True, kw_only=True):
    """float[N, 5 + C, H / 16, W / 16]: objectness, x, y (tanh, cells), width, height (sigmoid, of the input), classes."""

    name: HeadName = "fastestdet"
    nms_iou: float | None = None

    @quiet
    def boxes(self, outputs: Sequence[Tensor], shown: Shown) -> list[Boxes]:
        maps = output_at(outputs, 0, rank=MAPS, rows_min=shown.count)
        _, columns, rows, across = maps.shape
        if columns <= BOX + 1:
            raise unreadable(f"{list(maps.shape)}")
        y, x = np.divmod(np.arange(rows * across), max(across, 1))
        cells, sides = np.stack([x, y], axis=1), np.array([across, rows], np.float32)
        found: list[Boxes] = []
        for table in maps[: shown.count].reshape(shown.count, columns, -1).transpose(0, 2, 1):
            scored = _fastestdet_scored(table, shown.score_min)
            numbers = table[scored.at, 1 : 1 + BOX].astype(np.float32, copy=False)
            centers = (cells[scored.at] + np.tanh(numbers[:, :2])) / sides
            form = np.concatenate([centers, activated(numbers[:, 2:], "sigmoid")], axis=1)
            corners = corners_of(form, form="cxcywh", unit="fractions", size=shown.size)
            found.append(real_boxes(corners, scored.scores, scored.classes, nms_iou=self.nms_iou))
        return found


def _fastestdet_scored(table: Tensor, score_min: float) -> Scored:
    """The cells worth a look. table: float[A, 5 + C]."""
    promising = np.flatnonzero(table[:, 0] ** FASTESTDET_OBJECTNESS >= score_min)  # a class is at most 1
    rows = table[promising].astype(np.float32, copy=False)
    classes = rows[:, 1 + BOX :].argmax(axis=1)
    likely = rows[np.arange(len(rows)), 1 + BOX + classes]
    scores = rows[:, 0] ** FASTESTDET_OBJECTNESS * likely**FASTESTDET_CLASS
    chosen = np.flatnonzero(scores >= score_min)
    return Scored(at=promising[chosen], scores=scores[chosen], classes=classes[chosen])


def _rows_of_cells(
    outputs: Sequence[Tensor], shown: Shown, strides: tuple[int, ...], *, columns_min: int
) -> tuple[Tensor, Floats]:
    """The single output with a row per cell, and the cells float32[A, 3] as `grid` makes them."""
    rows = output_at(outputs, 0, rank=BATCH, rows_min=shown.count)
    cells = grid(shown.size.width, shown.size.height, strides)
    if rows.shape[1] != len(cells) or rows.shape[2] < columns_min:
        raise unreadable(f"{list(rows.shape)} for {len(cells)} cells")
    return rows, cells
