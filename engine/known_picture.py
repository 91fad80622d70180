"""A picture drawn from a formula, the same on every machine: a stop sign and a clock under a sky.

What a model makes of it tells what its numbers mean. Plain shapes that detectors of everyday things know are used,
since a model with the suppression of repeats in its graph says nothing at all of a grey or a noisy picture.
"""

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.picture import Crop, Rgb

Mask = NDArray[np.bool_]
Floats = NDArray[np.float32]
_DRAWN_PX = 256
"""Longer side of the drawing; a larger picture repeats its pixels: formulas on a whole frame would cost 0.2 s."""
_RED, _WHITE, _GREY, _DARK = (200, 20, 30), (248, 248, 248), (120, 120, 120), (25, 25, 25)


class KnownPicture(msgspec.Struct, frozen=True, kw_only=True):
    """The drawn picture; `is_other` gives a second one that shares little with the first."""

    width: int
    height: int
    is_other: bool = False

    def scaled(self, *, width: int, height: int, crop: Crop | None = None) -> Rgb:  # noqa: ARG002 - drawn at any size
        shrunk = min(1.0, _DRAWN_PX / max(width, height))
        drawn = _drawn(max(1, round(width * shrunk)), max(1, round(height * shrunk)))
        if self.is_other:
            drawn = 255 - drawn[::-1, :, ::-1]
        rows, columns = np.arange(height) * len(drawn) // height, np.arange(width) * drawn.shape[1] // width
        return np.ascontiguousarray(drawn[rows][:, columns])


def _drawn(width: int, height: int) -> Rgb:
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    x, y, aspect = (x + 0.5) / width, (y + 0.5) / height, width / height
    rgb = np.stack([130 + 60 * y, 170 + 30 * y, 230 - 40 * y], axis=-1)
    _stop_sign(rgb, (x - 0.27) * max(aspect, 1), (y - 0.4) / min(aspect, 1))
    _clock(rgb, (x - 0.74) * max(aspect, 1), (y - 0.55) / min(aspect, 1))
    return rgb.astype(np.uint8)


def _stop_sign(rgb: Floats, x: Floats, y: Floats) -> None:
    """A white-rimmed red octagon on a pole, its center at x = y = 0, 0.4 high."""
    rgb[_in_box(x, y, (-0.012, 0.2, 0.012, 1.0))] = _GREY
    for radius, colour in ((0.2, _WHITE), (0.186, _RED)):
        square = _in_box(x, y, (-radius, -radius, radius, radius))
        rgb[square & (abs(x) + abs(y) < radius * np.sqrt(2))] = colour
    is_stroke: Mask = np.floor((x + 0.15) * 40) % 2 == 0
    rgb[is_stroke & _in_box(x, y, (-0.15, -0.05, 0.15, 0.05))] = _WHITE


def _clock(rgb: Floats, x: Floats, y: Floats) -> None:
    """A white dial in a dark rim with twelve marks and two hands, its center at x = y = 0, 0.44 high."""
    for radius, colour in ((0.22, _DARK), (0.2, _WHITE)):
        rgb[np.hypot(x, y) < radius] = colour
    for hour in range(12):
        angle = hour * np.pi / 6
        mark = _in_box(x - 0.17 * np.cos(angle), y - 0.17 * np.sin(angle), (-0.009, -0.009, 0.009, 0.009))
        rgb[mark] = _DARK
    for hand in ((-0.007, -0.14, 0.007, 0.0), (0.0, -0.009, 0.1, 0.009)):
        rgb[_in_box(x, y, hand)] = _DARK


def _in_box(x: Floats, y: Floats, box: tuple[float, float, float, float]) -> Mask:
    x1, y1, x2, y2 = box
    return (x > x1) & (x < x2) & (y > y1) & (y < y2)
