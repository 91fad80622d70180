"""Pictures that are files: read safely, and drawn on. The only home of OpenCV and Pillow in the engine.

A header can promise gigapixels in a few bytes, so the size is read by Pillow, which decodes nothing for it, and asked
against the limit before OpenCV allocates a byte. OpenCV then decodes to RGB, 8 bits, in the displayed orientation: it
applies EXIF itself, in JPEG, PNG, WebP and TIFF, and refuses a file that is cut.
"""

import os
import struct
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from contracts.detections import Detection
from contracts.failures import Failure, FailureCode
from engine.picture import Crop, Rgb

PIXELS_MAX = 100_000_000
"""The largest survey cameras; 300 MB while decoded, twice that while an EXIF orientation turns it."""
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF")
_PIXELS_VARIABLE = "OPENCV_IO_MAX_IMAGE_PIXELS"

os.environ.setdefault(_PIXELS_VARIABLE, str(PIXELS_MAX))  # read when OpenCV is loaded: it refuses what Pillow misread
import cv2  # noqa: E402

cv2.utils.logging.setLogLevel(
    cv2.utils.logging.LOG_LEVEL_SILENT
)  # it tells of every broken file on stderr; the failure says it
Image.MAX_IMAGE_PIXELS = None  # ours is asked instead, right after the header
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")  # odd tags of files that OpenCV judges

_HEADER_ERRORS = (OSError, ValueError, EOFError, ArithmeticError, LookupError, SyntaxError, TypeError, struct.error)
"""What Pillow's parsers raise on broken headers."""


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


def read_picture(path: Path, *, pixels_max: int = PIXELS_MAX) -> StillPicture:
    """The picture in a file: JPEG, PNG, BMP, WebP or TIFF, the first one of several, as displayed.

    Gray, CMYK, 16 bit, palette and transparent pictures become 8 bit RGB; what is transparent shows its own colour.
    Raises `Failure`: `medium_missing`, `empty_media`, `unsupported_media`, `unreadable_media`, `too_many_pixels`.
    """
    _check_header(path, pixels_max)
    content = np.memmap(path, np.uint8, "r")  # `imread` would show half of a JPEG that is cut, `imdecode` refuses it
    try:
        rgb = cv2.imdecode(content, cv2.IMREAD_COLOR_RGB)
    except cv2.error as error:
        raise Failure(FailureCode.UNREADABLE_MEDIA, f"cannot be decoded: {error.err}") from error
    if rgb is None:
        raise Failure(FailureCode.UNREADABLE_MEDIA, "cannot be decoded: broken or cut off")
    return StillPicture(np.asarray(rgb, np.uint8))


def draw_boxes(rgb: Rgb, detections: list[Detection]) -> Rgb:
    """uint8[H, W, 3]: a copy of the picture with a box and a label for each detection."""
    drawn = rgb.copy()
    height, width = rgb.shape[:2]
    thickness = max(1, round(min(width, height) / 300))
    for detection in detections:
        left = round((detection.center_x - detection.width / 2) * width)
        top = round((detection.center_y - detection.height / 2) * height)
        right = round((detection.center_x + detection.width / 2) * width)
        bottom = round((detection.center_y + detection.height / 2) * height)
        colour = _COLOURS[detection.class_num % len(_COLOURS)]
        cv2.rectangle(drawn, (left, top), (right, bottom), colour, thickness)
        label = f"{detection.label} {detection.confidence:.2f}"
        at = (left, max(top - 2 * thickness, 12 * thickness))
        cv2.putText(drawn, label, at, cv2.FONT_HERSHEY_SIMPLEX, 0.4 * thickness, colour, thickness, cv2.LINE_AA)
    return drawn


def write_picture(path: Path, rgb: Rgb) -> None:
    """Write uint8[H, W, 3] in the format of the path's suffix."""
    cv2.imwrite(str(path), cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))


_COLOURS = ((255, 80, 40), (60, 200, 60), (70, 140, 255), (255, 200, 0), (220, 80, 220), (0, 210, 210))


def _check_header(path: Path, pixels_max: int) -> None:
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
    if width * height > pixels_max:
        raise Failure(FailureCode.TOO_MANY_PIXELS, f"{width} x {height} pixels, at most {pixels_max} in all")
