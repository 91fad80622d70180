"""Boxes as arrays, and what is done to them between a model and a report: thresholds, overlaps, sizes."""

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
"""float32, which numpy's types lose in arithmetic."""
Indices = NDArray[np.intp]
Flags = NDArray[np.bool_]

CANDIDATES_MAX = 2000
"""Boxes of one frame that are looked at after the confidence filter; the least confident beyond it go."""
DETECTIONS_MAX = 300
"""Detections of one frame that are reported (CONTRACT section 2)."""
_BLOCK = 256
"""Boxes compared at once: a matrix of at most this many rows bounds the memory of a dense frame."""
_LATER = np.triu(np.ones((_BLOCK, _BLOCK), np.bool_), k=1)
"""Which columns come after a row."""


class Boxes(msgspec.Struct, frozen=True, kw_only=True):
    """Boxes of one frame. Which pixels the corners count (of the input, of the picture) is said where they are made."""

    corners: Floats
    """float32[N, 4]: x1, y1, x2, y2."""
    scores: Floats
    """float32[N], 0..1."""
    classes: NDArray[np.int32]
    """int32[N], from 0."""

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, chosen: Indices | Flags) -> "Boxes":
        """The chosen ones, in the order of `chosen`."""
        return Boxes(corners=self.corners[chosen], scores=self.scores[chosen], classes=self.classes[chosen])


def no_boxes() -> Boxes:
    """Nothing was seen."""
    return Boxes(corners=np.empty((0, 4), np.float32), scores=np.empty(0, np.float32), classes=np.empty(0, np.int32))


def sound(boxes: Boxes) -> Boxes:
    """The boxes that can be real: finite, with an area, a class and a score above 0 (capped at 1)."""
    widths = boxes.corners[:, 2] - boxes.corners[:, 0]
    heights = boxes.corners[:, 3] - boxes.corners[:, 1]
    is_finite = np.isfinite(boxes.corners).all(axis=1) & np.isfinite(boxes.scores)
    is_real = is_finite & np.isfinite(widths) & np.isfinite(heights) & (widths > 0) & (heights > 0)
    chosen = boxes.take(is_real & (boxes.scores > 0) & (boxes.classes >= 0))
    return Boxes(corners=chosen.corners, scores=np.minimum(chosen.scores, 1), classes=chosen.classes)


def most_confident(boxes: Boxes, *, at_most: int) -> Boxes:
    """The `at_most` boxes of the highest scores, best first; equal scores keep their order."""
    if len(boxes) > at_most:
        boxes = boxes.take(np.sort(np.argpartition(-boxes.scores, at_most - 1)[:at_most]))
    return boxes.take(np.argsort(-boxes.scores, kind="stable"))


def clipped(boxes: Boxes, *, width: float, height: float) -> Boxes:
    """The parts inside a picture of that size; boxes wholly outside go."""
    corners = np.clip(boxes.corners, 0, np.array([width, height, width, height], np.float32))
    return sound(Boxes(corners=corners, scores=boxes.scores, classes=boxes.classes))


def without_repeats(boxes: Boxes, *, iou_max: float) -> Boxes:
    """Non-maximum suppression within each class: of two boxes of a higher IoU the more confident stays. Best first."""
    return _suppressed(boxes, lambda shared, one, other: shared > iou_max * (one + other - shared))


def without_contained(boxes: Boxes, *, containment_max: float) -> Boxes:
    """Of two boxes of a class that share more than that part of the smaller one, the more confident. Best first.

    1 switches the rule off: nothing shares more than the whole.
    """
    if containment_max >= 1:
        return most_confident(boxes, at_most=max(len(boxes), 1))
    return _suppressed(boxes, lambda shared, one, other: shared > containment_max * np.minimum(one, other))


Overlaps = Callable[[Floats, Floats, Floats], Flags]
"""Whether two boxes overlap too much, of the area they share and the areas of the one and of the other."""


def _suppressed(boxes: Boxes, overlaps: Overlaps) -> Boxes:
    """The boxes left when each, from the best on, removes those of its class that overlap it too much."""
    boxes = most_confident(boxes, at_most=max(len(boxes), 1))
    planes, classes = _planes(boxes.corners), boxes.classes
    is_left = np.ones(len(boxes), np.bool_)
    for start in range(0, len(boxes), _BLOCK):
        block = np.flatnonzero(is_left[start : start + _BLOCK]) + start
        rest = np.flatnonzero(is_left[start + _BLOCK :]) + start + _BLOCK
        within = _pairs(planes, classes, block, block, overlaps)
        winners = block[_greedy(within & _LATER[: len(block), : len(block)])]
        is_left[block] = False
        is_left[winners] = True
        if len(rest):
            is_left[rest] = ~_pairs(planes, classes, winners, rest, overlaps).any(axis=0)
    return boxes.take(is_left)


def _pairs(planes: Floats, classes: NDArray[np.int32], rows: Indices, columns: Indices, overlaps: Overlaps) -> Flags:
    """bool[R, C]: whether a row's box and a column's box are of one class and overlap too much.

    planes: x1, y1, x2, y2 and area, each contiguous: pairs of corners kept together cost ten times as much.
    """
    x1, y1, x2, y2, area = planes[:, rows, None]
    others = planes[:, None, columns]
    width = np.minimum(x2, others[2])
    width -= np.maximum(x1, others[0])
    height = np.minimum(y2, others[3])
    height -= np.maximum(y1, others[1])
    np.maximum(width, 0, out=width)
    np.maximum(height, 0, out=height)
    width *= height
    return overlaps(width, area, others[4]) & (classes[rows, None] == classes[None, columns])


def _greedy(removes: Flags) -> Flags:
    """Who stays when row i, if it is still there, removes the columns that are set in it. removes: bool[N, N], upper."""
    stays = np.ones(len(removes), np.bool_)
    for row in np.flatnonzero(removes.any(axis=1)):
        if stays[row]:
            stays[removes[row]] = False
    return stays


def _planes(corners: Floats) -> Floats:
    """float32[5, N]: x1, y1, x2, y2, area."""
    planes = np.empty((5, len(corners)), np.float32)
    planes[:4] = corners.T
    planes[4] = (planes[2] - planes[0]) * (planes[3] - planes[1])
    return planes
