"""A small detector for tests of what surrounds detectors: it finds the red things in a picture."""

import threading
from collections.abc import Sequence

import numpy as np

from contracts.detections import Detection
from contracts.failures import Failure, FailureCode
from contracts.options import DetectionOptions
from engine.picture import Crop, Picture
from engine.postprocess import Boxes, no_boxes
from engine.preprocess import Placement, View
from engine.tiling import TileBoxes


class RedFinder:
    """Finds the box around everything red; it looks at a picture of half the size, or of 320 pixels."""

    gathering = None
    is_closed = False

    def __init__(self, *, fails_at: frozenset[int] = frozenset()) -> None:
        """fails_at: numbers of calls, from 0, that raise `inference_failed`."""
        self.calls = 0
        self._fails_at = fails_at
        self._lock = threading.Lock()

    def tiles(self, picture: Picture, options: DetectionOptions) -> tuple[Crop, ...]:
        return (Crop(x=0, y=0, width=picture.width, height=picture.height),)

    def view(self, picture: Picture, tile: Crop) -> View:
        shrink = max(2, max(picture.width, picture.height) // 320)
        width, height = max(picture.width // shrink, 1), max(picture.height // shrink, 1)
        placement = Placement(crop=tile, input_width=width, input_height=height, x=0, y=0, width=width, height=height)
        return View(picture=picture, placement=placement)

    def look(self, views: Sequence[View], *, score_min: float) -> list[Boxes]:
        with self._lock:
            call, self.calls = self.calls, self.calls + 1
        if call in self._fails_at:
            raise Failure(FailureCode.INFERENCE_FAILED, f"call {call}")
        return [self._seen(view) if score_min <= 0.9 else no_boxes() for view in views]

    def conclude(self, picture: Picture, seen: list[TileBoxes], options: DetectionOptions) -> list[Detection]:
        (part,) = seen
        whole = np.array([picture.width, picture.height] * 2)
        return [
            Detection(
                center_x=(x1 + x2) / 2,
                center_y=(y1 + y2) / 2,
                width=x2 - x1,
                height=y2 - y1,
                class_num=0,
                label="red",
                confidence=0.9,
            )
            for x1, y1, x2, y2 in (part.boxes.corners / whole).tolist()
        ]

    def close(self) -> None:
        self.is_closed = True

    def _seen(self, view: View) -> Boxes:
        placed = view.placement
        pixels = view.picture.scaled(width=placed.width, height=placed.height)
        red = (pixels[..., 0] > 180) & (pixels[..., 1] < 80) & (pixels[..., 2] < 80)
        if not red.any():
            return no_boxes()
        ys, xs = np.nonzero(red)
        corners = np.array([[xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]], np.float32)
        found = Boxes(corners=corners, scores=np.array([0.9], np.float32), classes=np.array([0], np.int32))
        return placed.to_picture(found)
