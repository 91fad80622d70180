"""A frame of a video as a picture that a detector can look at."""

import threading

import numpy as np
from av.sidedata.sidedata import SideData
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter

from engine.orientation import UPRIGHT, Size, Turn, turn_by_display_matrix
from engine.picture import Crop, Rgb


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
        """uint8[height, width, 3], RGB as displayed: scaled and converted in one pass, turned afterwards."""
        is_whole = crop is None or (crop.width, crop.height) == (self.width, self.height)
        source = self._frame if crop is None or is_whole else self._cropped(self._turn.crop(crop, displayed=self._size))
        stored = self._turn.size(Size(width, height))
        return self._turn.apply(_scaled(source, stored))

    def _cropped(self, crop: Crop) -> VideoFrame:
        """A view of the whole frame in RGB, which is converted once for all crops."""
        with self._converting:
            if self._rgb is None:
                self._rgb = _reformatted(self._frame, Size(self._frame.width, self._frame.height))
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


_scalers = threading.local()
"""One swscale context per thread: a new one for each frame costs more than small frames do, and memory in PyAV 18."""


def _reformatted(frame: VideoFrame, size: Size) -> VideoFrame:
    if not hasattr(_scalers, "reformatter"):
        _scalers.reformatter = VideoReformatter()
    reformatter: VideoReformatter = _scalers.reformatter
    return reformatter.reformat(
        frame, width=size.width, height=size.height, format="rgb24", interpolation=Interpolation.BILINEAR, threads=1
    )


def _scaled(frame: VideoFrame, size: Size) -> Rgb:
    return _pixels(_reformatted(frame, size))


def _pixels(frame: VideoFrame) -> Rgb:
    """uint8[H, W, 3]: a view of the pixels of an RGB frame, without the padding of its rows; it keeps them alive."""
    plane = frame.planes[0]
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(frame.height, plane.line_size)
    return rows[:, : frame.width * 3].reshape(frame.height, frame.width, 3)
