"""The demo clip: a street seen from straight above, with moving cars.

Everything follows from a seed. The ground is painted once and each car once per quarter of a pixel; a frame is the
ground, the cars laid over it, and a little noise in its brightness. `python -m detections.street FILE` writes the clip.
"""

import math
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import msgspec
import numpy as np
from cv2.typing import MatLike
from numpy.typing import NDArray

from detections.traffic import FRAMES_PER_S, HEIGHT, WIDTH, Car, Colour, Drawn, cars, drawn
from engine.encode import I420, VideoWriter

SECONDS = 24
SEED = 7

Canvas = NDArray[np.float32]
"""float32[H, W, 3], BGR as OpenCV paints, 0..255."""

_ROADS_Y = (150, 390)
_GLASS: Colour = (48, 44, 40)
_SHADOW: Colour = (30, 32, 32)
_OVERSAMPLING = 4
_PHASES = 4
"""Sprites of a car per pixel of its way, so that it glides."""
_MARGIN_PX = 8
_NOISES = 8
_NOISE_SIGMA = 3.0


class Sprite(msgspec.Struct, frozen=True):
    """A car ready to be laid over the ground, its middle in the middle (plus the phase)."""

    colour: Canvas
    """Times its opacity already."""
    see_through: NDArray[np.float32]
    """float32[h, w, 1], 1 where the ground shows."""


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A rounded rectangle of a car; its sides as fractions of the car's length (from the back) and width."""

    back: float
    front: float
    left: float
    right: float
    rounding: float
    """Of the car's width."""
    colour: Colour | None
    """None: the car's own paint."""
    opacity: float = 1.0
    shift_px: int = 0
    brightening: float = 1.0


_PARTS = (
    Part(back=0, front=1, left=0, right=1, rounding=0.25, colour=_SHADOW, opacity=0.75, shift_px=3),
    Part(back=0, front=1, left=0, right=1, rounding=0.28, colour=None),
    Part(back=0.58, front=0.72, left=0.12, right=0.88, rounding=0.08, colour=_GLASS),  # windscreen
    Part(back=0.10, front=0.19, left=0.14, right=0.86, rounding=0.06, colour=_GLASS),  # rear window
    Part(back=0.22, front=0.56, left=0.13, right=0.87, rounding=0.1, colour=None, brightening=1.1),  # roof
    Part(back=0.19, front=0.60, left=0.04, right=0.11, rounding=0.02, colour=_GLASS),  # side windows
    Part(back=0.19, front=0.60, left=0.89, right=0.96, rounding=0.02, colour=_GLASS),
)


class Street:
    """Frames of the street, by index; the same seed gives the same street."""

    def __init__(self, seed: int = SEED) -> None:
        rng = np.random.default_rng(seed)
        self._ground = _softened(_paint_ground(rng)).clip(0, 255).astype(np.uint8)
        self._cars = tuple(cars(rng))
        self._sprites = {
            car: tuple(_Sheet(car, phase / _PHASES).sprite() for phase in range(_PHASES)) for car in self._cars
        }
        self._noises = rng.normal(0, _NOISE_SIGMA, (_NOISES, HEIGHT, WIDTH)).round().astype(np.int8)

    def picture(self, frame_index: int) -> NDArray[np.uint8]:
        """The frame without its noise: uint8[544, 960, 3], BGR."""
        picture = self._ground.copy()
        for car in self._cars:
            _lay(self._sprites[car], over=picture, x=car.x(frame_index), y=car.y)
        return picture

    def frame(self, frame_index: int) -> I420:
        """The frame as it is encoded."""
        planes = np.asarray(cv2.cvtColor(self.picture(frame_index), cv2.COLOR_BGR2YUV_I420), np.uint8)
        noise = np.roll(self._noises[frame_index % _NOISES], 37 * frame_index, axis=1)
        planes[:HEIGHT] = cv2.add(planes[:HEIGHT], noise, dtype=cv2.CV_8U)
        return planes

    def drawn(self, frame_index: int) -> list[Drawn]:
        """The cars that can be seen."""
        return [seen for car in self._cars if (seen := drawn(car, frame_index))]


def write_clip(path: Path, *, seconds: float = SECONDS) -> Street:
    """Write the clip (H.264 in MP4, index first) and return the street that it shows."""
    street = Street()
    with VideoWriter(path, width=WIDTH, height=HEIGHT, preset="ultrafast") as video:
        for frame_index in range(round(seconds * FRAMES_PER_S)):
            video.write_planes(street.frame(frame_index), at_s=frame_index / FRAMES_PER_S)
    return street


def _paint_ground(rng: np.random.Generator) -> Canvas:
    ground = np.empty((HEIGHT, WIDTH, 3), np.float32)
    ground[:] = (70, 95, 85)
    ground += _grain(rng, HEIGHT, {24: 10, 6: 6, 2: 4})
    for y in _ROADS_Y:
        _paint_road(ground, rng, y)
    _paint_roofs(ground)
    _paint_trees(ground, rng)
    return ground


def _grain(rng: np.random.Generator, height: int, strengths: dict[int, float]) -> Canvas:
    """Soft noise: float32[height, 960, 1], the sum over grain size in pixels -> strength."""
    grain = np.zeros((height, WIDTH, 1), np.float32)
    for size, strength in strengths.items():
        coarse = rng.normal(0, strength, (height // size + 2, WIDTH // size + 2)).astype(np.float32)
        grain += cv2.resize(coarse, (WIDTH, height), interpolation=cv2.INTER_CUBIC)[..., None]
    return grain


def _paint_road(ground: Canvas, rng: np.random.Generator, y: int) -> None:
    ground[y - 46 : y + 46] = (108, 106, 104)
    ground[y - 46 : y + 46] += _grain(rng, 92, {10: 4, 2: 3})
    for kerb in (y - 48, y + 45):
        ground[kerb : kerb + 3] = (170, 172, 174)
    for x in range(0, WIDTH, 60):
        ground[y - 1 : y + 2, x : x + 30] = (205, 208, 210)


def _paint_roofs(ground: Canvas) -> None:
    roofs: Sequence[tuple[int, int, int, int, Colour]] = (
        (60, 225, 170, 100, (85, 90, 125)),
        (300, 235, 130, 85, (120, 125, 130)),
        (520, 220, 200, 110, (70, 75, 110)),
        (780, 232, 120, 90, (140, 140, 150)),
    )
    for x, y, width, height, colour in roofs:
        cv2.rectangle(ground, (x + 8, y + 8), (x + width + 8, y + height + 8), (45, 55, 50), -1)
        cv2.rectangle(ground, (x, y), (x + width, y + height), colour, -1)
        ridge = y + height // 2
        cv2.line(ground, (x, ridge), (x + width, ridge), tuple(part * 0.8 for part in colour), 2)


def _paint_trees(ground: Canvas, rng: np.random.Generator) -> None:
    for _ in range(26):
        x = int(rng.integers(0, WIDTH))
        y = int(rng.choice([rng.integers(0, 90), rng.integers(455, HEIGHT)]))
        radius = int(rng.integers(10, 22))
        cv2.circle(ground, (x + 4, y + 5), radius, (35, 48, 40), -1)
        cv2.circle(ground, (x, y), radius, (50, 85, 60), -1)
        cv2.circle(ground, (x - 3, y - 3), radius // 2, (62, 105, 75), -1)


class _Sheet:
    """An empty sheet around one car, painted several times larger and shrunk at the end."""

    def __init__(self, car: Car, phase: float) -> None:
        """`phase`: how much of a pixel right of the sheet's middle the car is."""
        self._car = car
        self._left_px = _MARGIN_PX + phase
        height, width = int(car.width) + 2 * _MARGIN_PX, int(car.length) + 2 * _MARGIN_PX + 1
        self._colour = np.zeros((height * _OVERSAMPLING, width * _OVERSAMPLING, 3), np.float32)
        self._opacity = np.zeros(self._colour.shape[:2], np.float32)

    def sprite(self) -> Sprite:
        for part in _PARTS:
            self._paint(part)
        height, width = (side // _OVERSAMPLING for side in self._opacity.shape)
        colour, opacity = (
            np.asarray(_softened(cv2.resize(sheet, (width, height), interpolation=cv2.INTER_AREA)), np.float32)
            for sheet in (self._colour, self._opacity)
        )
        return Sprite(colour=colour * opacity[..., None], see_through=1 - opacity[..., None])

    def _paint(self, part: Part) -> None:
        mask = self._rounded_rectangle(part)
        paint = np.minimum(255, np.array(part.colour or self._car.paint, np.float32) * part.brightening)
        self._colour[mask] = self._colour[mask] * (1 - part.opacity) + paint * part.opacity
        self._opacity[mask] = np.maximum(self._opacity[mask], part.opacity)

    def _rounded_rectangle(self, part: Part) -> NDArray[np.bool_]:
        back, front = (part.back, part.front) if self._car.direction > 0 else (1 - part.front, 1 - part.back)
        x1, x2 = (self._oversampled(self._left_px + part.shift_px + self._car.length * at) for at in (back, front))
        y1, y2 = (
            self._oversampled(_MARGIN_PX + part.shift_px + self._car.width * at) for at in (part.left, part.right)
        )
        radius = self._oversampled(self._car.width * part.rounding)
        mask = np.zeros(self._opacity.shape, np.uint8)
        cv2.rectangle(mask, (x1 + radius, y1), (x2 - radius, y2), 1, -1)
        cv2.rectangle(mask, (x1, y1 + radius), (x2, y2 - radius), 1, -1)
        for x in (x1 + radius, x2 - radius):
            for y in (y1 + radius, y2 - radius):
                cv2.circle(mask, (x, y), radius, 1, -1)
        return mask > 0

    @staticmethod
    def _oversampled(length_px: float) -> int:
        return int(length_px * _OVERSAMPLING)


def _softened(painted: MatLike) -> MatLike:
    """As a lens would show it."""
    return cv2.GaussianBlur(painted, (3, 3), 0.7)


def _lay(sprites: Sequence[Sprite], *, over: NDArray[np.uint8], x: float, y: float) -> None:
    """Lay a car over a picture with its middle at (x, y); what lies outside is cut."""
    sprite = sprites[math.floor(x * _PHASES) % _PHASES]
    height, width = sprite.colour.shape[:2]
    left, top = math.floor(x) - width // 2, round(y - height / 2)
    x1, x2 = max(0, left), min(WIDTH, left + width)
    if x1 >= x2:
        return
    part = slice(x1 - left, x2 - left)
    ground = over[top : top + height, x1:x2]
    ground[:] = sprite.colour[:, part] + sprite.see_through[:, part] * ground


if __name__ == "__main__":
    write_clip(Path(sys.argv[1]))
