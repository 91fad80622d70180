"""Do two detectors see the same? The gate before a faster engine takes over: what it lost would be lost in silence.

A quantised or converted model loads and runs whatever became of its numbers (one that never detects anything does so very
fast), so it is shown pictures beside the model it is to replace, and what both are sure of is compared.
"""

from collections.abc import Iterable, Sequence
from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from contracts.detections import Detection
from contracts.options import DetectionOptions
from engine.picture import Picture

PAIR_IOU_MIN = 0.5
"""Two boxes of a class that overlap less are not the same object."""
SEEN_SHARE = 0.5
"""Of the confidence asked for: what one detector is sure of, the other must have seen at least with this share of it."""
LEVELS = (0.5, 0.25, 0.1, 0.05)
"""Confidences asked for, in this order, until the reference is that sure of `expected_min` boxes."""


class Detects(Protocol):
    """What is compared."""

    def detect(self, picture: Picture, options: DetectionOptions) -> list[Detection]:
        """The objects in the picture. Raises `Failure(inference_failed)`."""
        ...


class AgreementLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What is enough; shares are 0..1."""

    recall_min: float = 0.95
    """Share of the reference's boxes that the candidate found."""
    precision_min: float = 0.95
    """Share of the candidate's boxes that the reference has, too."""
    iou_min: float = 0.9
    """Overlap from which on a box is found; at least `PAIR_IOU_MIN`."""
    expected_min: int = 10
    """Boxes by which to judge; where the reference has fewer, less sure ones are asked for, down to the last level."""


class Agreement(msgspec.Struct, frozen=True, kw_only=True):
    """How much of what the reference is sure of the candidate sees, and the other way round."""

    pictures: int
    confidence: float
    """From which on boxes are compared, one of `LEVELS`."""
    expected: int
    """Boxes of the reference of that confidence."""
    recalled: int
    """Of those, how many the candidate found."""
    found: int
    """Boxes of the candidate of that confidence."""
    confirmed: int
    """Of those, how many the reference has."""
    mean_iou: float
    """Of the expected boxes that have a partner at all; 0 without any."""
    limits: AgreementLimits

    @property
    def recall(self) -> float:
        return self.recalled / self.expected if self.expected else 0.0

    @property
    def precision(self) -> float:
        return self.confirmed / self.found if self.found else 0.0

    @property
    def is_enough(self) -> bool:
        """True: the candidate may take over. Nothing expected is not enough: then nothing was compared."""
        return (
            self.expected > 0 and self.recall >= self.limits.recall_min and self.precision >= self.limits.precision_min
        )

    def __str__(self) -> str:
        if not self.expected:
            return f"nothing to compare: the reference sees nothing in {self.pictures} pictures"
        return (
            f"recall {self.recall:.3f} ({self.recalled} of {self.expected}, least {self.limits.recall_min:g}), "
            f"precision {self.precision:.3f} ({self.confirmed} of {self.found}, least {self.limits.precision_min:g}), "
            f"mean IoU {self.mean_iou:.3f} at confidence {self.confidence:g} in {self.pictures} pictures"
        )


def compare(
    reference: Detects, candidate: Detects, pictures: Iterable[Picture], *, limits: AgreementLimits | None = None
) -> Agreement:
    """Show both the same pictures, whole. Raises `Failure(inference_failed)` as the detectors do."""
    # 1.0: a rule that lets one of two boxes go by a hair's breadth of confidence is not what is compared
    options = DetectionOptions(
        probability_threshold=LEVELS[-1] * SEEN_SHARE, tiling="off", tracking_intersection_threshold=1.0
    )
    expected: list[list[Detection]] = []
    found: list[list[Detection]] = []
    for picture in pictures:
        expected.append(reference.detect(picture, options))
        found.append(candidate.detect(picture, options))
    return agreement_of(expected, found, limits=limits)


def agreement_of(
    expected: Sequence[Sequence[Detection]],
    found: Sequence[Sequence[Detection]],
    *,
    limits: AgreementLimits | None = None,
) -> Agreement:
    """The agreement of detections, one sequence for each picture, down to a confidence of half the last level."""
    limits = limits or AgreementLimits()
    confidence = _confidence(expected, limits.expected_min)
    ious = [_partners(mine, theirs, confidence) for mine, theirs in zip(expected, found, strict=True)]
    back = [_partners(theirs, mine, confidence) for mine, theirs in zip(expected, found, strict=True)]
    overlaps, confirmations = _joined(ious), _joined(back)
    paired = overlaps[overlaps > 0]
    return Agreement(
        pictures=len(expected),
        confidence=confidence,
        expected=len(overlaps),
        recalled=int((overlaps >= limits.iou_min).sum()),
        found=len(confirmations),
        confirmed=int((confirmations >= limits.iou_min).sum()),
        mean_iou=float(paired.mean()) if len(paired) else 0.0,
        limits=limits,
    )


def _confidence(expected: Sequence[Sequence[Detection]], expected_min: int) -> float:
    confidences = np.array([one.confidence for seen in expected for one in seen])
    return next((level for level in LEVELS if (confidences >= level).sum() >= expected_min), LEVELS[-1])


def _partners(ours: Sequence[Detection], theirs: Sequence[Detection], confidence: float) -> NDArray[np.float64]:
    """float64[N], for each of ours of that confidence the IoU with its partner among theirs, 0 without one."""
    ours = [one for one in ours if one.confidence >= confidence]
    theirs = [one for one in theirs if one.confidence >= confidence * SEEN_SHARE]
    overlaps = _ious(ours, theirs)
    partners = np.zeros(len(ours))
    for _ in range(min(overlaps.shape)):  # the closest pair first; each box has one partner
        row, column = np.unravel_index(int(overlaps.argmax()), overlaps.shape)
        if overlaps[row, column] < PAIR_IOU_MIN:
            break
        partners[row] = overlaps[row, column]
        overlaps[row, :] = overlaps[:, column] = 0
    return partners


def _ious(ours: Sequence[Detection], theirs: Sequence[Detection]) -> NDArray[np.float64]:
    """float64[N, M]: intersection over union of each of ours with each of theirs, 0 where the classes differ."""
    one, other = _corners(ours)[:, None], _corners(theirs)[None]
    sides = np.minimum(one[..., 2:], other[..., 2:]) - np.maximum(one[..., :2], other[..., :2])
    shared = sides.clip(min=0).prod(axis=-1)
    areas = (one[..., 2:] - one[..., :2]).prod(axis=-1) + (other[..., 2:] - other[..., :2]).prod(axis=-1)
    is_same = np.equal.outer([box.class_num for box in ours], [box.class_num for box in theirs])
    return np.where(is_same, shared / np.maximum(areas - shared, 1e-12), 0.0)


def _corners(detections: Sequence[Detection]) -> NDArray[np.float64]:
    """float64[N, 4]: x1, y1, x2, y2 in fractions of the picture."""
    centred = np.array([(box.center_x, box.center_y, box.width, box.height) for box in detections]).reshape(-1, 4)
    return np.hstack([centred[:, :2] - centred[:, 2:] / 2, centred[:, :2] + centred[:, 2:] / 2])


def _joined(parts: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    return np.concatenate(parts) if parts else np.zeros(0)
