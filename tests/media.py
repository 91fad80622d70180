"""Makers of test media: clips and pictures with squares of given colours at given places, in every container we read."""

import struct
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

RED = (255, 0, 0)
GREEN = (0, 255, 0)
BLUE = (0, 0, 255)
GRAY = (110, 110, 110)

Rgb = tuple[int, int, int]


class Square(msgspec.Struct, frozen=True, kw_only=True):
    """A square of one colour: its upper left corner in pixels at frame 0, and its way per frame."""

    rgb: Rgb = RED
    x: float = 16
    y: float = 16
    side: int = 32
    dx: float = 0
    dy: float = 0
    from_frame: int = 0
    until_frame: int = 1 << 30
    """The first frame that does not show it."""

    def corner(self, frame_index: int) -> tuple[int, int]:
        """Its upper left corner in whole pixels."""
        return round(self.x + self.dx * frame_index), round(self.y + self.dy * frame_index)


STATIC = (Square(),)
MOVING = (Square(dx=2, dy=1),)


class _How(NamedTuple):
    suffix: str
    format: str
    codec: str
    options: dict[str, str] = {}


_FRAGMENTS = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}


class Container(Enum):
    """How a clip is written; the value holds its suffix, muxer, codec and the muxer's options."""

    MP4_FRONT = _How("mp4", "mp4", "libx264", {"movflags": "faststart"})
    MP4_END = _How("mp4", "mp4", "libx264")
    MP4_FRAGMENTED = _How("mp4", "mp4", "libx264", _FRAGMENTS)
    MOV_END = _How("mov", "mov", "libx264")
    M4V_H265 = _How("m4v", "mp4", "libx265", {"movflags": "faststart"})
    THREE_GP = _How("3gp", "3gp", "libx264")
    MKV = _How("mkv", "matroska", "libx264")
    WEBM_VP8 = _How("webm", "webm", "libvpx")
    WEBM_VP9 = _How("webm", "webm", "libvpx-vp9")
    TS = _How("ts", "mpegts", "libx264")
    AVI_MJPEG = _How("avi", "avi", "mjpeg")
    AVI_MPEG4 = _How("avi", "avi", "mpeg4")
    FLV = _How("flv", "flv", "libx264")
    MPG = _How("mpg", "mpeg", "mpeg2video")
    WMV = _How("wmv", "asf", "wmv2")

    @property
    def suffix(self) -> str:
        """With its dot."""
        return f".{self.value.suffix}"


INDEX_LAST = (Container.MP4_END, Container.MOV_END, Container.THREE_GP)
"""Their `moov` lies behind the frames."""

_ENCODERS: dict[str, dict[str, str]] = {
    "libx264": {"preset": "ultrafast", "crf": "18"},
    "libx265": {"preset": "ultrafast", "x265-params": "log-level=none"},
    "libvpx": {"deadline": "realtime", "cpu-used": "8", "crf": "8", "b": "2000000"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "crf": "20"},
}


def draw(
    size: tuple[int, int], squares: Sequence[Square], frame_index: int = 0, *, background: Rgb = GRAY
) -> NDArray[np.uint8]:
    """uint8[H, W, 3], RGB: the squares of one frame on a plain background; `size` is (width, height)."""
    width, height = size
    picture = np.empty((height, width, 3), np.uint8)
    picture[:] = background
    for square in squares:
        if square.from_frame <= frame_index < square.until_frame:
            x, y = square.corner(frame_index)
            picture[max(y, 0) : max(y + square.side, 0), max(x, 0) : max(x + square.side, 0)] = square.rgb
    return picture


def write_video(
    path: Path,
    *,
    frames: int = 50,
    fps: int = 25,
    size: tuple[int, int] = (160, 128),
    squares: Sequence[Square] = MOVING,
    container: Container = Container.MP4_FRONT,
    gop: int = 10,
    b_frames: int = 0,
    rotation: int = 0,
    hflip: bool = False,
    audio: bool = False,
    noise: int = 0,
    pts: Callable[[int], int] = lambda index: index,
) -> Path:
    """Write a clip to `path` (its suffix is not looked at) and return it.

    rotation: degrees counter-clockwise by which a player turns it, with `hflip` then mirrored (MP4 and MOV only).
    audio: a track of silence beside it.  noise: strength of random noise, to make a clip of many bytes.
    pts: when each frame is shown, in frame periods.
    """
    how = container.value
    with av.open(str(path), "w", format=how.format, options=dict(how.options)) as out:
        stream = out.add_stream(how.codec, rate=fps, options=_ENCODERS.get(how.codec, {}))
        stream.width, stream.height = size
        stream.pix_fmt = "yuvj420p" if how.codec == "mjpeg" else "yuv420p"
        stream.gop_size = gop
        stream.max_b_frames = b_frames
        if rotation or hflip:
            stream.set_display_rotation(rotation, hflip=hflip)
        sound = _add_sound(out, _sound_codec(how)) if audio else None
        for index, picture in enumerate(_pictures(frames, size, squares, noise)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = pts(index), Fraction(1, fps)
            out.mux(stream.encode(frame))
        if sound is not None:
            _mux_silence(out, sound, seconds=frames / fps)
        out.mux(stream.encode(None))
    return path


def _sound_codec(how: _How) -> str:
    return {"webm": "libopus", "mpeg": "mp2", "avi": "mp2", "asf": "wmav2"}.get(how.format, "aac")


def _add_sound(out: av.container.OutputContainer, codec: str) -> av.AudioStream:
    sound = out.add_stream(codec, rate=48000, layout="mono")
    sound.bit_rate = 64000
    return sound


def _pictures(frames: int, size: tuple[int, int], squares: Sequence[Square], noise: int) -> Iterator[NDArray[np.uint8]]:
    random = np.random.default_rng(1)
    for index in range(frames):
        picture = draw(size, squares, index)
        if noise:
            grain = random.integers(-noise, noise + 1, picture.shape)
            picture = (picture + grain).clip(0, 255).astype(np.uint8)
        yield picture


def _mux_silence(out: av.container.OutputContainer, sound: av.AudioStream, *, seconds: float) -> None:
    samples = 960
    for start in range(0, round(seconds * 48000), samples):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, samples), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
        out.mux(sound.encode(frame))
    out.mux(sound.encode(None))


def write_audio_only(path: Path) -> Path:
    """Write an MP4 that has sound and no picture."""
    with av.open(str(path), "w", format="mp4") as out:
        _mux_silence(out, _add_sound(out, "aac"), seconds=1.0)
    return path


def write_no_frames(path: Path) -> Path:
    """Write an MP4 whose video stream has not a single frame."""
    write_video(path, frames=2, container=Container.MP4_FRAGMENTED)
    content = path.read_bytes()
    path.write_bytes(b"".join(content[box.start : box.end] for box in boxes(content) if box.type in {"ftyp", "moov"}))
    return path


def write_resolution_change(path: Path, *, frames: int = 20) -> Path:
    """Write a transport stream whose pictures change their size in the middle."""
    parts = [
        write_video(path, frames=frames, size=size, container=Container.TS).read_bytes()
        for size in ((160, 128), (96, 64))
    ]
    path.write_bytes(b"".join(parts))
    return path


class Box(NamedTuple):
    """A top-level box of an MP4."""

    type: str
    start: int
    end: int


def boxes(content: bytes) -> list[Box]:
    """The top-level boxes of an MP4 with 32 bit sizes."""
    found: list[Box] = []
    start = 0
    while start + 8 <= len(content):
        length, name = struct.unpack_from(">I4s", content, start)
        found.append(Box(name.decode("latin-1"), start, start + length))
        start += max(length, 8)
    return found


def write_image(
    path: Path,
    *,
    size: tuple[int, int] = (160, 128),
    squares: Sequence[Square] = STATIC,
    orientation: int | None = None,
    mode: str = "RGB",
    background: Rgb = GRAY,
) -> Path:
    """Write a picture in the format of the path's suffix and return the path.

    `size` and `squares` are as displayed; with an EXIF `orientation` (1..8) the stored pixels are turned so that a viewer
    that honours it shows just that.  mode: Pillow's, also `CMYK`, `L`, `LA`, `P`, `RGBA`, `1`, `I;16`.
    """
    picture = Image.fromarray(draw(size, squares, background=background))
    if orientation is not None and orientation in _TURN_BACK:
        picture = picture.transpose(_TURN_BACK[orientation])
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    _in_mode(picture, mode).save(path, exif=exif, **_QUALITY.get(path.suffix.lower(), {}))
    return path


_QUALITY = {
    ".jpg": {"quality": 95, "subsampling": 0},
    ".jpeg": {"quality": 95, "subsampling": 0},
    ".webp": {"lossless": True},
}

_TURN_BACK = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""What undoes the turn that each EXIF orientation asks of a viewer."""


def _in_mode(picture: Image.Image, mode: str) -> Image.Image:
    if mode == "I;16":
        gray = np.asarray(picture.convert("L"), np.uint16) * 257
        return Image.fromarray(gray)
    return picture if mode == "RGB" else picture.convert(mode)
