"""Pictures that are files, read safely. The only home of Pillow in the engine.

A header can promise gigapixels in a few bytes, so the size is read by Pillow, which decodes nothing for it, and asked
against the limit before OpenCV allocates a byte. OpenCV then decodes to RGB, 8 bits, in the displayed orientation: it
applies EXIF itself, in JPEG, PNG, WebP and TIFF, and refuses a file that is cut.
"""

import os
import struct
import warnings
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from contracts.failures import Failure, FailureCode
from engine.picture import Crop, Picture, Rgb, check_size

PIXELS_MAX = 100_000_000
"""The largest survey cameras; 300 MB while decoded, twice that while an EXIF orientation turns it."""
JPEG_QUALITY = 85
PACKED_QUALITY = 95
"""Of a JPEG that is made smaller and encoded once more."""
PACKED_SIDE_PX_MAX = 1920
"""A packed picture has a megabyte at most."""
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF")
FILE_BYTES_MAX = 640 << 20
"""Of a picture, which is read whole: the largest that is let in has 600 MB without compression, in 16 bits."""
CHUNKS_MAX = 1_000_000
"""Parts of a PNG; encoders make one of every 8 kB or more."""
_PNG = b"\x89PNG\r\n\x1a\n"
_CHUNK = struct.Struct(">I4s")
_CHECKSUM_BYTES = 4
_PIXELS_VARIABLE = "OPENCV_IO_MAX_IMAGE_PIXELS"

os.environ.setdefault(_PIXELS_VARIABLE, str(PIXELS_MAX))  # read when OpenCV is loaded: it refuses what Pillow misread
import cv2  # noqa: E402

# it tells of every broken file on stderr; the failure says it
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
Image.MAX_IMAGE_PIXELS = None  # ours is asked instead, right after the header
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")  # odd tags of files that OpenCV judges

_HEADER_ERRORS = (OSError, ValueError, EOFError, ArithmeticError, LookupError, SyntaxError, TypeError, struct.error)
"""What Pillow's parsers raise on broken headers."""


class PictureLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What a picture may claim."""

    pixels_max: int = PIXELS_MAX
    """Not more than `PIXELS_MAX`: OpenCV is told that once for all."""
    side_px_max: int = 32_768


DEFAULT_LIMITS = PictureLimits()


class StillPicture:
    """A decoded picture; it implements `engine.picture.Picture`."""

    def __init__(self, rgb: Rgb) -> None:
        """rgb: uint8[H, W, 3] as displayed."""
        self.rgb = rgb

    @property
    def width(self) -> int:
        return self.rgb.shape[1]

    @property
    def height(self) -> int:
        return self.rgb.shape[0]

    def scaled(self, *, width: int, height: int, crop: Crop | None = None) -> Rgb:
        """uint8[height, width, 3], RGB, bilinear; the caller does not write into it."""
        part = self.rgb
        if crop is not None:
            part = part[crop.y : crop.y + crop.height, crop.x : crop.x + crop.width]
        if part.shape[:2] == (height, width):
            return part
        return np.asarray(cv2.resize(part, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


class PackedPicture:
    """A picture kept as a JPEG, for where many wait; it implements `engine.picture.Picture`."""

    def __init__(self, picture: Picture) -> None:
        rgb = _shrunk(picture, side_px_max=PACKED_SIDE_PX_MAX)
        self.height, self.width = rgb.shape[:2]
        self._jpeg = _encoded(rgb, quality=PACKED_QUALITY)

    def scaled(self, *, width: int, height: int, crop: Crop | None = None) -> Rgb:
        """uint8[height, width, 3], RGB, bilinear."""
        rgb = np.asarray(cv2.imdecode(self._jpeg, cv2.IMREAD_COLOR_RGB), np.uint8)
        return StillPicture(rgb).scaled(width=width, height=height, crop=crop)


def read_picture(path: Path, *, limits: PictureLimits = DEFAULT_LIMITS) -> StillPicture:
    """The picture in a file: JPEG, PNG, BMP, WebP or TIFF, the first one of several, as displayed.

    Gray, CMYK, 16 bit, palette and transparent pictures become 8 bit RGB; what is transparent shows its own colour,
    in a TIFF faded to black.
    Raises `Failure`: `medium_missing`, `empty_media`, `unsupported_media`, `unreadable_media`, `too_large`,
    `too_many_pixels`.
    """
    _check_header(path, limits)
    content = _content(path)  # `imread` would show half of a JPEG that is cut, `imdecode` refuses it
    if content[: len(_PNG)].tobytes() == _PNG:
        _check_chunks(content.data)
    try:
        rgb = cv2.imdecode(content, cv2.IMREAD_COLOR_RGB)
    except cv2.error as error:
        raise Failure(FailureCode.UNREADABLE_MEDIA, f"cannot be decoded: {error.err}") from error
    if rgb is None:
        raise Failure(FailureCode.UNREADABLE_MEDIA, "cannot be decoded: broken, cut off, or of more than 16 bits")
    return StillPicture(np.asarray(rgb, np.uint8))


def jpeg(picture: Picture, *, side_px_max: int) -> bytes:
    """The picture as a JPEG, made smaller if one of its sides is longer than that."""
    return _encoded(_shrunk(picture, side_px_max=side_px_max), quality=JPEG_QUALITY).tobytes()


def _shrunk(picture: Picture, *, side_px_max: int) -> Rgb:
    scale = min(1.0, side_px_max / max(picture.width, picture.height))
    width, height = (max(1, round(side * scale)) for side in (picture.width, picture.height))
    return picture.scaled(width=width, height=height)


def _encoded(rgb: Rgb, *, quality: int) -> NDArray[np.uint8]:
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), (cv2.IMWRITE_JPEG_QUALITY, quality))
    return np.asarray(encoded, np.uint8)


def _check_header(path: Path, limits: PictureLimits) -> None:
    try:
        if path.stat().st_size == 0:
            raise Failure(FailureCode.EMPTY_MEDIA, "the file has no bytes")
    except OSError as error:
        raise Failure(FailureCode.MEDIUM_MISSING, f"{path.name}: {error.strerror}") from error
    try:
        with Image.open(path, formats=FORMATS) as image:
            width, height = image.size
    except UnidentifiedImageError as error:
        raise Failure(
            FailureCode.UNSUPPORTED_MEDIA, f"no picture in a format known here: {', '.join(FORMATS)}"
        ) from error
    except _HEADER_ERRORS as error:
        raise Failure(FailureCode.UNREADABLE_MEDIA, f"broken header: {error}") from error
    check_size(width, height, pixels_max=limits.pixels_max, side_px_max=limits.side_px_max)


def _content(path: Path) -> NDArray[np.uint8]:
    """uint8[bytes]: the file, read and not mapped: one that is rewritten meanwhile, or on a defect disk, would kill us."""
    try:
        size_bytes = path.stat().st_size
        if size_bytes > FILE_BYTES_MAX:
            raise Failure(FailureCode.TOO_LARGE, f"a picture of {size_bytes} bytes, at most {FILE_BYTES_MAX}")
        return np.fromfile(path, np.uint8, size_bytes)
    except OSError as error:
        raise Failure(FailureCode.MEDIUM_MISSING, f"{path.name}: {error.strerror}") from error


def _check_chunks(content: memoryview) -> None:
    """Refuse a PNG with a chunk that is longer than the file: OpenCV takes as much memory as it claims, up to 4 GB."""
    at = len(_PNG)
    for _ in range(CHUNKS_MAX):
        if at + _CHUNK.size > len(content):
            return  # cut between two chunks, which OpenCV sees
        length, kind = _CHUNK.unpack_from(content, at)
        if length > len(content) - at:
            raise Failure(FailureCode.UNREADABLE_MEDIA, f"a part of {length} bytes in a file of {len(content)}")
        if kind == b"IEND":
            return
        at += _CHUNK.size + length + _CHECKSUM_BYTES
    raise Failure(FailureCode.UNREADABLE_MEDIA, f"more than {CHUNKS_MAX} parts")
