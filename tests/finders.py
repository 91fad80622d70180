"""A small detector for tests of what surrounds detectors: it finds the red things in a picture."""

import threading

import numpy as np

from contracts.detections import Detection
from contracts.failures import Failure, FailureCode
from contracts.options import DetectionOptions
from engine.picture import Picture


class RedFinder:
    """Finds the box around everything red; it looks at a picture of half the size, or of 320 pixels."""

    def __init__(self, *, fails_at: frozenset[int] = frozenset()) -> None:
        """fails_at: numbers of calls, from 0, that raise `inference_failed`."""
        self.calls = 0
        self._fails_at = fails_at
        self._lock = threading.Lock()

    def detect(self, picture: Picture, options: DetectionOptions) -> list[Detection]:
        with self._lock:
            call, self.calls = self.calls, self.calls + 1
        if call in self._fails_at:
            raise Failure(FailureCode.INFERENCE_FAILED, f"call {call}")
        shrink = max(2, max(picture.width, picture.height) // 320)
        width, height = max(picture.width // shrink, 1), max(picture.height // shrink, 1)
        pixels = picture.scaled(width=width, height=height)
        red = (pixels[..., 0] > 180) & (pixels[..., 1] < 80) & (pixels[..., 2] < 80)
        if not red.any() or options.probability_threshold > 0.9:
            return []
        ys, xs = np.nonzero(red)
        left, right = float(xs.min()) / width, float(xs.max() + 1) / width
        top, bottom = float(ys.min()) / height, float(ys.max() + 1) / height
        return [
            Detection(
                center_x=(left + right) / 2,
                center_y=(top + bottom) / 2,
                width=right - left,
                height=bottom - top,
                class_num=0,
                label="red",
                confidence=0.9,
            )
        ]
