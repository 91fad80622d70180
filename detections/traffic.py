"""Where the cars of the demo clip are at every frame: what is drawn, and what a detector should find."""

from collections.abc import Iterator, Sequence

import msgspec
import numpy as np

WIDTH, HEIGHT = 960, 544
"""Of the picture, pixels."""
FRAMES_PER_S = 25

Colour = tuple[float, float, float]
"""BGR, 0..255, as OpenCV paints."""

_LANES = ((127, 1), (173, -1), (367, 1), (413, -1))
"""Middle of each lane, and which way its cars go."""
_SPEEDS_PX = (3.2, 3.7, 4.2, 4.7)
"""Pixels a frame in each lane: cars of one lane never meet."""
_LOOP_PX = WIDTH + 600
"""A car that has left comes back after this way."""
_LEFT_PX = 100
"""How far left of the picture the loop begins."""
_APART_PX = (85.0, 190.0)
"""Least and most from the middle of a car to the middle of the next."""
_PAINTS: Sequence[Colour] = (
    (225, 225, 225),
    (40, 40, 45),
    (160, 160, 165),
    (75, 75, 150),
    (110, 60, 35),
    (60, 90, 50),
    (200, 205, 210),
)


class Car(msgspec.Struct, frozen=True, kw_only=True):
    """A car; lengths in pixels, `start_x` its middle on the loop at frame 0."""

    start_x: float
    y: float
    direction: int
    """1 drives to the right, -1 to the left."""
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


def cars(rng: np.random.Generator) -> Iterator[Car]:
    """All cars of the street."""
    for (lane_y, direction), speed in zip(_LANES, _SPEEDS_PX, strict=True):
        start_x = float(rng.uniform(0, 60))
        while start_x < _LOOP_PX - _APART_PX[0]:  # the last one keeps its distance from the first
            yield Car(
                start_x=start_x,
                y=lane_y + float(rng.uniform(-4, 4)),
                direction=direction,
                speed=speed,
                length=float(rng.uniform(48, 57)),
                width=float(rng.uniform(22, 26)),
                paint=_PAINTS[int(rng.integers(len(_PAINTS)))],
            )
            start_x += float(rng.uniform(*_APART_PX))


def drawn(car: Car, frame_index: int) -> Drawn | None:
    """Where a car is to be seen, None if it is outside."""
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
