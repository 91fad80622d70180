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
import itertools
import pkgutil
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from contracts.failures import Failure, FailureCode
from engine.containers import HEAD_BYTES, Family, family, is_cut, is_fragmented, is_index_last
from engine.picture import check_size
from engine.reading import Progressive, Seekable, Source
from engine.timeline import Timeline
from engine.video import EVERYTHING, VideoLimits, Wanted
from engine.video_frame import DecodedFrame, Turns

DEMUXERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,asf"
AVI = "avi"
"""It states no display times, only the order of decoding: what FFmpeg makes of it is out of order for H.264 with B-frames and
late by a frame for MPEG-1. A decoder gives a frame for each packet, so the packets' own times are right."""
NO_PROTOCOL = "none"
"""FFmpeg reads only through our object; a name that no protocol has keeps it from opening anything by itself."""
PROBE_BYTES = 65_536
"""Looked at before the first frame; the default costs a second of a fragmented MP4 or a transport stream (STACK.md 5)."""
LATE_PROBE_BYTES, LATE_PROBE_S = 5_000_000, 3600
"""Looked at where nothing told of a video before: sound alone goes on for long, and a recording of 20 Mbit/s that begins in
mid-broadcast comes to its first list of streams behind 250 kB."""
LATE_DEMUXERS = ("mpegts", "mpeg", "flv")
"""Of files whose streams come up in mid-file."""
MPEG = ("mpegts", "mpeg")
"""They state no length: FFmpeg guesses it from the last times, and is a day off where a clock was set back on the way."""
MPEG_CLOCK_S = (1 << 33) / 90_000
"""Then it begins again at 0. FFmpeg adds so much to times that lie behind the first one, be that the reason or another."""
PADDING_PIXELS = 63 * 65_535
"""FFmpeg counts each row of a frame up to the next multiple of 64 pixels."""
DEMUX_ERRORS_MAX = 16
"""Consecutive reads of packets that may fail before the rest of a file is given up."""


class Video:
    """An open video. `frames` is read once, by one thread; the counters belong to the frames read so far."""

    def __init__(
        self,
        container: InputContainer,
        stream: VideoStream,
        source: Source,
        limits: VideoLimits,
        *,
        may_seek: bool,
    ) -> None:
        """may_seek: whether the container may go anywhere in the file, or reads it once from its start."""
        self.damaged = 0
        """Packets that could not be decoded, and frames that the decoder had to patch."""
        self.decoded = 0
        self._container = container
        self._stream = stream
        self._source = source
        self._limits = limits
        self._position_bytes = 0
        self._may_seek = may_seek
        self._is_given_up = False

    def frames(self) -> Iterator[DecodedFrame]:
        """Every frame that can be decoded, in display order.

        Raises `Failure`: `duration_limit`, and what happened to the upload; `StoppedError` when asked to stop.
        """
        clock_s = MPEG_CLOCK_S if self._container.format.name in MPEG else None
        timeline = Timeline(float(self._stream.average_rate or 0), clock_s=clock_s)
        turns = Turns()
        for frame in self._pictures():
            at_s = timeline.at_s(self._stated_s(frame))
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

    def _stated_s(self, frame: VideoFrame) -> float | None:
        """When the file says that the frame is shown."""
        stamp = frame.dts if self._container.format.name == AVI else frame.pts
        unit = frame.time_base
        return stamp * unit.numerator / unit.denominator if stamp is not None and unit else None

    def _pictures(self) -> Iterator[VideoFrame]:
        """The pictures in display order, read once from the start as far as that goes."""
        yield from self._decoded_from(self._container, self._stream)
        if not self._is_given_up:
            return
        self._source.raise_if_over()
        if not self._needs_seeking():
            yield from self._held_back()
            return
        self.damaged = 0
        with _opened(self._source, Seekable(self._source), Family.MP4) as container:
            pictures = self._decoded_from(container, _ready_stream(container, self._limits))
            yield from itertools.islice(pictures, self.decoded, None)

    def _needs_seeking(self) -> bool:
        """True if an MP4 shows its frames in another order than it stores them (an edit list may say so), or again.

        Such a file cannot be read while it arrives: behind the last frame that can, each read fails at once.
        """
        if self._may_seek or self.damaged != DEMUX_ERRORS_MAX:
            return False
        size_bytes = self._source.wait_for_total()
        self._source.raise_if_over()
        kind = family(self._source.read_whole_at(0, HEAD_BYTES))
        is_whole = size_bytes is not None and not is_cut(kind, self._source.read_whole_at, size_bytes=size_bytes)
        return is_whole and kind is Family.MP4

    def _decoded_from(self, container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
        for packet in self._packets(container, stream):
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

    def _held_back(self) -> Iterator[VideoFrame]:
        """The frames that the decoder keeps for the sake of some that are shown before, and that will not come."""
        frames: list[VideoFrame] = []
        with suppress(FFmpegError):
            frames = self._stream.decode(None)
        for frame in frames:
            frame.time_base = self._stream.time_base
            yield frame

    def _packets(self, container: InputContainer, stream: VideoStream) -> Iterator[Any]:
        """The stream's packets, and at the end the empty one that flushes the decoder."""
        errors = 0
        while errors < DEMUX_ERRORS_MAX:
            try:
                for packet in container.demux(stream):
                    errors = 0
                    yield packet
            except (FFmpegError, IndexError):  # PyAV's, for a packet of a stream that came up later
                errors += 1
                self.damaged += 1
            else:
                return
        self._is_given_up = True


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
    reader = _reader(source, kind)
    with ExitStack() as opened:
        container = opened.enter_context(_opened(source, reader, kind))
        if container.format.name in LATE_DEMUXERS and not container.streams.video:
            reader = _reader(source, kind)  # from the start
            container = opened.enter_context(_opened(source, reader, kind, probe_bytes=LATE_PROBE_BYTES))
        stream = _ready_stream(container, limits)
        yield Video(container, stream, source, limits, may_seek=isinstance(reader, Seekable))


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


def _opened(
    source: Source, reader: Progressive, kind: Family | None, *, probe_bytes: int = PROBE_BYTES
) -> InputContainer:
    options = {
        "format_whitelist": DEMUXERS,
        "protocol_whitelist": NO_PROTOCOL,
        "probesize": str(probe_bytes),
        "analyzeduration": "0" if probe_bytes == PROBE_BYTES else str(LATE_PROBE_S * 1_000_000),
        "fpsprobesize": "0",
    }
    try:
        return av.open(reader, "r", options=options, **_lenient_metadata())
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


def _ready_stream(container: InputContainer, limits: VideoLimits) -> VideoStream:
    """The video stream, ready to be decoded. Raises `Failure` for what is no video, or claims too much."""
    stream = _video_stream(container)
    _check_header(container, stream, limits)
    stream.thread_type = "SLICE"  # frame threads hold back one frame each
    stream.codec_context.thread_count = 1
    # later ones may be larger
    stream.codec_context.options = {"max_pixels": str(limits.pixels_max + PADDING_PIXELS)}
    return stream


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
    codec = stream.codec_context
    check_size(codec.width, codec.height, pixels_max=limits.pixels_max, side_px_max=limits.side_px_max)
    begins = max(container.start_time or 0, 0)  # a clock that ran before may be part of the length
    duration_s = 0.0 if container.format.name in MPEG else ((container.duration or 0) - begins) / 1_000_000
    if duration_s > limits.duration_max_s:
        raise Failure(FailureCode.DURATION_LIMIT, f"{duration_s:.0f} s of video, at most {limits.duration_max_s:.0f} s")
