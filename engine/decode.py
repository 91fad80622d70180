"""Frames of a video, from untrusted bytes that may still be arriving.

Only whitelisted demuxers are let in and no protocol at all, so no playlist, concat list or SDP under any name can make
FFmpeg open a second file or an address (ENGINE.md 4). Packets are decoded one by one: a damaged one is counted and
skipped, the frames after it are still seen.

What `Video.is_partial` can know. A decoder that met damage says so. Of a file that simply ends early, MP4, AVI, WMV and
MKV state their length (`engine.containers.is_cut`), a transport stream is caught only in mid-packet; a live MKV, a program
stream or a transport stream cut between two packets look whole. While a file is uploaded the edge counts the bytes, and an
upload that ends early is a failure, not a partial medium.
"""

import importlib
import math
import pkgutil
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from contracts.failures import Failure, FailureCode
from engine.containers import HEAD_BYTES, Family, family, is_cut, is_fragmented, is_index_last
from engine.reading import Progressive, Seekable, Source
from engine.video import EVERYTHING, VideoLimits, Wanted
from engine.video_frame import DecodedFrame, Turns

DEMUXERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,asf"
AVI = "avi"
"""The one of them that states no display times, only the order of decoding: what FFmpeg makes of it is out of order for H.264
with B-frames and late by a frame for MPEG-1. A decoder gives a frame for each packet, so the packets' own times are right."""
NO_PROTOCOL = "none"
"""FFmpeg reads only through our object; a name that no protocol has keeps it from opening anything by itself."""
PROBE_BYTES = 65_536
"""Looked at before the first frame; the default costs a second of a fragmented MP4 or a transport stream (STACK.md 5)."""
PADDING_PIXELS = 63 * 65_535
"""FFmpeg counts each row of a frame up to the next multiple of 64 pixels."""
DEMUX_ERRORS_MAX = 16
"""Consecutive reads of packets that may fail before the rest of a file is given up."""
CLOCK_RESET_S = 1.0
"""Times that fall by more than this start anew (a recorder was restarted); by less, they stand still."""
FALLBACK_FRAME_S = 1 / 25
"""Time between frames where the file states neither times nor a rate."""


class Video:
    """An open video. `frames` is read once, by one thread; the counters belong to the frames read so far."""

    def __init__(
        self,
        container: InputContainer,
        stream: VideoStream,
        source: Source,
        limits: VideoLimits,
    ) -> None:
        self.damaged = 0
        """Packets that could not be decoded, and frames that the decoder had to patch."""
        self.decoded = 0
        self._container = container
        self._stream = stream
        self._source = source
        self._limits = limits
        self._position_bytes = 0

    def frames(self) -> Iterator[DecodedFrame]:
        """Every frame that can be decoded, in display order.

        Raises `Failure`: `duration_limit`, and what happened to the upload; `StoppedError` when asked to stop.
        """
        timeline = _Timeline(self._stream, states_pts=self._container.format.name != AVI)
        turns = Turns()
        for frame in self._pictures():
            at_s = timeline.at_s(frame)
            self._check_limits(at_s)
            yield DecodedFrame(
                frame,
                turn=turns.of(frame),
                index=self.decoded,
                at_s=at_s,
                position_bytes=self._position_bytes,
            )
            self.decoded += 1
        self._source.raise_if_over()

    def is_partial(self) -> bool:
        """True if something was lost on the way to the last frame, as far as that can be known; asked at the end."""
        return is_partial(self._source, damaged=self.damaged)

    def _check_limits(self, at_s: float) -> None:
        limits = self._limits
        if self.decoded >= limits.frames_max:
            raise Failure(FailureCode.DURATION_LIMIT, f"more than {limits.frames_max} frames")
        if at_s > limits.duration_max_s:
            raise Failure(FailureCode.DURATION_LIMIT, f"{at_s:.0f} s of video, at most {limits.duration_max_s:.0f} s")

    def _pictures(self) -> Iterator[VideoFrame]:
        for packet in self._packets():
            if packet.pos is not None:
                self._position_bytes = packet.pos
            self.damaged += packet.is_corrupt
            try:
                frames = packet.decode()
            except MemoryError:  # FFmpeg's too: no damage of the packet
                raise
            except FFmpegError:
                self.damaged += 1
                continue
            for frame in frames:
                self.damaged += frame.is_corrupt
                yield frame

    def _packets(self) -> Iterator[Any]:
        """The stream's packets, and at the end the empty one that flushes the decoder."""
        errors = 0
        while errors < DEMUX_ERRORS_MAX:
            try:
                for packet in self._container.demux(self._stream):
                    errors = 0
                    yield packet
            except (FFmpegError, IndexError):  # PyAV's, for a packet of a stream that came up later
                errors += 1
                self.damaged += 1
            else:
                return


@contextmanager
def open_video(source: Source, *, limits: VideoLimits, wanted: Wanted = EVERYTHING) -> Generator[Video]:  # noqa: ARG001 - here pixels are had for nothing
    """The video in `source`, as soon as enough of it has arrived.

    Raises `Failure`: `empty_media`, `unsupported_media` (no container that is let in), `unreadable_media` (a broken one),
    `no_video_stream`, `too_many_pixels`, `duration_limit`, and what happened to the upload; `StoppedError`.
    """
    head = source.read_whole_at(0, HEAD_BYTES)
    source.raise_if_over()
    if not head:
        raise Failure(FailureCode.EMPTY_MEDIA, "the file has no bytes")
    kind = family(head)
    with _opened(source, kind) as container:
        stream = _video_stream(container)
        _check_header(container, stream, limits)
        stream.thread_type = "SLICE"  # frame threads hold back one frame each
        stream.codec_context.thread_count = 1
        # later ones may be larger
        stream.codec_context.options = {"max_pixels": str(limits.pixels_max + PADDING_PIXELS)}
        yield Video(container, stream, source, limits)


def must_wait_for_index(source: Source) -> bool:
    """True if the frames of the file come before its index."""
    kind = family(source.read_whole_at(0, HEAD_BYTES))
    return kind is Family.MP4 and is_index_last(source.read_whole_at)


def import_everything() -> None:
    """Import what the library would import later, for a process that will not be able to."""
    for module in pkgutil.walk_packages(av.__path__, "av."):
        if module.name not in ("av.__main__", "av.datasets"):
            importlib.import_module(module.name)


def is_partial(source: Source, *, damaged: int) -> bool:
    """True if something of a video was lost, as far as that can be known once it has ended."""
    total_bytes = source.total_bytes
    if damaged or total_bytes is None:
        return bool(damaged)
    kind = family(source.read_whole_at(0, HEAD_BYTES))
    return is_cut(kind, source.read_whole_at, size_bytes=total_bytes)


def _opened(source: Source, kind: Family | None) -> InputContainer:
    options = {
        "format_whitelist": DEMUXERS,
        "protocol_whitelist": NO_PROTOCOL,
        "probesize": str(PROBE_BYTES),
        "analyzeduration": "0",
        "fpsprobesize": "0",
    }
    try:
        return av.open(_reader(source, kind), "r", options=options, **_lenient_metadata())
    except (FFmpegError, UnicodeDecodeError) as error:
        source.raise_if_over()
        if kind is None:
            raise Failure(FailureCode.UNSUPPORTED_MEDIA, "no video container that is known here") from error
        raise Failure(FailureCode.UNREADABLE_MEDIA, f"cannot be opened as {kind}: {error}") from error


def _reader(source: Source, kind: Family | None) -> Progressive:
    """The shape of access that gives the first frame early.

    A finished file may be sought in, which lets a badly interleaved one be read in order; a fragmented MP4 never, since
    FFmpeg would walk every fragment first.
    """
    if kind is Family.MP4:
        if is_index_last(source.read_whole_at):
            return Seekable(source)
        if is_fragmented(source.read_whole_at):
            return Progressive(source)
    return Seekable(source) if source.is_complete else Progressive(source)


def _lenient_metadata() -> dict[str, Any]:
    """PyAV 18 refuses a whole file for a title in Latin-1 unless told otherwise; PyAV 19 has lost the argument."""
    return {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}  # noqa: PLR2004


def _video_stream(container: InputContainer) -> VideoStream:
    stream = container.streams.best("video")
    if not isinstance(stream, VideoStream) or stream.disposition & Disposition.attached_pic:
        kinds = ", ".join(sorted({each.type for each in container.streams})) or "nothing"
        raise Failure(FailureCode.NO_VIDEO_STREAM, f"no video stream among its streams: {kinds}")
    if stream.codec_context is None:  # pyright: ignore[reportUnnecessaryComparison] - of a codec that nobody knows
        raise Failure(FailureCode.UNREADABLE_MEDIA, "its video is of a kind that cannot be decoded here")
    return stream


def _check_header(container: InputContainer, stream: VideoStream, limits: VideoLimits) -> None:
    """Refuse what the header claims before a frame is decoded."""
    width, height = stream.codec_context.width, stream.codec_context.height
    if width * height > limits.pixels_max:
        raise Failure(FailureCode.TOO_MANY_PIXELS, f"{width} x {height} pixels, at most {limits.pixels_max} in all")
    if max(width, height) > limits.side_px_max:
        raise Failure(FailureCode.TOO_MANY_PIXELS, f"{width} x {height} pixels, at most {limits.side_px_max} a side")
    duration_s = (container.duration or 0) / 1_000_000
    if duration_s > limits.duration_max_s:
        raise Failure(FailureCode.DURATION_LIMIT, f"{duration_s:.0f} s of video, at most {limits.duration_max_s:.0f} s")


class _Timeline:
    """Times of frames: since the first one, never falling, and made up from the rate where the file has none."""

    def __init__(self, stream: VideoStream, *, states_pts: bool) -> None:
        """states_pts: whether the file says when a frame is shown; False: only when its packet is decoded."""
        self._states_pts = states_pts
        rate = float(stream.average_rate or 0)
        self._step_s = 1 / rate if math.isfinite(rate) and rate > 0 else FALLBACK_FRAME_S
        self._origin_s: float | None = None
        self._last_s: float | None = None

    def at_s(self, frame: VideoFrame) -> float:
        expected_s = 0.0 if self._last_s is None else self._last_s + self._step_s
        stated_s = _seconds(frame.pts if self._states_pts else frame.dts, frame.time_base)
        if stated_s is None:
            self._last_s = expected_s
            return expected_s
        last_s = self._last_s or 0.0
        if self._origin_s is None or stated_s - self._origin_s < last_s - CLOCK_RESET_S:
            self._origin_s = stated_s - expected_s
        self._last_s = max(stated_s - self._origin_s, last_s)
        return self._last_s


def _seconds(stamp: int | None, time_base: Fraction | None) -> float | None:
    return float(stamp * time_base) if stamp is not None and time_base else None
