"""What a detector looks at: anything that can show itself, or a part of itself, at a given size."""

from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from contracts.failures import Failure, FailureCode

Rgb = NDArray[np.uint8]
"""uint8[H, W, 3], RGB, in the orientation in which the picture is displayed."""


class Crop(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a picture, in its displayed pixels; wholly inside it."""

    x: int
    y: int
    width: int
    height: int


class Picture(Protocol):
    """A still or a video frame, EXIF and display rotation already applied to its size and to what it shows."""

    @property
    def width(self) -> int:
        """Displayed pixels."""
        ...

    @property
    def height(self) -> int:
        """Displayed pixels."""
        ...

    def scaled(self, *, width: int, height: int, crop: Crop | None = None) -> Rgb:
        """The picture, or `crop` of it, stretched to exactly `width` x `height` (bilinear)."""
        ...


def check_size(width: int, height: int, *, pixels_max: int, side_px_max: int) -> None:
    """Refuse a picture, or the frames of a video, by the size that the header claims. Raises `Failure(too_many_pixels)`."""
    if width * height > pixels_max:
        raise Failure(FailureCode.TOO_MANY_PIXELS, f"{width} x {height} pixels, at most {pixels_max} in all")
    if max(width, height) > side_px_max:
        raise Failure(FailureCode.TOO_MANY_PIXELS, f"{width} x {height} pixels, at most {side_px_max} a side")
