"""Tiny stand-ins of every family of detectors: outputs written as that family writes them, each with one known box.

In a dark picture each sees `DARK`, in a bright one `BRIGHT`; three classes, an input of 128 x 128 pixels.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.heads import grid, grid_cells

SIDE = 128
CLASSES = 3
Outputs = dict[str, NDArray[Any]]


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """The box that a stand-in sees; corners in pixels."""

    corners: tuple[float, float, float, float]
    class_num: int
    score: float

    @property
    def center(self) -> tuple[float, float, float, float]:
        x1, y1, x2, y2 = self.corners
        return ((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1)


DARK = Known(corners=(16, 24, 56, 64), class_num=1, score=0.8)
BRIGHT = Known(corners=(72, 40, 120, 112), class_num=2, score=0.6)


class Family(msgspec.Struct, frozen=True, kw_only=True):
    """One family: its head, and what a model of it gives for a picture with that box."""

    head: str
    outputs: Callable[[Known], Outputs]
    metadata: Mapping[str, str] = {}
    level: float = 0.5
    """Mean of a picture as the family wants its pixels, between dark and bright."""
    size_tensor: str | None = None


NAMES = {"names": "{0: 'a', 1: 'b', 2: 'c'}"}


def background(cells: NDArray[np.float32], columns: int) -> NDArray[np.float32]:
    """float32[A, columns]: small boxes around the middle of their cells, and scores of nearly nothing."""
    rows = np.full((len(cells), columns), 0.01, np.float32)
    rows[:, :2] = (cells[:, :2] + 0.5) * cells[:, 2:]
    rows[:, 2:4] = cells[:, 2:]
    return rows


def scores(known: Known, *, sure: float | None = None, otherwise: float = 0.01) -> list[float]:
    return [
        (known.score if sure is None else sure) if number == known.class_num else otherwise for number in range(CLASSES)
    ]


def place_of(known: Known) -> int:
    """The row of the cell, of the grid of stride 8, in which the box has its center."""
    x, y = known.center[:2]
    return int(y // 8) * (SIDE // 8) + int(x // 8)


def yolov5(known: Known) -> Outputs:
    cells = np.concatenate([np.tile(grid(SIDE, SIDE, (stride,)), (3, 1)) for stride in (8, 16, 32)])
    rows = background(cells, 5 + CLASSES)
    rows[place_of(known)] = [*known.center, 0.9, *scores(known, sure=known.score / 0.9)]
    return {"output": rows}


def yolov6(known: Known) -> Outputs:
    rows = background(grid(SIDE, SIDE, (8, 16, 32)), 5 + CLASSES)
    rows[:, 4] = 1
    rows[place_of(known)] = [*known.center, 1, *scores(known)]
    return {"outputs": rows}


def yolov8(known: Known) -> Outputs:
    rows = background(grid(SIDE, SIDE, (8, 16, 32)), 4 + CLASSES)
    rows[place_of(known)] = [*known.center, *scores(known)]
    return {"output0": np.ascontiguousarray(rows.T)}


def yolov8_fractions(known: Known) -> Outputs:
    columns = yolov8(known)["output0"]
    columns[:4] /= SIDE
    return {"output0": columns}


def yolov8_logits(known: Known) -> Outputs:
    columns = yolov8(known)["output0"]
    columns[4:] = np.log(columns[4:] / (1 - columns[4:]))
    return {"output0": columns}


def yolov8_rows(known: Known) -> Outputs:
    return {"output0": np.ascontiguousarray(yolov8(known)["output0"].T)}


def yolox_decoded(known: Known) -> Outputs:
    rows = background(grid(SIDE, SIDE, (8, 16, 32)), 5 + CLASSES)
    rows[place_of(known)] = [*known.center, 0.9, *scores(known, sure=known.score / 0.9)]
    return {"output": rows}


def yolox(known: Known) -> Outputs:
    cells, rows = grid(SIDE, SIDE, (8, 16, 32)), yolox_decoded(known)["output"]
    rows[:, :2] = rows[:, :2] / cells[:, 2:] - cells[:, :2]
    rows[:, 2:4] = np.log(rows[:, 2:4] / cells[:, 2:])
    return {"output": rows}


def end_to_end(known: Known) -> Outputs:
    rows = np.zeros((300, 6), np.float32)
    rows[:, :4] = [1, 2, 3, 4]
    rows[:, 4] = np.linspace(0.02, 0.001, 300)
    rows[0] = [*known.corners, known.score, known.class_num]
    return {"output0": rows}


def end_to_end_class_first(known: Known) -> Outputs:
    return {"output0": np.ascontiguousarray(end_to_end(known)["output0"][:, [0, 1, 2, 3, 5, 4]])}


def rows_with_repeats(known: Known) -> Outputs:
    rows = np.zeros((grid_cells(SIDE, SIDE, (8, 16, 32)), 6), np.float32)
    rows[:, :4], rows[:, 4] = [1, 2, 3, 4], 0.01
    rows[:2] = [*known.corners, known.score, known.class_num]
    rows[1, 4] -= 0.1
    return {"output": rows}


def rtdetr(known: Known) -> Outputs:
    rows = np.full((300, 4 + CLASSES), 0.01, np.float32)
    rows[:, :4] = [0.5, 0.5, 0.9, 0.9]
    rows[7] = [*(part / SIDE for part in known.center), *scores(known)]
    return {"output0": rows}


def detr(known: Known) -> Outputs:
    boxes = np.tile(np.array([1, 2, 120, 110], np.float32), (300, 1))
    boxes[0] = known.corners
    sure = np.full(300, 0.01, np.float32)
    sure[0] = known.score
    labels = np.zeros(300, np.int64)
    labels[0] = known.class_num
    return {"labels": labels, "boxes": boxes, "scores": sure}


def detr_fractions(known: Known) -> Outputs:
    outputs = detr(known)
    return outputs | {"boxes": outputs["boxes"] / SIDE}


def detr_sigmoid(known: Known) -> Outputs:
    logits = np.full((300, CLASSES), -5, np.float32)
    logits[3, known.class_num] = np.log(known.score / (1 - known.score))
    boxes = np.tile(np.array([0.5, 0.5, 0.9, 0.9], np.float32), (300, 1))
    boxes[3] = [part / SIDE for part in known.center]
    return {"logits": logits, "pred_boxes": boxes}


def detr_softmax(known: Known) -> Outputs:
    outputs = detr_sigmoid(known)
    logits = np.zeros((300, CLASSES + 1), np.float32)
    logits[:, -1] = 9
    logits[3] = [*np.log(scores(known, otherwise=(1 - known.score) / 3)), np.log((1 - known.score) / 3)]
    return outputs | {"logits": logits}


def boxes_and_scores(known: Known) -> Outputs:
    rows = background(grid(SIDE, SIDE, (8, 16, 32)), 4 + CLASSES)
    rows[place_of(known)] = [*known.center, *scores(known)]
    corners = np.concatenate([rows[:, :2] - rows[:, 2:4] / 2, rows[:, :2] + rows[:, 2:4] / 2], axis=1)
    return {"boxes": corners, "scores": rows[:, 4:].copy()}


def ssd(known: Known) -> Outputs:
    outputs = boxes_and_scores(known)
    shares = np.full((len(outputs["boxes"]), 1 + CLASSES), 0.01, np.float32)
    shares[:, 0] = 1 - 0.01 * CLASSES
    shares[place_of(known)] = [1 - known.score - 0.02, *scores(known)]
    return {"scores": shares, "boxes": outputs["boxes"] / SIDE}


def nanodet(known: Known, strides: tuple[int, ...] = (8, 16, 32, 64), corner: float = 0.0) -> Outputs:
    cells = grid(SIDE, SIDE, strides)
    rows = np.full((len(cells), CLASSES + 32), 0.01, np.float32)
    rows[:, CLASSES:] = np.tile([3, -2, -2, -2, -2, -2, -2, -2], 4)
    (at,) = np.flatnonzero((cells == [*(part // 16 for part in known.center[:2]), 16]).all(axis=1))
    x, y = (cells[at, :2] + corner) * 16
    x1, y1, x2, y2 = known.corners
    bins = [_bins(side / 16) for side in (x - x1, y - y1, x2 - x, y2 - y)]
    rows[at] = [*scores(known), *np.concatenate(bins)]
    return {"output": rows}


def _bins(distance: float) -> NDArray[np.float32]:
    """Logits of eight bins whose mean is that distance: all on the two bins around it."""
    below = int(distance)
    shares = np.full(8, 1e-9)
    shares[below : below + 2] += [1 - (distance - below), distance - below]
    return np.log(shares / shares.sum()).astype(np.float32)


def nanodet_first(known: Known) -> Outputs:
    return nanodet(known, (8, 16, 32), 0.5)


def fastestdet(known: Known) -> Outputs:
    maps = np.full((5 + CLASSES, SIDE // 16, SIDE // 16), 0.001, np.float32)
    x, y, width, height = known.center
    column, row = int(x // 16), int(y // 16)
    logit = [np.log(share / (1 - share)) for share in (width / SIDE, height / SIDE)]
    likely = scores(known, sure=0.9)
    objectness = (known.score / 0.9**0.4) ** (1 / 0.6)
    maps[:, row, column] = [objectness, np.arctanh(x / 16 - column), np.arctanh(y / 16 - row), *logit, *likely]
    return {"output": maps}


def padded(known: Known) -> Outputs:
    boxes, sure, classes = np.zeros((100, 4), np.float32), np.zeros(100, np.float32), np.zeros(100, np.int32)
    boxes[0], sure[0], classes[0] = known.corners, known.score, known.class_num
    boxes[1], sure[1] = [1, 1, 9, 9], 0.9  # beyond the count: left from another picture
    return {"num_dets": np.array([1], np.int32), "det_boxes": boxes, "det_scores": sure, "det_classes": classes}


def tensorflow(known: Known) -> Outputs:
    x1, y1, x2, y2 = (part / SIDE for part in known.corners)
    outputs = padded(known)
    boxes = outputs["det_boxes"] * 0
    boxes[0] = [y1, x1, y2, x2]
    return {
        "detection_boxes": boxes,
        "detection_classes": outputs["det_classes"].astype(np.float32),
        "detection_scores": outputs["det_scores"],
        "num_detections": np.array(1, np.float32),
        "raw_detection_boxes": np.zeros((50, 4), np.float32),
    }


def mmdeploy(known: Known) -> Outputs:
    outputs = detr(known)
    boxes = np.concatenate([outputs["boxes"], outputs["scores"][:, None]], axis=1)
    return {"dets": boxes, "labels": outputs["labels"]}


FAMILIES = {
    "yolov5": Family(head="yolov5", outputs=yolov5),
    "yolov6": Family(head="yolov5", outputs=yolov6),
    "yolov7-efficient-nms": Family(head="padded", outputs=padded),
    "yolov8": Family(head="yolov8", outputs=yolov8),
    "yolov8-fractions": Family(head="yolov8", outputs=yolov8_fractions),
    "yolov8-logits": Family(head="yolov8", outputs=yolov8_logits),
    "yolov8-rows": Family(head="yolov8", outputs=yolov8_rows, metadata=NAMES),
    "yolov10": Family(head="end_to_end", outputs=end_to_end),
    "class-before-score": Family(head="end_to_end", outputs=end_to_end_class_first),
    "rows-with-repeats": Family(head="end_to_end", outputs=rows_with_repeats),
    "yolox": Family(head="yolox", outputs=yolox, level=127),
    "yolox-decoded": Family(head="yolox_decoded", outputs=yolox_decoded, metadata=NAMES, level=127),
    "rt-detr": Family(head="detr", outputs=detr, size_tensor="orig_target_sizes"),
    "d-fine": Family(head="detr", outputs=detr),
    "detr-fractions": Family(head="detr", outputs=detr_fractions),
    "ultralytics-rt-detr": Family(head="rtdetr", outputs=rtdetr, metadata=NAMES),
    "hugging-face-rt-detr": Family(head="detr_logits", outputs=detr_sigmoid),
    "hugging-face-detr": Family(head="detr_logits", outputs=detr_softmax, level=0),
    "boxes-and-scores": Family(head="boxes_scores", outputs=boxes_and_scores),
    "ssd": Family(head="boxes_scores", outputs=ssd, level=0),
    "nanodet-plus": Family(head="nanodet", outputs=nanodet, level=0),
    "nanodet": Family(head="nanodet", outputs=nanodet_first, level=0),
    "fastestdet": Family(head="fastestdet", outputs=fastestdet),
    "tensorflow": Family(head="padded", outputs=tensorflow),
    "mmdeploy": Family(head="detr", outputs=mmdeploy, level=0),
}
