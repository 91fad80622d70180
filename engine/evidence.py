"""What the numbers that a model gave for the known picture tell of their meaning.

Every function takes the numbers of one picture; rows that are not finite are no evidence.
"""

import numpy as np

from engine.heads import InputSize, grid, grid_cells
from engine.runtime import Tensor
from engine.scoring import activated
from engine.side_files import BOX_COLUMNS, BoxForm, Column, Unit

_MOST = 0.9
"""Share of rows that must agree; a network is allowed some nonsense."""
_ROUNDING = 1e-3
_SUM_OFF_MAX = 0.02
_OVER_EDGE_MAX = 0.1
"""How far boxes reach over the edge of the input, as a share of its side."""
_SURE = 0.5
_LOGIT_MAX = 60.0
"""A larger number is the logit of no score that can be told from 0 or 1, in half precision too."""
_FRACTION_MAX = 2.0
"""Coordinates up to this are fractions of the input: boxes reach over its edge, but not by its whole side."""
_CELLS_OFF_MAX = 4.0
"""How far from the middle of its cell the center of a decoded box lies, in cells."""


def finite_rows(rows: Tensor) -> Tensor:
    """float32[K, columns]: the rows in which every number is finite."""
    with np.errstate(over="ignore", invalid="ignore"):
        rows = rows.astype(np.float32, copy=False)
    return rows[np.isfinite(rows).all(axis=1)]


def are_shares(numbers: Tensor) -> bool:
    """Whether they may be scores 0..1 (rounding forgiven) rather than what a network leaves before that."""
    return not numbers.size or bool((numbers >= -_ROUNDING).all() and (numbers <= 1 + _ROUNDING).all())


def can_be_scores(numbers: Tensor) -> bool:
    """Whether they are scores or logits; key points in pixels, say, are neither."""
    return not numbers.size or float(np.abs(numbers).max()) <= _LOGIT_MAX


def add_up_to_one(scores: Tensor) -> bool:
    """Whether the scores of each row are shares of one whole: a softmax, in which some column is the background."""
    return scores.shape[1] > 1 and _most(np.abs(scores.sum(axis=1) - 1) < _SUM_OFF_MAX)


def unit_of(boxes: Tensor) -> Unit | None:
    """The unit of boxes float32[K, 4]; None if they are too few or all zero."""
    if not boxes.size or not boxes.any():
        return None
    return "fractions" if float(np.abs(boxes).max()) <= _FRACTION_MAX else "pixels"


def form_of(boxes: Tensor, size: InputSize) -> BoxForm | None:
    """Corners or center and size, of boxes float32[K, 4]; None where both are possible."""
    side = np.array([size.width, size.height] * 2, np.float32)
    rows = boxes / side if unit_of(boxes) == "pixels" else boxes
    first, second = rows[:, :2], rows[:, 2:]
    can_be_corners = _most((second > first).all(axis=1))
    over = np.maximum(second / 2 - first, first + second / 2 - 1)
    inside = (over < _OVER_EDGE_MAX).all(axis=1)
    can_be_center = _most((second > 0).all(axis=1) & inside)
    if can_be_corners == can_be_center:
        return None
    return "x1y1x2y2" if can_be_corners else "cxcywh"


def strides_of(cells: int, size: InputSize, known: tuple[tuple[int, ...], ...]) -> tuple[int, ...] | None:
    """The strides of the grids that have this many cells together."""
    return next((strides for strides in known if cells == grid_cells(size.width, size.height, strides)), None)


def lie_near_their_cells(centers: Tensor, size: InputSize, strides: tuple[int, ...]) -> bool:
    """Whether float32[A, 2] are centers of decoded boxes: in the picture, each near the middle of its cell."""
    cells = grid(size.width, size.height, strides)
    if unit_of(np.concatenate([centers, centers], axis=1)) == "fractions":
        centers = centers * np.array([size.width, size.height], np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        off = np.abs(centers / cells[:, 2:] - (cells[:, :2] + 0.5)).max(axis=1)
    return _most(off < _CELLS_OFF_MAX)


def fit(rows: Tensor, columns: tuple[Column, ...]) -> bool:
    """Whether finished boxes can be rows of these columns; rows without a score are unused and are no evidence."""
    at = columns.index
    used = rows[rows[:, at("score")] > 0]
    if not len(used) or not are_shares(used[:, at("score")]) or not _are_numbers(used[:, at("class")]):
        return False
    if "batch" in columns and not _are_numbers(used[:, at("batch")]):
        return False
    if "cx" in columns:
        return True
    x1, y1, x2, y2 = (used[:, at(column)] for column in BOX_COLUMNS["x1y1x2y2"])
    return _most((x2 >= x1) & (y2 >= y1))


def is_mostly(scores: Tensor, column: int) -> bool:
    """Whether that column is the highest of nearly all rows: what a background is in any picture."""
    return _most(scores.argmax(axis=1) == column % scores.shape[1])


def are_mostly_unsure(logits: Tensor) -> bool:
    """Whether nearly all rows are sure of no class, if each class is asked for itself (a sigmoid)."""
    return _most(activated(logits, "sigmoid").max(axis=1) < _SURE)


def _are_numbers(values: Tensor) -> bool:
    """Whether they are numbers of classes or pictures."""
    return bool(((values >= 0) & (values == np.rint(values))).all())


def _most(claims: Tensor | np.bool_) -> bool:
    return bool(np.size(claims)) and float(np.mean(claims)) >= _MOST
