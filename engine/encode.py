<<<<<<< HEAD
"""Pictures become an MP4 that starts to play before it has arrived whole (its index lies at the front)."""

from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, cast

import av
import numpy as np
from av.codec import Codec
from av.codec.codec import UnknownCodecError
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from engine.picture import Rgb

I420 = NDArray[np.uint8]
"""uint8[H * 3 / 2, W]: the planes Y, U and V of a picture with even sides, one below the other."""
Preset = Literal["ultrafast", "veryfast"]
"""x264's: the first takes half the time and three times the bytes."""
_TICK = Fraction(1, 90_000)
"""The encoder's clock, s: fine enough for any camera, so that uneven frame times survive."""
KEYFRAME_EVERY_FRAMES = 50


class VideoWriter:
    """An MP4 in the making; it is whole when the `with` block has ended."""

    def __init__(self, path: Path, *, width: int, height: int, preset: Preset = "veryfast") -> None:
        """`width` and `height` in pixels, even. Raises `OSError` if the file cannot be made."""
        codec = _codec()
        self._container = av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"})
        self._stream = cast(VideoStream, self._container.add_stream(codec, options=_quality(codec, preset)))
        self._stream.width, self._stream.height = width, height
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = _TICK
        self._stream.codec_context.gop_size = KEYFRAME_EVERY_FRAMES
        self._last_pts = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            if error is None:
                self._container.mux(self._stream.encode(None))
        finally:
            self._container.close()

    def write_planes(self, planes: I420, *, at_s: float) -> None:
        """Append a picture, shown from `at_s` after the first one on."""
        self._write(av.VideoFrame.from_ndarray(planes, format="yuv420p"), at_s)

    def write(self, picture: Rgb, *, at_s: float) -> None:
        """The same of a picture in RGB."""
        self._write(av.VideoFrame.from_ndarray(picture, format="rgb24"), at_s)

    def _write(self, frame: VideoFrame, at_s: float) -> None:
        self._last_pts = frame.pts = max(round(at_s / _TICK), self._last_pts + 1)  # the muxer wants it to rise
        frame.time_base = _TICK
        self._container.mux(self._stream.encode(frame))


def _codec() -> str:
    """H.264 where this build of FFmpeg has it, else MPEG-4 part 2."""
    try:
        return Codec("libx264", "w").name
    except UnknownCodecError:
        return "mpeg4"


def _quality(codec: str, preset: Preset) -> dict[str, str]:
    return {"preset": preset, "crf": "23"} if codec == "libx264" else {"qscale": "4"}
=======
"""A video with what was seen in it drawn into its frames."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
from av.video.frame import VideoFrame

from contracts.detections import Detection
from engine.account import FrameReport
from engine.decode import VideoLimits, open_video
from engine.growing_file import GrowingFile, MediumFile
from engine.images import draw_boxes
from engine.orientation import Size
from engine.video_frame import DecodedFrame

SHOWN_S = 0.5
"""Boxes stay this long when no newer report replaces them."""
_MILLISECOND = Fraction(1, 1000)


def write_annotated_video(
    medium: MediumFile, path: Path, reports: Iterable[FrameReport], *, shown_s: float = SHOWN_S
) -> int:
    """Decode the video again, draw each report into its frames, and write an MP4; returns its number of frames.

    reports: in the order of their frames, as `watch_video` gave them. Upright, in the size of the first frame, at the times
    of the original. Raises `Failure` as `open_video`.
    """
    boxes = _Boxes(reports, shown_s)
    with GrowingFile(medium) as source, open_video(source, limits=VideoLimits()) as video:
        frames = video.frames()
        first = next(frames, None)
        if first is None:
            return 0
        size = Size(first.width - first.width % 2, first.height - first.height % 2)  # 4:2:0 knows no odd sizes
        with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as out:
            stream = out.add_stream("libx264", options={"preset": "veryfast", "crf": "23"})
            stream.width, stream.height, stream.pix_fmt = size.width, size.height, "yuv420p"
            stream.codec_context.time_base = _MILLISECOND
            for frame in _chained(first, frames):
                out.mux(stream.encode(_drawn(frame, size, boxes.at(frame))))
            out.mux(stream.encode(None))
        return video.decoded


class _Boxes:
    """Which detections a frame shows: those of the last report up to it, unless that is long ago."""

    def __init__(self, reports: Iterable[FrameReport], shown_s: float) -> None:
        self._reports = iter(reports)
        self._shown_s = shown_s
        self._current: FrameReport | None = None
        self._next = next(self._reports, None)

    def at(self, frame: DecodedFrame) -> list[Detection]:
        while self._next is not None and self._next.frame_index <= frame.index:
            self._current, self._next = self._next, next(self._reports, None)
        if self._current is None or frame.at_s - self._current.at_s > self._shown_s:
            return []
        return self._current.detections


def _chained(first: DecodedFrame, rest: Iterator[DecodedFrame]) -> Iterator[DecodedFrame]:
    yield first
    yield from rest


def _drawn(frame: DecodedFrame, size: Size, detections: list[Detection]) -> VideoFrame:
    rgb = frame.scaled(width=size.width, height=size.height)
    drawn = VideoFrame.from_ndarray(draw_boxes(rgb, detections) if detections else rgb, format="rgb24")
    drawn.time_base = _MILLISECOND
    drawn.pts = round(frame.at_s * 1000)
    return drawn
>>>>>>> engine-media
