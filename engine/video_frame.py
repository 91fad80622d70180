"""A frame of a video as a picture that a detector can look at."""

import threading
from typing import Protocol

import numpy as np
from av.sidedata.sidedata import SideData
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from engine.orientation import UPRIGHT, Size, Turn, turn_by_display_matrix
from engine.picture import Crop, Rgb

PLANES = "gbrp"
COMMON_FORMATS = ("yuv420p", "yuvj420p")
_PLANES_WIDTH_MULTIPLE = 16
"""Of widths like 40 swscale leaves the last 8 columns of planes as they were in memory (seen with libswscale 9.5)."""


class StoredPixels(Protocol):
    """The pixels of a frame as they are stored."""

    @property
    def width(self) -> int: ...

    @property
    def height(self) -> int: ...

    def scaled(self, size: Size, crop: Crop | None) -> Rgb:
        """uint8[H, W, 3] of that stored size: the picture, or a part of it."""
        ...


class DecodedFrame:
    """A frame of a video; it implements `engine.picture.Picture`. Its tiles may be asked for by several threads at once."""

    def __init__(
        self, pixels: VideoFrame | StoredPixels, *, turn: Turn, index: int, at_s: float, position_bytes: int
    ) -> None:
        self.pixels = DecoderPixels(pixels) if isinstance(pixels, VideoFrame) else pixels
        self.turn = turn
        self.index = index
        self.at_s = at_s
        """Seconds since the stream's first frame, never less than that of the frame before."""
        self.position_bytes = position_bytes
        """Where in the file the packet began that completed it."""
        self._size = self.turn.size(Size(self.pixels.width, self.pixels.height))

    @property
    def width(self) -> int:
        return self._size.width

    @property
    def height(self) -> int:
        return self._size.height

    def scaled(self, *, width: int, height: int, crop: Crop | None = None) -> Rgb:
        """uint8[height, width, 3], RGB as displayed: scaled before it is turned."""
        is_whole = crop is None or (crop.width, crop.height) == (self.width, self.height)
        part = None if crop is None or is_whole else self.turn.crop(crop, displayed=self._size)
        shown = self.pixels.scaled(self.turn.size(Size(width, height)), part)
        return shown if self.turn == UPRIGHT else self.turn.apply(shown)


class DecoderPixels:
    """Pixels as a decoder gives them, or as something else has laid them down for it."""

    def __init__(self, frame: VideoFrame) -> None:
        self.frame = frame
        self._rgb: VideoFrame | None = None
        self._converting = threading.Lock()

    @property
    def width(self) -> int:
        return self.frame.width

    @property
    def height(self) -> int:
        return self.frame.height

    def scaled(self, size: Size, crop: Crop | None) -> Rgb:
        """uint8[H, W, 3] of that size."""
        return rgb_of(scaled_frame(self.frame if crop is None else self._cropped(crop), size))

    def _cropped(self, crop: Crop) -> VideoFrame:
        """A view of the whole frame in RGB, which is converted once for all crops."""
        with self._converting:
            if self._rgb is None:
                self._rgb = rgb_frame(self.frame)
        whole = pixels_of(self._rgb)
        part = whole[crop.y : crop.y + crop.height, crop.x : crop.x + crop.width]
        return VideoFrame.from_numpy_buffer(part, format="rgb24")


class Turns:
    """The turn of each frame, asked for only when it may have changed.

    Looking at a frame's side data ties the frame into a reference cycle: its pixels would stay until the garbage collector
    comes by, which for 8K is gigabytes.
    """

    def __init__(self) -> None:
        self._turn = UPRIGHT
        self._looked_at: tuple[int, int, int] | None = None

    def of(self, frame: VideoFrame) -> Turn:
        look = (frame.width, frame.height, frame.rotation)
        if look != self._looked_at:
            self._looked_at = look
            matrix = frame.side_data.get("DISPLAYMATRIX")
            self._turn = UPRIGHT if matrix is None else turn_by_display_matrix(_integers(matrix))
        return self._turn


def _integers(matrix: SideData) -> list[int]:
    return np.frombuffer(memoryview(matrix), np.int32).tolist()


class _Scalers(threading.local):
    """swscale contexts of one thread, one for each step: a new one for each frame costs more than small frames do."""

    def __init__(self) -> None:
        self.shrinking = VideoReformatter()
        self.converting = VideoReformatter()


_scalers = _Scalers()


def scaled_frame(frame: VideoFrame, size: Size) -> VideoFrame:
    """Shrunk as it is stored, then converted: for 1080p to 640 in 0.3 of the time of both at once (0.8 for 2.5 ms).

    swscale brings the colours of common video (8 bit 4:2:0) up to the size of its brightness before it shrinks both. What
    the detour loses is colour finer than two pixels of the result. The planes (gbrp) come as a model wants them.
    """
    if not _can_be_shrunk_as_stored(frame, size):
        return _reformatted(_scalers.converting, frame, size, "rgb24")
    small = _reformatted(_scalers.shrinking, frame, size, frame.format.name)
    is_odd = size.width % _PLANES_WIDTH_MULTIPLE
    return _reformatted(_scalers.converting, small, size, "rgb24" if is_odd else PLANES)


def rgb_frame(frame: VideoFrame) -> VideoFrame:
    """The whole frame, converted."""
    return _reformatted(_scalers.converting, frame, Size(frame.width, frame.height), "rgb24")


def rgb_of(frame: VideoFrame) -> Rgb:
    """uint8[H, W, 3] of a frame in RGB, be it rows or planes."""
    if frame.format.name != PLANES:
        return pixels_of(frame)
    planes = np.empty((3, frame.height, frame.width), np.uint8)
    copy_planes(frame, planes)
    return planes.transpose(1, 2, 0)


def _can_be_shrunk_as_stored(frame: VideoFrame, size: Size) -> bool:
    return frame.format.name in COMMON_FORMATS and size.width < frame.width and size.height < frame.height


def _reformatted(reformatter: VideoReformatter, frame: VideoFrame, size: Size, pixel_format: str) -> VideoFrame:
    """Averaged over areas where it shrinks, bilinear where it grows: swscale's AREA does both."""
    return reformatter.reformat(
        frame, width=size.width, height=size.height, format=pixel_format, interpolation=Interpolation.AREA, threads=1
    )


def copy_planes(frame: VideoFrame, planes: NDArray[np.uint8]) -> None:
    """Write a frame of planes, which are stored green, blue, red. planes: uint8[3, H, W], red, green, blue."""
    for to, plane in zip((1, 2, 0), frame.planes, strict=True):
        planes[to] = rows_of(plane, frame.height)[:, : frame.width]


def pixels_of(frame: VideoFrame) -> Rgb:
    """uint8[H, W, 3]: a view of the pixels of an RGB frame, without the padding of its rows; it keeps them alive."""
    rows = rows_of(frame.planes[0], frame.height)
    return rows[:, : frame.width * 3].reshape(frame.height, frame.width, 3)


def rows_of(plane: VideoPlane, height: int) -> NDArray[np.uint8]:
    """uint8[H, bytes of a row with its padding], a view."""
    return np.frombuffer(memoryview(plane), np.uint8).reshape(height, plane.line_size)
