"""The eight turns."""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from engine.orientation import UPRIGHT, Size, Turn, turn_by_display_matrix, turn_by_exif
from engine.picture import Crop

STORED = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
TURNS = [turn_by_exif(orientation) for orientation in range(1, 9)]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_exif_turn_is_pillows(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    Image.fromarray(STORED).save(file, format="PNG", exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(file)))
    turned = turn_by_exif(orientation).apply(STORED)
    assert turned.tolist() == expected.tolist()
    assert turned.flags.c_contiguous


@pytest.mark.parametrize("orientation", [0, 9, None, "6", -1])
def test_what_is_no_orientation_is_upright(orientation: object) -> None:
    assert turn_by_exif(orientation) == UPRIGHT


@pytest.mark.parametrize("turn", TURNS, ids=str)
def test_a_crop_of_the_displayed_picture_is_the_turned_crop_of_the_stored_one(turn: Turn) -> None:
    displayed = turn.apply(STORED)
    height, width = displayed.shape[:2]
    crop = Crop(x=1, y=2, width=2, height=1)
    stored = turn.crop(crop, displayed=Size(width, height))
    part = STORED[stored.y : stored.y + stored.height, stored.x : stored.x + stored.width]
    assert turn.apply(part).tolist() == displayed[2:3, 1:3].tolist()


@pytest.mark.parametrize(
    ("matrix", "turn"),
    [
        ((1, 0, 0, 0, 1, 0, 0, 0, 1), UPRIGHT),
        ((-1, 0, 0, 0, -1, 0, 0, 0, 1), turn_by_exif(3)),
        ((0, 1, 0, -1, 0, 0, 0, 0, 1), turn_by_exif(6)),
        ((0, -1, 0, 1, 0, 0, 0, 0, 1), turn_by_exif(8)),
        ((-1, 0, 0, 0, 1, 0, 0, 0, 1), turn_by_exif(2)),
        ((0, 0, 0, 0, 0, 0, 0, 0, 0), UPRIGHT),
    ],
)
def test_a_display_matrix_is_one_of_the_eight(matrix: tuple[int, ...], turn: Turn) -> None:
    assert turn_by_display_matrix([each * 65536 for each in matrix]) == turn
