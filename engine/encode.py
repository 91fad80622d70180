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
