"""How long a detector looks."""

import time
from collections.abc import Iterator

import msgspec
import numpy as np

from contracts.options import DetectionOptions
from engine.detector import Detector
from engine.picture import Crop, Rgb


class Blank(msgspec.Struct, frozen=True, kw_only=True):
    """A grey picture."""

    width: int
    height: int

    def scaled(self, *, width: int, height: int, crop: Crop | None = None) -> Rgb:  # noqa: ARG002 - grey everywhere
        return np.full((height, width, 3), 114, np.uint8)


def looks_ms(detector: Detector, *, runs: int) -> Iterator[float]:
    """How long each look at a picture of the model's own size took; the first one, which warms up, does not count."""
    picture, options = Blank(width=detector.size.width, height=detector.size.height), DetectionOptions()
    detector.detect(picture, options)
    for _ in range(runs):
        started_s = time.perf_counter()
        detector.detect(picture, options)
        yield (time.perf_counter() - started_s) * 1000
