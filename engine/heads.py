"""What the numbers of a model mean: a head turns the outputs of one batch into boxes in pixels of the model's input.

The heads: `engine/dense_heads.py` (a score for every class in every cell or query) and `engine/row_heads.py`
(finished boxes). Which one a model has is told by `engine/recognition.py`.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from contracts.failures import Failure, FailureCode
from engine.postprocess import CANDIDATES_MAX, Boxes, Floats, most_confident, sound, without_repeats
from engine.runtime import Tensor
from engine.side_files import BoxForm, HeadName, Unit

ROWS, BATCH = 2, 3
"""Dimensions of an output with a row per box, and of one with such rows per picture."""
BOX = 4
"""Numbers of a box."""
# what is not finite is dropped at the end: no need to hear of it before
quiet = np.errstate(over="ignore", invalid="ignore", divide="ignore")


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
    def name(self) -> HeadName:
        """The head's name in side files and in `detections models check`."""
        ...

    @property
    def nms_iou(self) -> float | None:
        """IoU above which the weaker of two boxes of a class is a repeat; None: the model does not repeat itself."""
        ...

    def boxes(self, outputs: Sequence[Tensor], shown: Shown) -> list[Boxes]:
        """The boxes of each picture of the batch in pixels of the input, best first; every one is `sound`.

        None is a view on the outputs, which may be overwritten afterwards (see `lent`).
        Raises `Failure(inference_failed)` if the outputs are not shaped as the head reads them.
        """
        ...


def output_at(outputs: Sequence[Tensor], at: int, *, rank: int, rows_min: int = 0) -> Tensor:
    """That output, if it has so many dimensions and so many rows. Raises `Failure(inference_failed)`."""
    if at >= len(outputs):
        raise unreadable(f"{len(outputs)} outputs, number {at + 1} is missing")
    output = outputs[at]
    if output.ndim != rank or len(output) < rows_min or output.dtype.kind not in "fiu":
        raise unreadable(f"output {at + 1} is {output.dtype}{list(output.shape)}")
    return output


def unreadable(why: str) -> Failure:
    """The failure of an inference whose outputs are not what the head reads."""
    return Failure(FailureCode.INFERENCE_FAILED, f"outputs of another shape than when the model was loaded: {why}")


def real_boxes(corners: Tensor, scores: Tensor, classes: Tensor, *, nms_iou: float | None = None) -> Boxes:
    """The boxes that can be real, best first. corners: float[K, 4], scores: float[K], classes: a number each [K]."""
    made = Boxes(
        corners=corners.astype(np.float32, copy=False),
        scores=scores.astype(np.float32, copy=False),
        classes=_class_numbers(classes),
    )
    boxes = most_confident(sound(made), at_most=CANDIDATES_MAX)
    return boxes if nms_iou is None else without_repeats(boxes, iou_max=nms_iou)


def corners_of(rows: Tensor, *, form: BoxForm, unit: Unit, size: InputSize) -> Floats:
    """float32[K, 4], x1, y1, x2, y2 in pixels of the input, of rows float[K, 4] written in another way."""
    rows = rows.astype(np.float32, copy=False)
    match form:
        case "x1y1x2y2":
            corners = rows
        case "y1x1y2x2":
            corners = rows[:, [1, 0, 3, 2]]
        case "cxcywh":
            corners = around(rows[:, :2], rows[:, 2:4])
    if unit == "fractions":
        corners = corners * np.array([size.width, size.height] * 2, np.float32)
    return corners


def around(centers: Floats, sizes: Floats) -> Floats:
    """float32[K, 4]: the corners of boxes of that center and size, float32[K, 2] each."""
    half = sizes / 2
    return np.concatenate([centers - half, centers + half], axis=1)


def grid_cells(width: int, height: int, strides: Sequence[int]) -> int:
    """How many cells these grids have together; the last of a row or column may reach over the edge."""
    return sum(-(-width // stride) * -(-height // stride) for stride in strides)


@lru_cache(maxsize=16)  # a model with free sides sees few sizes; beyond that the oldest is computed again
def grid(width: int, height: int, strides: tuple[int, ...]) -> Floats:
    """float32[A, 3]: x and y of each cell in cells, and its stride in pixels; grid by grid, row by row."""
    parts: list[Floats] = []
    for stride in strides:
        y, x = np.mgrid[0 : -(-height // stride), 0 : -(-width // stride)].reshape(2, -1)
        parts.append(np.stack([x, y, np.full_like(x, stride)], axis=1).astype(np.float32))
    return np.concatenate(parts)


def _class_numbers(classes: Tensor) -> NDArray[np.int32]:
    """int32[K]; a number no class can have becomes -1, which `sound` drops."""
    numbers = np.rint(classes) if classes.dtype.kind == "f" else classes
    is_possible = (numbers >= 0) & (numbers < np.iinfo(np.int32).max)
    return np.where(is_possible, numbers, -1).astype(np.int32)
