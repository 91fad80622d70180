"""The clips of the benchmarks: the rendered street in every container, a photo of it, and clips of any size.

All of them are made by copying packets, so their frames are the same and making them takes seconds.
"""

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import msgspec
import numpy as np
from av.container import OutputContainer

from detections.street import Street, write_clip
from engine.decode import Video, open_video
from engine.growing_file import GrowingFile, MediumFile
from engine.video import VideoLimits

CONTAINERS: dict[str, dict[str, str]] = {
    "faststart.mp4": {"movflags": "faststart"},
    "moov-last.mp4": {},
    "fragmented.mp4": {"movflags": "frag_keyframe+empty_moov+default_base_moof"},
    "street.mkv": {},
    "street.ts": {},
    "street.webm": {},
}
_MUXERS = {"mp4": "mp4", "mkv": "matroska", "ts": "mpegts", "webm": "webm"}
TINY_SECONDS = 10
_NOISY_SECONDS = 4
_NOISY_SIZE = (1280, 720)


class Clip(msgspec.Struct, frozen=True):
    path: Path
    first_frame_bytes: int
    """From the start of the file to the end of its first key frame, the header included."""

    @property
    def name(self) -> str:
        return self.path.name


def make_clip(folder: Path, name: str, *, seconds: float = 12) -> Clip:
    """The street in the container that `name` says; WebM is encoded as VP8, the others are copies of one H.264 stream."""
    street = folder / "original.mp4"
    if not street.exists():
        write_clip(street, seconds=seconds)
    path = folder / name
    if name.endswith(".webm"):
        _encode_vp8(street, path)
    else:
        _remux([street], path, CONTAINERS[name])
    return Clip(path, _first_frame_end(path))


def shortened(path: Path, target: Path, *, seconds: float) -> Path:
    """The first seconds of a video, as MP4: a copy of its packets."""
    with av.open(str(path)) as source, av.open(str(target), "w", format="mp4") as out:
        video = source.streams.video[0]
        stream = out.add_stream_from_template(video)
        for packet in source.demux(video):
            if packet.dts is None or (packet.pts is not None and packet.pts * (video.time_base or 0) > seconds):
                break
            packet.stream = stream
            out.mux(packet)
    return target


def write_photo(path: Path) -> Path:
    """One picture of the street, as JPEG."""
    import cv2

    cv2.imwrite(str(path), Street().picture(0))
    return path


def write_long_clip(path: Path, size_bytes: int) -> Path:
    """A 1280x720 clip of about `size_bytes`: four seconds of noise, about 10 MB each second, repeated."""
    noisy = path.with_name("noisy.mkv")
    if not noisy.exists():
        _encode_noise(noisy)
    _remux([noisy] * max(1, round(size_bytes / noisy.stat().st_size)), path, {})
    return path


def write_tiny_clip(path: Path, *, minutes: float) -> Path:
    """64x48 at 25 fps, MKV: ten seconds with a cut in the middle, repeated."""
    tiny = path.with_name("tiny.mkv")
    if not tiny.exists():
        _encode_tiny(tiny)
    _remux([tiny] * max(1, round(minutes * 60 / TINY_SECONDS)), path, {})
    return path


@contextlib.contextmanager
def opened_video(path: Path) -> Iterator[Video]:
    """The engine's decoder on a finished file."""
    with GrowingFile(MediumFile(path=path, extent=None)) as source, open_video(source, limits=VideoLimits()) as video:
        yield video


def _remux(sources: list[Path], path: Path, options: dict[str, str]) -> None:
    """The packets of the sources one after the other."""
    with (
        av.open(str(sources[0])) as first,
        av.open(str(path), "w", format=_MUXERS[path.suffix[1:]], options=options) as out,
    ):
        stream = out.add_stream_from_template(first.streams.video[0])
        start = 0.0
        for source in sources:
            start = _copy_packets(source, out, stream, start)


def _copy_packets(source: Path, out: OutputContainer, stream: object, start_s: float) -> float:
    with av.open(str(source)) as container:
        video = container.streams.video[0]
        base = video.time_base or Fraction(1, 1000)
        end_s = start_s
        for packet in container.demux(video):
            if packet.dts is None or packet.pts is None:
                continue
            shift = round(start_s / base)
            packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
            end_s = max(end_s, float((packet.pts + (packet.duration or 0)) * base))
            packet.stream = stream  # type: ignore[assignment]
            out.mux(packet)
    return end_s


def _encode_vp8(source: Path, path: Path) -> None:
    with av.open(str(source)) as container, av.open(str(path), "w", format="webm") as out:
        video = container.streams.video[0]
        stream = out.add_stream("libvpx", rate=25, options={"deadline": "realtime", "cpu-used": "8"})
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = video.width, video.height, "yuv420p", 3_000_000
        for frame in container.decode(video):
            frame.pts, frame.time_base = round((frame.time or 0) * 25), Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def _encode_noise(path: Path) -> None:
    width, height = _NOISY_SIZE
    with av.open(str(path), "w", format="matroska") as out:
        stream = out.add_stream("libx264", rate=25, options={"preset": "ultrafast", "crf": "18"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.gop_size = 25
        for index, planes in enumerate(_noise(width, height)):
            frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def _encode_tiny(path: Path) -> None:
    with av.open(str(path), "w", format="matroska") as out:
        stream = out.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(TINY_SECONDS * 25):
            shade = 40 if index < TINY_SECONDS * 12 else 200
            frame = av.VideoFrame.from_ndarray(np.full((72, 64), shade, np.uint8), format="yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def _noise(width: int, height: int) -> Iterator[np.ndarray]:
    random = np.random.default_rng(1)
    for _ in range(_NOISY_SECONDS * 25):
        yield random.integers(64, 192, (height * 3 // 2, width), np.uint8)


def _first_frame_end(path: Path) -> int:
    """Where the first key frame's packet ends; a TS packet's position is that of its first 188 bytes."""
    with av.open(str(path)) as container:
        for packet in container.demux(video=0):
            if packet.is_keyframe and packet.pos is not None:
                return packet.pos + packet.size
    raise ValueError(f"no key frame in {path}")
