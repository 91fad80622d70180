"""Pictures for tests: an array that shows itself, and squares drawn on grey."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from contracts.detections import Detection
from engine.picture import Crop, Rgb

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
GREY = (90, 90, 90)


class ArrayPicture:
    """A picture held as uint8[H, W, 3], RGB."""

    def __init__(self, pixels: Rgb) -> None:
        self.pixels = pixels

    @property
    def width(self) -> int:
        return self.pixels.shape[1]

    @property
    def height(self) -> int:
        return self.pixels.shape[0]

    def scaled(self, *, width: int, height: int, crop: Crop | None = None) -> Rgb:
        crop = crop or Crop(x=0, y=0, width=self.width, height=self.height)
        assert crop.x >= 0
        assert crop.y >= 0
        assert crop.x + crop.width <= self.width
        assert crop.y + crop.height <= self.height
        part = self.pixels[crop.y : crop.y + crop.height, crop.x : crop.x + crop.width]
        return cv2.resize(part, (width, height), interpolation=cv2.INTER_LINEAR)


def drawn(width: int, height: int, *squares: tuple[tuple[int, int, int, int], tuple[int, int, int]]) -> ArrayPicture:
    """Grey with filled rectangles, each ((x1, y1, x2, y2), rgb)."""
    pixels = np.full((height, width, 3), GREY, np.uint8)
    for (x1, y1, x2, y2), rgb in squares:
        pixels[y1:y2, x1:x2] = rgb
    return ArrayPicture(pixels)


def read_photo(path: Path) -> ArrayPicture:
    """The photo in a file, as it is stored."""
    return ArrayPicture(cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB))


def corners(found: Detection, picture: ArrayPicture) -> list[float]:
    """x1, y1, x2, y2 of a detection in pixels of the picture."""
    width, height = picture.width, picture.height
    return [
        (found.center_x - found.width / 2) * width,
        (found.center_y - found.height / 2) * height,
        (found.center_x + found.width / 2) * width,
        (found.center_y + found.height / 2) * height,
    ]


def iou(one: Sequence[float], other: Sequence[float]) -> float:
    """Of two boxes x1, y1, x2, y2."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(width, 0) * max(height, 0)
    both = (one[2] - one[0]) * (one[3] - one[1]) + (other[2] - other[0]) * (other[3] - other[1])
    return shared / (both - shared) if both > shared else 0.0
