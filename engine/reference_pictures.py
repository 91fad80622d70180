"""The pictures by which a faster engine is judged: the operator's own, or drawn ones where there are none."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from contracts.failures import Failure
from engine.checksums import sha256_of
from engine.images import StillPicture, read_picture
from engine.picture import Picture, Rgb

FOLDER = "reference"
"""Beside the model: pictures of what it is used for; the more objects in them, the surer the judgement."""
CALIBRATION_FOLDER = "calibration"
"""Beside the model; with pictures in it an INT8 engine is built, too."""
PICTURES_MAX = 24
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
DRAWN = 12
_WIDTH, _HEIGHT = 640, 480
_SHAPES = 24


def pictures_in(folder: Path) -> list[Path]:
    """The operator's pictures in a folder that may be missing, the first ones by name."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)[:PICTURES_MAX]


def calibration_pictures(model: Path) -> list[Path]:
    """The operator's pictures from which an engine in eight bits gets its scales."""
    return pictures_in(model.parent / CALIBRATION_FOLDER)


def digest_of_pictures(model: Path) -> str:
    """Of the names and contents of all pictures that the operator gave, hex."""
    paths = [*pictures_in(model.parent / FOLDER), *calibration_pictures(model)]
    listed = "".join(f"{path.parent.name}/{path.name} {sha256_of(path)}\n" for path in paths)
    return hashlib.sha256(listed.encode()).hexdigest()


def reference_pictures(model: Path) -> Iterator[Picture]:
    """The operator's pictures that can be read, or the drawn ones."""
    paths = pictures_in(model.parent / FOLDER)
    if not paths:
        yield from (StillPicture(drawn(seed)) for seed in range(DRAWN))
    for path in paths:
        try:
            yield read_picture(path)
        except Failure:  # one bad picture is no reason not to look at the others
            continue


def drawn(seed: int) -> Rgb:
    """Blocks and discs of all colours and sizes on a gradient, always the same for a seed: a model sees something in it."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:_HEIGHT, 0:_WIDTH].astype(np.float32)
    rgb = np.stack([y / _HEIGHT, x / _WIDTH, (x + y) / (_WIDTH + _HEIGHT)], axis=-1) * random.uniform(60, 200, 3)
    for _ in range(_SHAPES):
        at, size = random.uniform((0, 0), (_WIDTH, _HEIGHT)), random.uniform(8, 160, 2)
        far_x, far_y = np.abs(x - at[0]) / size[0], np.abs(y - at[1]) / size[1]
        inside = far_x**2 + far_y**2 < 1 if random.random() < 0.5 else np.maximum(far_x, far_y) < 1  # noqa: PLR2004
        rgb[inside] = random.uniform(0, 255, 3) + random.normal(0, 12, (int(inside.sum()), 3))
    return rgb.clip(0, 255).astype(np.uint8)
