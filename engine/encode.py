"""Pictures become an MP4 that starts to play before it has arrived whole (its index lies at the front)."""

from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, cast

import av
import numpy as np
from av.codec import Codec
from av.codec.codec import UnknownCodecError
from av.video.stream import VideoStream
from numpy.typing import NDArray

I420 = NDArray[np.uint8]
"""uint8[H * 3 / 2, W]: the planes Y, U and V of a picture with even sides, one below the other."""
KEYFRAME_EVERY_S = 2
Preset = Literal["ultrafast", "veryfast"]
"""x264's: the first takes half the time and three times the bytes."""


class VideoWriter:
    """An MP4 in the making; it is whole when the `with` block has ended."""

    def __init__(
        self, path: Path, *, width: int, height: int, frames_per_s: Fraction, preset: Preset = "veryfast"
    ) -> None:
        """`width` and `height` in pixels, even. Raises `OSError` if the file cannot be made."""
        codec = _codec()
        self._container = av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"})
        stream = self._container.add_stream(codec, rate=frames_per_s, options=_quality(codec, preset))
        self._stream = cast(VideoStream, stream)
        self._stream.width, self._stream.height = width, height
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.gop_size = round(frames_per_s * KEYFRAME_EVERY_S)
        self._frames = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            if error is None:
                self._container.mux(self._stream.encode(None))
        finally:
            self._container.close()

    def write(self, picture: I420) -> None:
        """Append a picture."""
        frame = av.VideoFrame.from_ndarray(picture, format="yuv420p")
        frame.pts = self._frames
        self._frames += 1
        self._container.mux(self._stream.encode(frame))


def _codec() -> str:
    """H.264 where this build of FFmpeg has it, else MPEG-4 part 2."""
    try:
        return Codec("libx264", "w").name
    except UnknownCodecError:
        return "mpeg4"


def _quality(codec: str, preset: Preset) -> dict[str, str]:
    return {"preset": preset, "crf": "23"} if codec == "libx264" else {"qscale": "4"}
