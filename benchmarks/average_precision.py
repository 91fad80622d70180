"""COCO's average precision: at ten overlaps, 101 recalls, at most 100 boxes a picture.

Written from COCO's definition (cocodataset.org, "Detection Evaluation"): detections in order of their score take the free
true box of their class and picture that they overlap most; precision is made to fall with recall, and is averaged over the
recalls 0, 0.01, ... 1. A true box that marks a crowd may be taken any number of times and counts neither way.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

IOUS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
BOXES_A_PICTURE_MAX = 100

Corners = tuple[float, float, float, float]


class Truth(msgspec.Struct, frozen=True, kw_only=True):
    """A box that is there. Corners in pixels."""

    class_num: int
    corners: Corners
    is_crowd: bool = False


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """A box that was found."""

    class_num: int
    corners: Corners
    score: float


class Precision(msgspec.Struct, frozen=True, kw_only=True):
    ap: float
    """Mean over ten overlaps and all classes that occur."""
    ap50: float


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """What is there of one class in one picture, and what was found, best first."""

    truths: list[Truth]
    claims: list[Claim]


def average_precision(truths: Mapping[str, Sequence[Truth]], claims: Mapping[str, Sequence[Claim]]) -> Precision:
    """Of what was found in pictures, by their names."""
    of_class: dict[int, list[Pair]] = defaultdict(list)
    for picture, there in truths.items():
        found = sorted(claims.get(picture, ()), key=lambda claim: -claim.score)[:BOXES_A_PICTURE_MAX]
        for number in {entry.class_num for entry in (*there, *found)}:
            mine = [truth for truth in there if truth.class_num == number]
            of_class[number].append(Pair(truths=mine, claims=[claim for claim in found if claim.class_num == number]))
    each = np.array([_of_class(pairs) for pairs in of_class.values() if _count(pairs)]).reshape(-1, len(IOUS))
    return Precision(ap=float(each.mean()), ap50=float(each[:, 0].mean()))


def _count(pairs: Sequence[Pair]) -> int:
    return sum(not truth.is_crowd for pair in pairs for truth in pair.truths)


def _of_class(pairs: Sequence[Pair]) -> NDArray[np.float64]:
    """float64[10]: the average precision of one class at each overlap."""
    scores = np.array([claim.score for pair in pairs for claim in pair.claims])
    order = np.argsort(-scores, kind="stable")
    return np.array([_at_iou(pairs, order, float(iou_min)) for iou_min in IOUS])


def _at_iou(pairs: Sequence[Pair], order: NDArray[np.intp], iou_min: float) -> float:
    outcomes = np.array([outcome for pair in pairs for outcome in _outcomes(pair, iou_min)], np.int64)[order]
    right, wrong = np.cumsum(outcomes == 1), np.cumsum(outcomes == 0)
    recalls = right / _count(pairs)
    precisions = right / np.maximum(right + wrong, 1)
    falling = np.maximum.accumulate(precisions[::-1])[::-1]
    at = np.searchsorted(recalls, RECALLS, side="left")
    return float(np.where(at < len(falling), np.append(falling, 0)[np.minimum(at, len(falling))], 0).mean())


def _outcomes(pair: Pair, iou_min: float) -> Iterator[int]:
    """Of each claim: 1 right, 0 wrong, -1 neither (a crowd)."""
    taken: set[int] = set()
    real_first = sorted(pair.truths, key=lambda truth: truth.is_crowd)
    for claim in pair.claims:
        best, best_iou = -1, iou_min
        for at, truth in enumerate(real_first):
            if at in taken:
                continue
            if truth.is_crowd and best >= 0 and not real_first[best].is_crowd:
                break  # a real one comes before any crowd
            overlap = _iou(claim.corners, truth.corners, is_crowd=truth.is_crowd)
            if overlap >= best_iou:
                best, best_iou = at, overlap
        if best < 0:
            yield 0
        elif real_first[best].is_crowd:
            yield -1
        else:
            taken.add(best)
            yield 1


def _iou(claim: Corners, truth: Corners, *, is_crowd: bool) -> float:
    """Shared area over the area of both; for a crowd, over that of the claim."""
    width = min(claim[2], truth[2]) - max(claim[0], truth[0])
    height = min(claim[3], truth[3]) - max(claim[1], truth[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared, area = width * height, (claim[2] - claim[0]) * (claim[3] - claim[1])
    other = (truth[2] - truth[0]) * (truth[3] - truth[1])
    return shared / (area if is_crowd else area + other - shared)
