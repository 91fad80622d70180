"""The eight turns."""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from engine.orientation import UPRIGHT, Size, Turn, turn_by_display_matrix
from engine.picture import Crop

STORED = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
TURNS = {
    1: UPRIGHT,
    2: Turn(is_flipped_x=True),
    3: Turn(is_flipped_x=True, is_flipped_y=True),
    4: Turn(is_flipped_y=True),
    5: Turn(is_transposed=True),
    6: Turn(is_transposed=True, is_flipped_x=True),
    7: Turn(is_transposed=True, is_flipped_x=True, is_flipped_y=True),
    8: Turn(is_transposed=True, is_flipped_y=True),
}
"""By the numbers that EXIF has for them."""


@pytest.mark.parametrize("orientation", TURNS)
def test_a_turn_is_pillows(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    Image.fromarray(STORED).save(file, format="PNG", exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(file)))
    turned = TURNS[orientation].apply(STORED)
    assert turned.tolist() == expected.tolist()
    assert turned.flags.c_contiguous


@pytest.mark.parametrize("turn", TURNS.values(), ids=str)
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
        ((-1, 0, 0, 0, -1, 0, 0, 0, 1), TURNS[3]),
        ((0, 1, 0, -1, 0, 0, 0, 0, 1), TURNS[6]),
        ((0, -1, 0, 1, 0, 0, 0, 0, 1), TURNS[8]),
        ((-1, 0, 0, 0, 1, 0, 0, 0, 1), TURNS[2]),
        ((0, 0, 0, 0, 0, 0, 0, 0, 0), UPRIGHT),
    ],
)
def test_a_display_matrix_is_one_of_the_eight(matrix: tuple[int, ...], turn: Turn) -> None:
    assert turn_by_display_matrix([each * 65536 for each in matrix]) == turn
