"""What the numbers of a model mean: a head turns the outputs of one batch into boxes in pixels of the model's input."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.postprocess import CANDIDATES_MAX, Boxes, Floats, most_confident, sound, without_repeats
from engine.runtime import Tensor

YOLOX_NMS_IOU = 0.45
YOLOV8_NMS_IOU = 0.7


class InputSize(msgspec.Struct, frozen=True, kw_only=True):
    """Pixels of what a model was shown."""

    width: int
    height: int


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """The batch that outputs belong to, and what is asked of it."""

    count: int
    """Pictures; a model with a fixed batch may have been shown further rows, which mean nothing."""
    size: InputSize
    score_min: float
    """Boxes of a lower score are of no interest."""


class Head(Protocol):
    """Reads the outputs of a model."""

    @property
    def name(self) -> str:
        """The head's name in side files and in `detections models check`."""
        ...

    def boxes(self, outputs: Sequence[Tensor], shown: Shown) -> list[Boxes]:
        """The boxes of each picture of the batch in pixels of the input, best first."""
        ...


class YoloxHead(msgspec.Struct, frozen=True, kw_only=True):
    """float32[N, A, 5 + C]: x, y offsets in cells, log sizes, objectness, class scores; one row per cell of the grids."""

    strides: tuple[int, ...] = (8, 16, 32)
    nms_iou: float = YOLOX_NMS_IOU

    @property
    def name(self) -> str:
        return "yolox"

    def boxes(self, outputs: Sequence[Tensor], shown: Shown) -> list[Boxes]:
        cells = _grid(shown.size.width, shown.size.height, self.strides)
        return [self._of_one(rows, cells, shown.score_min) for rows in outputs[0][: shown.count]]

    def _of_one(self, rows: Floats, cells: Floats, score_min: float) -> Boxes:
        promising = np.flatnonzero(rows[:, 4] >= score_min)  # a score is at most its objectness: most cells go here
        rows, cells = rows[promising].astype(np.float32, copy=False), cells[promising]
        classes = rows[:, 5:].argmax(axis=1)
        scores = rows[:, 4] * rows[np.arange(len(rows)), 5 + classes]
        chosen = scores >= score_min
        rows, cells = rows[chosen], cells[chosen]
        stride = cells[:, 2:]
        with np.errstate(over="ignore", invalid="ignore"):
            centers, sizes = (rows[:, :2] + cells[:, :2]) * stride, np.exp(rows[:, 2:4]) * stride
        found = _boxes(_corners(centers, sizes), scores[chosen], classes[chosen])
        return without_repeats(found, iou_max=self.nms_iou)


class YoloV8Head(msgspec.Struct, frozen=True, kw_only=True):
    """float32[N, 4 + C, A]: center x, y, width, height in pixels, class scores."""

    nms_iou: float = YOLOV8_NMS_IOU

    @property
    def name(self) -> str:
        return "yolov8"

    def boxes(self, outputs: Sequence[Tensor], shown: Shown) -> list[Boxes]:
        return [self._of_one(columns, shown.score_min) for columns in outputs[0][: shown.count]]

    def _of_one(self, columns: Floats, score_min: float) -> Boxes:
        # reduced over the first axis as it lies: transposing first costs ten times as much (ENGINE 5)
        promising = np.flatnonzero(columns[4:].max(axis=0) >= score_min)
        rows = columns[:, promising].T.astype(np.float32, copy=False)
        classes = rows[:, 4:].argmax(axis=1)
        scores = rows[np.arange(len(rows)), 4 + classes]
        found = _boxes(_corners(rows[:, :2], rows[:, 2:4]), scores, classes)
        return without_repeats(found, iou_max=self.nms_iou)


class DetrHead(msgspec.Struct, frozen=True, kw_only=True):
    """labels[N, Q], boxes float32[N, Q, 4] (corners in the size that was asked for: the input's), scores float32[N, Q]."""

    labels_at: int
    boxes_at: int
    scores_at: int

    @property
    def name(self) -> str:
        return "detr"

    def boxes(self, outputs: Sequence[Tensor], shown: Shown) -> list[Boxes]:
        labels, corners, scores = outputs[self.labels_at], outputs[self.boxes_at], outputs[self.scores_at]
        return [_rows(corners[at], scores[at], labels[at], shown.score_min) for at in range(shown.count)]


class EndToEndHead(msgspec.Struct, frozen=True, kw_only=True):
    """float32[N, K, 6]: x1, y1, x2, y2 in pixels, score, class; unused rows have a score of 0."""

    @property
    def name(self) -> str:
        return "end_to_end"

    def boxes(self, outputs: Sequence[Tensor], shown: Shown) -> list[Boxes]:
        return [_rows(rows[:, :4], rows[:, 4], rows[:, 5], shown.score_min) for rows in outputs[0][: shown.count]]


class FlatHead(msgspec.Struct, frozen=True, kw_only=True):
    """float32[D, 7], the NMS in the graph: place in the batch, x1, y1, x2, y2 in pixels, score, class."""

    @property
    def name(self) -> str:
        return "flat"

    def boxes(self, outputs: Sequence[Tensor], shown: Shown) -> list[Boxes]:
        rows = outputs[0]
        of_each = [rows[rows[:, 0] == at] for at in range(shown.count)]
        return [_rows(mine[:, 1:5], mine[:, 5], mine[:, 6], shown.score_min) for mine in of_each]


AnyHead = YoloxHead | YoloV8Head | DetrHead | EndToEndHead | FlatHead


def grid_cells(width: int, height: int, strides: Sequence[int]) -> int:
    """How many anchors a detector with one box per cell of these grids has."""
    return sum((width // stride) * (height // stride) for stride in strides)


@lru_cache(maxsize=16)  # a model with free sides sees few sizes; beyond that the oldest is computed again
def _grid(width: int, height: int, strides: tuple[int, ...]) -> Floats:
    """float32[A, 3]: x and y of each cell in cells, and its stride in pixels."""
    parts: list[Floats] = []
    for stride in strides:
        y, x = np.mgrid[0 : height // stride, 0 : width // stride].reshape(2, -1)
        parts.append(np.stack([x, y, np.full_like(x, stride)], axis=1).astype(np.float32))
    return np.concatenate(parts)


def _rows(corners: Tensor, scores: Tensor, classes: Tensor, score_min: float) -> Boxes:
    """The boxes of finished rows: float[K, 4], float[K], a number per class[K]."""
    chosen = (scores >= score_min) & np.isfinite(classes)
    return most_confident(_boxes(corners[chosen], scores[chosen], np.rint(classes[chosen])), at_most=CANDIDATES_MAX)


def _boxes(corners: Tensor, scores: Tensor, classes: Tensor) -> Boxes:
    made = Boxes(
        corners=corners.astype(np.float32, copy=False),
        scores=scores.astype(np.float32, copy=False),
        classes=_class_numbers(classes),
    )
    return most_confident(sound(made), at_most=CANDIDATES_MAX)


def _class_numbers(classes: Tensor) -> NDArray[np.int32]:
    """int32[K]; a number no class can have becomes -1, which `sound` drops."""
    is_possible = (classes >= 0) & (classes < np.iinfo(np.int32).max)
    return np.where(is_possible, classes, -1).astype(np.int32)


def _corners(centers: Floats, sizes: Floats) -> Floats:
    with np.errstate(over="ignore", invalid="ignore"):  # infinite ones are dropped by `sound`
        half = sizes / 2
        return np.concatenate([centers - half, centers + half], axis=1)
