"""Pictures that are files."""

import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from contracts.detections import Detection
from contracts.failures import Failure, FailureCode
from engine.drawing import draw_boxes, write_picture
from engine.images import FILE_BYTES_MAX, PIXELS_MAX, PictureLimits, StillPicture, read_picture
from engine.picture import Crop
from tests.media import BLUE, GREEN, RED, Square, draw, write_image

CORNERS = (
    Square(rgb=RED, x=0, y=0, side=40),
    Square(rgb=GREEN, x=120, y=0, side=40),
    Square(rgb=BLUE, x=0, y=88, side=40),
)
EXPECTED = draw((160, 128), CORNERS)
WITH_EXIF = ("jpg", "png", "webp", "tif")


def _code(path: Path) -> FailureCode:
    with pytest.raises(Failure) as failure:
        read_picture(path)
    return failure.value.code


def _difference(picture: StillPicture) -> float:
    assert picture.rgb.shape == EXPECTED.shape
    assert picture.rgb.dtype == np.uint8
    return float(np.abs(picture.rgb.astype(int) - EXPECTED).mean())


@pytest.mark.parametrize("suffix", ["jpg", "jpeg", "png", "bmp", "webp", "tif", "tiff"])
def test_every_format_gives_its_pixels(tmp_path: Path, suffix: str) -> None:
    picture = read_picture(write_image(tmp_path / f"picture.{suffix}", squares=CORNERS))
    assert (picture.width, picture.height) == (160, 128)
    assert _difference(picture) < 2


def test_the_name_of_a_file_does_not_matter(tmp_path: Path) -> None:
    write_image(tmp_path / "picture.png", squares=CORNERS).rename(tmp_path / "body")
    assert _difference(read_picture(tmp_path / "body")) < 2


@pytest.mark.parametrize("suffix", WITH_EXIF)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_is_applied_exactly_once(tmp_path: Path, suffix: str, orientation: int) -> None:
    path = write_image(tmp_path / f"picture.{suffix}", squares=CORNERS, orientation=orientation)
    assert _difference(read_picture(path)) < 2


@pytest.mark.parametrize(
    ("suffix", "mode"),
    [("jpg", "CMYK"), ("tif", "CMYK"), ("png", "RGBA"), ("webp", "RGBA"), ("tif", "RGBA"), ("bmp", "P"), ("png", "P")],
)
def test_every_colour_mode_becomes_rgb(tmp_path: Path, suffix: str, mode: str) -> None:
    picture = read_picture(write_image(tmp_path / f"picture.{suffix}", squares=CORNERS, mode=mode))
    assert _difference(picture) < 16  # a palette of 256 dithers


@pytest.mark.parametrize(
    ("suffix", "mode"),
    [
        ("jpg", "L"),
        ("png", "L"),
        ("png", "LA"),
        ("tif", "LA"),
        ("png", "I;16"),
        ("tif", "I;16"),
        ("png", "1"),
        ("tif", "1"),
    ],
)
def test_gray_becomes_three_equal_channels_of_8_bits(tmp_path: Path, suffix: str, mode: str) -> None:
    rgb = read_picture(write_image(tmp_path / f"picture.{suffix}", squares=CORNERS, mode=mode)).rgb
    assert rgb.dtype == np.uint8
    assert rgb.shape == EXPECTED.shape
    assert (rgb[..., 0] == rgb[..., 1]).all()
    assert (rgb[..., 0] == rgb[..., 2]).all()
    if mode != "1":
        assert rgb[64, 80].tolist() == pytest.approx([110] * 3, abs=1)


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "webp", "tif"])
@pytest.mark.parametrize("share", [0.4, 0.8, 0.98])
def test_a_cut_picture_is_refused(tmp_path: Path, suffix: str, share: float) -> None:
    path = write_image(tmp_path / f"picture.{suffix}", squares=CORNERS)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    assert _code(path) is FailureCode.UNREADABLE_MEDIA


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", FailureCode.EMPTY_MEDIA),
        (b"\xff", FailureCode.UNSUPPORTED_MEDIA),
        (bytes(range(256)) * 100, FailureCode.UNSUPPORTED_MEDIA),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", FailureCode.UNSUPPORTED_MEDIA),
        (b"GIF89a" + bytes(40), FailureCode.UNSUPPORTED_MEDIA),
    ],
    ids=["empty", "one byte", "noise", "svg", "gif"],
)
def test_what_is_no_picture_fails_with_its_code(tmp_path: Path, content: bytes, code: FailureCode) -> None:
    (tmp_path / "picture.jpg").write_bytes(content)
    assert _code(tmp_path / "picture.jpg") is code


def test_a_gif_and_an_avif_are_not_among_the_formats(tmp_path: Path) -> None:
    Image.fromarray(EXPECTED).save(tmp_path / "picture.gif")
    assert _code(tmp_path / "picture.gif") is FailureCode.UNSUPPORTED_MEDIA


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert _code(tmp_path / "nothing") is FailureCode.MEDIUM_MISSING


def _black_png(width: int, height: int, *, rows: int) -> bytes:
    """A PNG of 1 bit per pixel that claims `height` rows and has `rows` of them."""
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    pixels = zlib.compress(bytes((width + 7) // 8 + 1) * rows, 1)
    chunks = ((b"IHDR", header), (b"IDAT", pixels), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks
    )


@pytest.mark.parametrize(("width", "height"), [(12_000, 12_000), (100_000_001, 1), (2_000_000_000, 2_000_000_000)])
def test_a_picture_that_claims_too_many_pixels_is_refused_by_its_header(
    tmp_path: Path, width: int, height: int
) -> None:
    (tmp_path / "picture.png").write_bytes(_black_png(width, height, rows=0))
    assert _code(tmp_path / "picture.png") is FailureCode.TOO_MANY_PIXELS


def test_the_limit_is_inclusive(tmp_path: Path) -> None:
    path = write_image(tmp_path / "picture.png")
    assert read_picture(path, limits=PictureLimits(pixels_max=160 * 128)).width == 160
    with pytest.raises(Failure, match="160 x 128"):
        read_picture(path, limits=PictureLimits(pixels_max=160 * 128 - 1))
    assert read_picture(path, limits=PictureLimits(side_px_max=160)).width == 160
    with pytest.raises(Failure, match="159 a side"):
        read_picture(path, limits=PictureLimits(side_px_max=159))


def test_opencv_itself_refuses_more_than_the_limit(tmp_path: Path) -> None:
    """The backstop, for a file whose size Pillow and OpenCV read differently."""
    (tmp_path / "picture.png").write_bytes(_black_png(10_001, 10_000, rows=10_000))
    script = (
        "import sys, numpy, engine.images, cv2\n"
        "try:\n    print(cv2.imdecode(numpy.fromfile(sys.argv[1], numpy.uint8), 1))\n"
        "except cv2.error as error:\n    print(error)\n"
    )
    arguments = [sys.executable, "-c", script, str(tmp_path / "picture.png")]
    environment = {**os.environ, "PYTHONPATH": "."}
    said = subprocess.run(arguments, capture_output=True, text=True, check=True, env=environment).stdout
    assert str(PIXELS_MAX) in said or "CV_IO_MAX_IMAGE_PIXELS" in said


def test_a_picture_of_heights_or_the_like_is_refused_by_its_reason(tmp_path: Path) -> None:
    Image.fromarray(np.ones((9, 9), np.float32)).save(tmp_path / "picture.tif")
    with pytest.raises(Failure, match="more than 16 bits"):
        read_picture(tmp_path / "picture.tif")


CUTTING = """
import os, sys, threading
from pathlib import Path
from contracts.failures import Failure
from engine.images import read_picture

path = Path(sys.argv[1])
content = path.read_bytes()
for delay_ms in range(0, 60, 4):
    path.write_bytes(content)
    cutter = threading.Timer(delay_ms / 1000, os.truncate, (path, 1000))
    cutter.start()
    try:
        read_picture(path)
    except Failure:
        pass
    cutter.join()
"""


def test_a_picture_that_is_cut_while_it_is_read_kills_nobody(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (2000, 2000, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "picture.jpg", quality=95)
    arguments = (sys.executable, "-c", CUTTING, str(tmp_path / "picture.jpg"))
    assert subprocess.run(arguments, check=False).returncode == 0


def test_a_picture_in_a_file_without_end_is_refused(tmp_path: Path) -> None:
    path = write_image(tmp_path / "picture.jpg")
    os.truncate(path, FILE_BYTES_MAX + 1)
    assert _code(path) is FailureCode.TOO_LARGE


def test_a_crop_is_scaled_alone() -> None:
    picture = StillPicture(EXPECTED)
    part = picture.scaled(width=20, height=20, crop=Crop(x=120, y=0, width=40, height=40))
    assert part.shape == (20, 20, 3)
    assert (part == GREEN).all()
    assert picture.scaled(width=160, height=128) is picture.rgb
    assert picture.scaled(width=80, height=64).shape == (64, 80, 3)


def test_boxes_are_drawn_where_the_detections_are(tmp_path: Path) -> None:
    seen = Detection(center_x=0.5, center_y=0.5, width=0.5, height=0.25, class_num=0, label="thing", confidence=0.9)
    drawn = draw_boxes(EXPECTED, [seen])
    assert not np.array_equal(drawn, EXPECTED)
    assert drawn[64, 40].tolist() != EXPECTED[64, 40].tolist()
    assert drawn[64, 80].tolist() == EXPECTED[64, 80].tolist()
    write_picture(tmp_path / "drawn.png", drawn)
    assert np.array_equal(read_picture(tmp_path / "drawn.png").rgb, drawn)


def test_a_png_whose_chunk_claims_4_gb_is_refused_before_they_are_taken(tmp_path: Path) -> None:
    content = bytearray(write_image(tmp_path / "a.png").read_bytes())
    content[33] = 0xE9  # the length of the chunk behind the header
    (tmp_path / "a.png").write_bytes(content)

    with pytest.raises(Failure) as failure:
        read_picture(tmp_path / "a.png")

    assert failure.value.code is FailureCode.UNREADABLE_MEDIA
    assert "a part of 39" in failure.value.detail
