"""A frame of a video as a picture that a detector can look at."""

import threading

import numpy as np
from av.sidedata.sidedata import SideData
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from engine.orientation import UPRIGHT, Size, Turn, turn_by_display_matrix
from engine.picture import Crop, Rgb

_COMMON_FORMATS = ("yuv420p", "yuvj420p")


class DecodedFrame:
    """A frame of a video; it implements `engine.picture.Picture`. Its tiles may be asked for by several threads at once."""

    def __init__(self, frame: VideoFrame, *, turn: Turn, index: int, at_s: float, position_bytes: int) -> None:
        self.index = index
        self.at_s = at_s
        """Seconds since the stream's first frame, never less than that of the frame before."""
        self.position_bytes = position_bytes
        """Where in the file the packet began that completed it."""
        self._frame = frame
        self._turn = turn
        self._size = self._turn.size(Size(frame.width, frame.height))
        self._rgb: VideoFrame | None = None
        self._converting = threading.Lock()

    @property
    def width(self) -> int:
        return self._size.width

    @property
    def height(self) -> int:
        return self._size.height

    def scaled(self, *, width: int, height: int, crop: Crop | None = None) -> Rgb:
        """uint8[height, width, 3], RGB as displayed: scaled before it is turned."""
        is_whole = crop is None or (crop.width, crop.height) == (self.width, self.height)
        source = self._frame if crop is None or is_whole else self._cropped(self._turn.crop(crop, displayed=self._size))
        stored = self._turn.size(Size(width, height))
        shown = _scaled(source, stored)
        return shown if self._turn == UPRIGHT else self._turn.apply(shown)

    def _cropped(self, crop: Crop) -> VideoFrame:
        """A view of the whole frame in RGB, which is converted once for all crops."""
        whole_size = Size(self._frame.width, self._frame.height)
        with self._converting:
            if self._rgb is None:
                self._rgb = _reformatted(_scalers.converting, self._frame, whole_size, "rgb24")
        whole = _pixels(self._rgb)
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


def _scaled(frame: VideoFrame, size: Size) -> Rgb:
    """Shrunk as it is stored, then converted: for 1080p to 640 in 0.3 of the time of both at once (0.8 for 2.5 ms).

    swscale brings the colours of common video (8 bit 4:2:0) up to the size of its brightness before it shrinks both. What
    the detour loses is colour finer than two pixels of the result. The planes come as a model wants them.
    """
    if not _can_be_shrunk_as_stored(frame, size):
        return _pixels(_reformatted(_scalers.converting, frame, size, "rgb24"))
    small = _reformatted(_scalers.shrinking, frame, size, frame.format.name)
    return _planes(_reformatted(_scalers.converting, small, size, "gbrp")).transpose(1, 2, 0)


def _can_be_shrunk_as_stored(frame: VideoFrame, size: Size) -> bool:
    return frame.format.name in _COMMON_FORMATS and size.width < frame.width and size.height < frame.height


def _reformatted(reformatter: VideoReformatter, frame: VideoFrame, size: Size, pixel_format: str) -> VideoFrame:
    """Averaged over areas where it shrinks, bilinear where it grows: swscale's AREA does both."""
    return reformatter.reformat(
        frame, width=size.width, height=size.height, format=pixel_format, interpolation=Interpolation.AREA, threads=1
    )


def _planes(frame: VideoFrame) -> NDArray[np.uint8]:
    """uint8[3, H, W] of a frame of planes in the order green, blue, red."""
    planes = np.empty((3, frame.height, frame.width), np.uint8)
    for to, plane in zip((1, 2, 0), frame.planes, strict=True):
        planes[to] = _rows(plane, frame.height)[:, : frame.width]
    return planes


def _pixels(frame: VideoFrame) -> Rgb:
    """uint8[H, W, 3]: a view of the pixels of an RGB frame, without the padding of its rows; it keeps them alive."""
    rows = _rows(frame.planes[0], frame.height)
    return rows[:, : frame.width * 3].reshape(frame.height, frame.width, 3)


def _rows(plane: VideoPlane, height: int) -> NDArray[np.uint8]:
    """uint8[H, bytes of a row with its padding], a view."""
    return np.frombuffer(memoryview(plane), np.uint8).reshape(height, plane.line_size)
