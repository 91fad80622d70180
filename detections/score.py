"""What was found against what was drawn."""

from collections.abc import Iterable, Sequence

import msgspec

from contracts.detections import Detection
from detections.traffic import HEIGHT, WIDTH, Drawn

IOU_MIN = 0.4
"""Overlap of two boxes (intersection / union) from which on they are the same car."""


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """Cars cut by the picture's edge are left out: finding one is right, missing one is no fault."""

    drawn: int = 0
    found: int = 0
    """Of those drawn."""
    false: int = 0
    """Detections where no car was drawn."""

    @property
    def recall(self) -> float:
        return self.found / self.drawn if self.drawn else 1.0

    @property
    def precision(self) -> float:
        return self.found / (self.found + self.false) if self.found + self.false else 1.0

    def __add__(self, other: "Score") -> "Score":
        return Score(drawn=self.drawn + other.drawn, found=self.found + other.found, false=self.false + other.false)


def score(detections: Iterable[Detection], cars: Sequence[Drawn]) -> Score:
    """One frame: each detection, the most confident first, takes the car that it overlaps most and nobody took before."""
    free = list(cars)
    found = false = 0
    for seen in sorted(detections, key=lambda each: -each.confidence):
        car = max(free, key=lambda each: overlap(seen, each), default=None)
        if car is None or overlap(seen, car) < IOU_MIN:
            false += 1
            continue
        free.remove(car)
        found += car.is_whole
    return Score(drawn=sum(car.is_whole for car in cars), found=found, false=false)


def overlap(seen: Detection, car: Drawn) -> float:
    """Intersection over union of a detection and a drawn car."""
    x1, x2 = (seen.center_x - seen.width / 2) * WIDTH, (seen.center_x + seen.width / 2) * WIDTH
    y1, y2 = (seen.center_y - seen.height / 2) * HEIGHT, (seen.center_y + seen.height / 2) * HEIGHT
    common_x, common_y = min(x2, car.x2) - max(x1, car.x1), min(y2, car.y2) - max(y1, car.y1)
    if common_x <= 0 or common_y <= 0:
        return 0.0
    common = common_x * common_y
    return common / ((x2 - x1) * (y2 - y1) + (car.x2 - car.x1) * (car.y2 - car.y1) - common)
