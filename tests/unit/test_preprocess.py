"""A picture becomes an entry of the input tensor, and boxes find their way back."""

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.picture import Crop
from engine.postprocess import Boxes
from engine.preprocess import NATIVE_SIDE_FACTOR, InputRule, Placement, Preprocessor, View, place
from tests.pictures import BLUE, RED, ArrayPicture, drawn


def rule(**fields: object) -> InputRule:
    stated: dict[str, object] = {
        "tensor": "images",
        "dtype": "float32",
        "layout": "NCHW",
        "batch": None,
        "width": 64,
        "height": 32,
    }
    return InputRule(**(stated | fields))  # type: ignore[arg-type]


def whole(picture: ArrayPicture) -> Crop:
    return Crop(x=0, y=0, width=picture.width, height=picture.height)


def batch_of(wanted: InputRule, *pictures: ArrayPicture) -> np.ndarray:
    views = [View(picture=picture, placement=place(wanted, whole(picture))) for picture in pictures]
    return Preprocessor(wanted).batch(views)


@pytest.mark.parametrize(
    ("resize", "x", "y", "width", "height"),
    [
        ("letterbox", 16, 0, 32, 32),
        ("letterbox_top_left", 0, 0, 32, 32),
        ("stretch", 0, 0, 64, 32),
    ],
)
def test_a_square_lies_in_a_wide_input_as_the_rule_says(resize: str, x: int, y: int, width: int, height: int) -> None:
    placed = place(rule(resize=resize), Crop(x=5, y=6, width=100, height=100))

    assert (placed.x, placed.y, placed.width, placed.height) == (x, y, width, height)
    assert (placed.input_width, placed.input_height) == (64, 32)


def test_an_unscaled_picture_is_padded_to_the_multiple() -> None:
    placed = place(rule(resize="native", multiple=32), Crop(x=0, y=0, width=70, height=31))

    assert (placed.width, placed.height, placed.input_width, placed.input_height) == (70, 31, 96, 32)


def test_a_picture_too_large_to_be_shown_unscaled_is_shrunk_to_the_bound() -> None:
    placed = place(rule(resize="native", multiple=32), Crop(x=0, y=0, width=40_000, height=20_000))

    assert placed.width * placed.height <= 1.1 * 1.5**2 * 64 * 32
    assert placed.width == pytest.approx(2 * placed.height, abs=1)


@given(st.integers(1, 100_000), st.integers(1, 100_000), st.integers(1, 256))
def test_no_unscaled_picture_has_a_larger_input_than_engines_are_built_for(
    width: int, height: int, multiple: int
) -> None:
    placed = place(rule(resize="native", multiple=multiple), Crop(x=0, y=0, width=width, height=height))

    for side, of_the_model in ((placed.input_width, 64), (placed.input_height, 32)):
        assert multiple <= side <= -(-NATIVE_SIDE_FACTOR * of_the_model // multiple) * multiple


def test_a_long_and_narrow_picture_is_shrunk_to_the_longest_side() -> None:
    placed = place(rule(resize="native", multiple=32), Crop(x=0, y=0, width=1000, height=20))

    assert (placed.width, placed.height, placed.input_width, placed.input_height) == (128, 3, 128, 32)


@pytest.mark.parametrize("resize", ["letterbox", "letterbox_top_left", "stretch", "native"])
def test_a_picture_of_one_row_of_pixels_has_a_place(resize: str) -> None:
    placed = place(rule(resize=resize, multiple=32), Crop(x=0, y=0, width=8000, height=1))

    assert placed.height >= 1
    assert placed.x + placed.width <= placed.input_width
    assert placed.y + placed.height <= placed.input_height


@given(
    st.sampled_from(["letterbox", "letterbox_top_left", "stretch", "native"]),
    st.integers(1, 5000),
    st.integers(1, 5000),
    st.integers(0, 3000),
)
def test_the_content_of_the_input_is_the_whole_part_of_the_picture(
    resize: str, width: int, height: int, x: int
) -> None:
    crop = Crop(x=x, y=7, width=width, height=height)
    placed = place(rule(resize=resize, multiple=32), crop)
    content = np.array([[placed.x, placed.y, placed.x + placed.width, placed.y + placed.height]], np.float32)
    seen = Boxes(corners=content, scores=np.ones(1, np.float32), classes=np.zeros(1, np.int32))

    [back] = placed.to_picture(seen).corners.tolist()

    assert back == pytest.approx([x, 7, x + width, 7 + height], rel=1e-5, abs=0.01)


def test_red_is_the_first_channel_of_rgb_and_the_last_of_bgr() -> None:
    picture = drawn(64, 32, ((0, 0, 64, 32), RED))

    assert batch_of(rule(), picture)[0, :, 16, 32].tolist() == [1, 0, 0]
    assert batch_of(rule(colour="BGR", scale="0..255"), picture)[0, :, 16, 32].tolist() == [0, 0, 255]


def test_colours_are_last_in_nhwc_and_bytes_stay_bytes() -> None:
    tensor = batch_of(rule(layout="NHWC", dtype="uint8", scale="0..255"), drawn(64, 32, ((0, 0, 64, 32), (1, 2, 3))))

    assert (tensor.shape, tensor.dtype) == ((1, 32, 64, 3), np.uint8)
    assert tensor[0, 5, 5].tolist() == [1, 2, 3]


def test_mean_and_deviation_are_of_the_models_order_of_colours() -> None:
    wanted = rule(colour="BGR", mean=(0.5, 0.0, 0.25), std=(0.5, 1.0, 0.25))

    tensor = batch_of(wanted, drawn(64, 32, ((0, 0, 64, 32), RED)))

    assert tensor[0, :, 0, 0].tolist() == pytest.approx([-1, 0, 3])


def test_the_padding_is_grey_whatever_lay_in_the_buffer_before() -> None:
    wanted = rule(scale="0..255")
    preprocessor = Preprocessor(wanted)
    wide, square = drawn(64, 32, ((0, 0, 64, 32), BLUE)), drawn(32, 32, ((0, 0, 32, 32), BLUE))
    preprocessor.batch([View(picture=wide, placement=place(wanted, whole(wide)))])

    tensor = preprocessor.batch([View(picture=square, placement=place(wanted, whole(square)))])

    assert (tensor[0, :, :, :16] == 114).all()
    assert (tensor[0, :, :, 48:] == 114).all()
    assert tensor[0, 2, 0, 16:48].tolist() == [255] * 32


def test_padding_above_and_below_is_grey_too() -> None:
    tensor = batch_of(rule(), drawn(64, 8, ((0, 0, 64, 8), BLUE)))

    assert tensor[0, :, 0, 0].tolist() == pytest.approx([114 / 255] * 3)
    assert tensor[0, :, 31, 63].tolist() == pytest.approx([114 / 255] * 3)


def test_only_the_part_of_the_picture_is_shown() -> None:
    wanted = rule()
    picture = drawn(200, 100, ((100, 50, 164, 82), RED))
    placed = place(wanted, Crop(x=100, y=50, width=64, height=32))

    tensor = Preprocessor(wanted).batch([View(picture=picture, placement=placed)])

    assert (tensor[0, 0] == 1).all()


def test_a_fixed_batch_has_its_size_whatever_is_shown() -> None:
    assert batch_of(rule(batch=4), drawn(64, 32)).shape == (4, 3, 32, 64)


def test_a_thread_uses_one_buffer_again_and_again() -> None:
    wanted = rule()
    preprocessor = Preprocessor(wanted)
    picture = drawn(64, 32)
    view = View(picture=picture, placement=place(wanted, whole(picture)))

    first, second = preprocessor.batch([view]), preprocessor.batch([view])

    assert np.shares_memory(first, second)


def test_two_threads_do_not_write_into_one_buffer() -> None:
    wanted = rule()
    preprocessor = Preprocessor(wanted)
    red, blue = drawn(64, 32, ((0, 0, 64, 32), RED)), drawn(64, 32, ((0, 0, 64, 32), BLUE))
    seen: list[np.ndarray] = []

    def show() -> None:
        seen.append(preprocessor.batch([View(picture=red, placement=place(wanted, whole(red)))]))

    thread = threading.Thread(target=show)
    thread.start()
    thread.join(timeout=60)
    preprocessor.batch([View(picture=blue, placement=place(wanted, whole(blue)))])

    assert seen[0][0, :, 0, 0].tolist() == [1, 0, 0]


def test_a_placement_maps_a_box_into_its_part_of_the_picture() -> None:
    crop = Crop(x=100, y=200, width=50, height=50)
    placed = Placement(crop=crop, input_width=128, input_height=128, x=14, y=14, width=100, height=100)
    box = Boxes(
        corners=np.array([[14, 14, 64, 114]], np.float32), scores=np.ones(1, np.float32), classes=np.zeros(1, np.int32)
    )

    assert placed.to_picture(box).corners.tolist() == [[100, 200, 125, 250]]


class Unseeable(ArrayPicture):
    def scaled(self, *, width: int, height: int, crop: Crop | None = None) -> np.ndarray:
        raise RuntimeError("no pixels")


def test_the_border_is_whole_whatever_the_tensor_held_before() -> None:
    """Borders that are painted already are left alone: pictures of other shapes, also one that fails, must not show."""
    wide, tall = ArrayPicture(np.full((10, 60, 3), 9, np.uint8)), ArrayPicture(np.full((60, 10, 3), 200, np.uint8))
    wanted = rule(std=(0.5, 0.5, 0.5))
    preprocessor = Preprocessor(wanted)

    def shown(*pictures: ArrayPicture) -> np.ndarray:
        return preprocessor.batch(
            [View(picture=each, placement=place(wanted, whole(each))) for each in pictures]
        ).copy()

    for pictures in [(wide,), (wide,), (tall,), (wide, tall), (tall, wide), (wide,)]:
        assert (shown(*pictures) == batch_of(wanted, *pictures)).all()
    with pytest.raises(RuntimeError):
        shown(tall, Unseeable(np.zeros((30, 30, 3), np.uint8)))
    assert (shown(wide) == batch_of(wanted, wide)).all()
