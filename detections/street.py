"""The demo clip: a street seen from straight above with moving cars, and where they were drawn.

Everything follows from a seed. The ground is painted once and each car once per quarter of a pixel; a frame is the
ground, the cars laid over it, and a little noise in its brightness.
"""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from detections.encode import I420, VideoWriter

WIDTH, HEIGHT = 960, 544
FRAMES_PER_S = 25
SECONDS = 24
SEED = 7

Canvas = NDArray[np.float32]
"""float32[H, W, 3], BGR as OpenCV paints, 0..255."""
Colour = tuple[float, float, float]
"""BGR, 0..255."""

_ROADS_Y = (150, 390)
_LANES = ((127, 1), (173, -1), (367, 1), (413, -1))
"""Middle of each lane, and which way its cars go."""
_SPEEDS_PX = (3.2, 3.7, 4.2, 4.7)
"""Pixels a frame in each lane: cars of one lane never meet."""
_LOOP_PX = WIDTH + 600
"""A car that has left comes back after this way."""
_LEFT_PX = 100
"""How far left of the picture the loop begins."""
_GAP_PX = (85.0, 190.0)
_PAINTS: Sequence[Colour] = (
    (225, 225, 225),
    (40, 40, 45),
    (160, 160, 165),
    (60, 60, 170),
    (150, 90, 50),
    (90, 95, 100),
    (200, 205, 210),
)
_GLASS: Colour = (48, 44, 40)
_SHADOW: Colour = (30, 32, 32)
_OVERSAMPLING = 4
_PHASES = 4
"""Sprites of a car per pixel of its way, so that it glides."""
_MARGIN_PX = 8
_NOISES = 8
_NOISE_SIGMA = 3.0


class Car(msgspec.Struct, frozen=True, kw_only=True):
    """A car; lengths in pixels, `start_x` its middle at frame 0 on the loop."""

    start_x: float
    y: float
    direction: int
    speed: float
    length: float
    width: float
    paint: Colour

    def x(self, frame_index: int) -> float:
        """Its middle at a frame, in the picture's pixels; it may be outside."""
        return (self.start_x + self.direction * self.speed * frame_index) % _LOOP_PX - _LEFT_PX


class Drawn(msgspec.Struct, frozen=True, kw_only=True):
    """Where a car was drawn, in pixels, cut at the picture's edge."""

    x1: float
    y1: float
    x2: float
    y2: float
    is_whole: bool
    """False for one that the edge cuts: finding it is right, missing it is no fault."""


class Sprite(msgspec.Struct, frozen=True):
    """A car ready to be laid over the ground, its middle in the middle (plus the phase)."""

    colour: Canvas
    """Times its opacity already."""
    see_through: NDArray[np.float32]
    """float32[h, w, 1], 1 where the ground shows."""


class Street:
    """Frames of the street, by index; the same seed gives the same street."""

    def __init__(self, seed: int = SEED) -> None:
        rng = np.random.default_rng(seed)
        self._ground = _softened(_paint_ground(rng)).clip(0, 255).astype(np.uint8)
        self._cars = tuple(_cars(rng))
        self._sprites = {
            car: tuple(_paint_car(car, phase=phase / _PHASES) for phase in range(_PHASES)) for car in self._cars
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
        return [drawn for car in self._cars if (drawn := _drawn(car, frame_index))]


def write_clip(path: Path, *, seconds: float = SECONDS, seed: int = SEED) -> Street:
    """Write the clip (H.264 in MP4, index first) and return the street that it shows."""
    street = Street(seed)
    rate = Fraction(FRAMES_PER_S)
    with VideoWriter(path, width=WIDTH, height=HEIGHT, frames_per_s=rate, preset="ultrafast") as video:
        for frame_index in range(round(seconds * FRAMES_PER_S)):
            video.write(street.frame(frame_index))
    return street


def _cars(rng: np.random.Generator) -> Iterator[Car]:
    for (lane_y, direction), speed in zip(_LANES, _SPEEDS_PX, strict=True):
        x = float(rng.uniform(0, 60))
        while x < _LOOP_PX - _GAP_PX[0]:  # the last one keeps its distance from the first
            yield Car(
                start_x=x,
                y=lane_y + float(rng.uniform(-4, 4)),
                direction=direction,
                speed=speed,
                length=float(rng.uniform(44, 54)),
                width=float(rng.uniform(19, 23)),
                paint=_PAINTS[int(rng.integers(len(_PAINTS)))],
            )
            x += float(rng.uniform(*_GAP_PX))


def _drawn(car: Car, frame_index: int) -> Drawn | None:
    x = car.x(frame_index)
    left, right = x - car.length / 2, x + car.length / 2
    if right <= 0 or left >= WIDTH:
        return None
    return Drawn(
        x1=max(0.0, left),
        y1=car.y - car.width / 2,
        x2=min(float(WIDTH), right),
        y2=car.y + car.width / 2,
        is_whole=left >= 0 and right <= WIDTH,
    )


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
        (60, 225, 170, 100, (75, 80, 130)),
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


def _paint_car(car: Car, *, phase: float) -> Sprite:
    """The car, `phase` of a pixel right of the middle."""
    layer = _Layer(car, phase)
    layer.body_part(0, 1, 0, 1, rounding=0.25, colour=_SHADOW, opacity=0.75, shift_px=3)
    layer.body_part(0, 1, 0, 1, rounding=0.28, colour=car.paint)
    layer.body_part(0.58, 0.72, 0.12, 0.88, rounding=0.08, colour=_GLASS)  # windscreen
    layer.body_part(0.10, 0.19, 0.14, 0.86, rounding=0.06, colour=_GLASS)  # rear window
    blue, green, red = (min(255.0, part * 1.08 + 6) for part in car.paint)
    layer.body_part(0.22, 0.56, 0.13, 0.87, rounding=0.1, colour=(blue, green, red))  # roof
    layer.body_part(0.19, 0.60, 0.04, 0.11, rounding=0.02, colour=_GLASS)  # side windows
    layer.body_part(0.19, 0.60, 0.89, 0.96, rounding=0.02, colour=_GLASS)
    return layer.sprite()


class _Layer:
    """An empty sheet around one car, painted several times larger and shrunk at the end."""

    def __init__(self, car: Car, phase: float) -> None:
        self._length, self._width = (int(side * _OVERSAMPLING) for side in (car.length, car.width))
        self._left = int((_MARGIN_PX + phase) * _OVERSAMPLING)
        self._top = _MARGIN_PX * _OVERSAMPLING
        self._is_mirrored = car.direction < 0
        sides = (int(car.width) + 2 * _MARGIN_PX, int(car.length) + 2 * _MARGIN_PX + 1)
        self._colour = np.zeros((sides[0] * _OVERSAMPLING, sides[1] * _OVERSAMPLING, 3), np.float32)
        self._opacity = np.zeros(self._colour.shape[:2], np.float32)

    def body_part(
        self,
        back: float,
        front: float,
        left: float,
        right: float,
        *,
        rounding: float,
        colour: Colour,
        opacity: float = 1.0,
        shift_px: int = 0,
    ) -> None:
        """A rounded rectangle; sides as fractions of the car's length and width, `rounding` of its width."""
        if self._is_mirrored:
            back, front = 1 - front, 1 - back
        shift = shift_px * _OVERSAMPLING
        x1, x2 = (int(self._left + self._length * part) + shift for part in (back, front))
        y1, y2 = (int(self._top + self._width * part) + shift for part in (left, right))
        mask = _rounded(self._opacity.shape, (x1, y1), (x2, y2), radius=int(self._width * rounding))
        self._colour[mask] = self._colour[mask] * (1 - opacity) + np.array(colour, np.float32) * opacity
        self._opacity[mask] = np.maximum(self._opacity[mask], opacity)

    def sprite(self) -> Sprite:
        height, width = (side // _OVERSAMPLING for side in self._opacity.shape)
        colour, opacity = (
            np.asarray(_softened(cv2.resize(sheet, (width, height), interpolation=cv2.INTER_AREA)), np.float32)
            for sheet in (self._colour, self._opacity)
        )
        return Sprite(colour=colour * opacity[..., None], see_through=1 - opacity[..., None])


def _rounded(shape: tuple[int, ...], start: tuple[int, int], end: tuple[int, int], *, radius: int) -> NDArray[np.bool_]:
    mask = np.zeros(shape, np.uint8)
    (x1, y1), (x2, y2) = start, end
    cv2.rectangle(mask, (x1 + radius, y1), (x2 - radius, y2), 1, -1)
    cv2.rectangle(mask, (x1, y1 + radius), (x2, y2 - radius), 1, -1)
    for x in (x1 + radius, x2 - radius):
        for y in (y1 + radius, y2 - radius):
            cv2.circle(mask, (x, y), radius, 1, -1)
    return mask > 0


def _lay(sprites: Sequence[Sprite], *, over: NDArray[np.uint8], x: float, y: float) -> None:
    """Lay a car over a picture with its middle at (x, y); what lies outside is cut."""
    sprite = sprites[int(x * _PHASES) % _PHASES]
    height, width = sprite.colour.shape[:2]
    left, top = int(np.floor(x)) - width // 2, round(y - height / 2)
    x1, x2 = max(0, left), min(WIDTH, left + width)
    if x1 >= x2:
        return
    part = slice(x1 - left, x2 - left)
    ground = over[top : top + height, x1:x2]
    ground[:] = sprite.colour[:, part] + sprite.see_through[:, part] * ground
