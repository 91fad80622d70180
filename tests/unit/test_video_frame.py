from fractions import Fraction

import av
import numpy as np
import pytest

from engine.orientation import UPRIGHT, Turn
from engine.picture import Rgb
from engine.video_frame import DecodedFrame

WIDTH, HEIGHT = 192, 128


def picture() -> Rgb:
    """Red, green, blue and grey quarters: a wrong order of planes, matrix or range is seen in each."""
    drawn = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    drawn[:64, :96], drawn[:64, 96:], drawn[64:, :96], drawn[64:, 96:] = (
        (200, 30, 30),
        (40, 180, 60),
        (30, 40, 190),
        128,
    )
    return drawn


def stored(pixel_format: str, colorspace: int) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(picture(), format="rgb24")
    frame = frame.reformat(format=pixel_format, dst_colorspace=colorspace)
    frame.colorspace = colorspace
    frame.time_base = Fraction(1, 25)
    return frame


def decoded(frame: av.VideoFrame, turn: Turn = UPRIGHT) -> DecodedFrame:
    return DecodedFrame(frame, turn=turn, index=0, at_s=0.0, position_bytes=0)


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuvj420p", "yuv422p", "yuv420p10le", "nv12", "rgb24", "gray"])
@pytest.mark.parametrize("colorspace", [1, 5], ids=["bt709", "bt601"])
def test_a_shrunk_frame_has_the_colours_of_the_whole_one(pixel_format: str, colorspace: int) -> None:
    frame = decoded(stored(pixel_format, colorspace))

    whole = frame.scaled(width=WIDTH, height=HEIGHT)
    shrunk = frame.scaled(width=WIDTH // 2, height=HEIGHT // 2)

    middles = [(16, 24), (16, 72), (48, 24), (48, 72)]
    assert np.abs([whole[2 * y, 2 * x].astype(int) - shrunk[y, x] for y, x in middles]).max() <= 3


@pytest.mark.parametrize("size", [(191, 127), (97, 33), (1, 1), (192, 64), (96, 300), (400, 300)])
def test_any_size_can_be_asked_for(size: tuple[int, int]) -> None:
    width, height = size

    shown = decoded(stored("yuv420p", 5)).scaled(width=width, height=height)

    assert shown.shape == (height, width, 3)
    assert np.abs(shown.reshape(-1, 3).mean(axis=0) - picture().reshape(-1, 3).mean(axis=0)).max() < 8 or size == (1, 1)


def test_a_shrunk_frame_is_turned_like_a_whole_one() -> None:
    frame = decoded(stored("yuv420p", 5), Turn(is_transposed=True, is_flipped_x=True))

    shrunk = frame.scaled(width=64, height=96)

    assert shrunk[8, 56].argmax() == 0, "red, top left as stored, is displayed top right"
    assert shrunk[88, 56].argmax() == 1
    assert shrunk[8, 8].argmax() == 2


def test_what_was_shown_stays_when_the_next_frame_is_shown() -> None:
    frame = decoded(stored("yuv420p", 5))
    first = frame.scaled(width=96, height=64)
    before = first.copy()

    decoded(stored("gray", 5)).scaled(width=96, height=64)
    other = np.full((HEIGHT, WIDTH, 3), 7, np.uint8)
    decoded(av.VideoFrame.from_ndarray(other, format="rgb24").reformat(format="yuv420p")).scaled(width=96, height=64)

    assert (first == before).all()


def test_every_pixel_is_written_whatever_the_width() -> None:
    """A frame of one colour is of one colour at any width below its own."""
    colour = np.full((HEIGHT, WIDTH, 3), (200, 60, 30), np.uint8)
    frame = decoded(av.VideoFrame.from_ndarray(colour, format="rgb24").reformat(format="yuv420p"))

    for width in range(2, WIDTH):
        shown = frame.scaled(width=width, height=max(1, width * HEIGHT // WIDTH)).astype(int)
        assert np.abs(shown - shown[0, 0]).max() <= 4, width
