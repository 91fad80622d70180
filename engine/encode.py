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
        path.touch()  # FFmpeg makes it at the first picture, and would not name it
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
