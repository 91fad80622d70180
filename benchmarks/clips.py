"""The clips of the benchmarks: the rendered street in every container, and one of any size by repeating packets."""

from fractions import Fraction
from pathlib import Path

import av
import msgspec

from detections.street import write_street

CONTAINERS = ("faststart.mp4", "moov-last.mp4", "fragmented.mp4", "street.mkv", "street.ts")
_MUXERS = {"mkv": "matroska", "ts": "mpegts", "mp4": "mp4"}
_FLAGS = {"faststart.mp4": "faststart", "fragmented.mp4": "frag_keyframe+empty_moov+default_base_moof"}


class Clip(msgspec.Struct, frozen=True):
    name: str
    path: Path
    first_frame_bytes: int
    """From the start of the file to the end of the first key frame; the header lies before it."""
