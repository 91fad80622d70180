"""A video that another process decodes, as the one that looks at it knows it."""

import contextlib
import math
import os
import resource
import signal
import time
from collections.abc import Generator, Iterator
from functools import partial

import msgspec

from contracts.failures import Failure, FailureCode
from engine.confinement import ProcessLimits
from engine.decode import PADDING_PIXELS, is_partial
from engine.frame_arena import ShownPlaces
from engine.growing_file import GrowingFile, StoppedError
from engine.handed_frame import HandedPixels, Laid
from engine.orientation import Size
from engine.picture import Crop, Rgb
from engine.sandbox_messages import (
    Arrived,
    Asks,
    Begin,
    Born,
    Ended,
    Exited,
    Freed,
    FromDecoder,
    Full,
    Line,
    Needs,
    Opened,
    Over,
    Seen,
    ShowAs,
    Which,
)
from engine.video import VideoLimits, Wanted
from engine.video_frame import DecodedFrame

POLL_S = 0.05
"""How often it looks whether it should stop while nothing comes. A decoder's silence is counted in such waits and not by the
clock: what was paused with its decoder has heard nothing of it either."""
AHEAD_MAX = 2
"""Frames that may be decoded before they are asked for."""
GRANT_S = 1.0
"""How often a decoder that gets on is granted more CPU time."""
ITS_FAILURES = frozenset(
    (
        FailureCode.EMPTY_MEDIA,
        FailureCode.UNSUPPORTED_MEDIA,
        FailureCode.UNREADABLE_MEDIA,
        FailureCode.NO_VIDEO_STREAM,
        FailureCode.TOO_MANY_PIXELS,
        FailureCode.DURATION_LIMIT,
        FailureCode.DECODER_CRASHED,
    )
)
"""What a decoder can say is wrong; anything else is not its to say."""
_SIGNALS = {each.value: each.name for each in signal.Signals}


class SandboxedVideo:
    """An open video, as `engine.video.ReadableVideo`. Used by one thread; its frames by any."""

    def __init__(
        self, source: GrowingFile, line: Line[FromDecoder], arena: int, *, wanted: Wanted, silent_s: float
    ) -> None:
        """silent_s: a decoder that is waited for and says nothing for so long is ended."""
        self.damaged = 0
        self.decoded = 0
        self._source = source
        self._line = line
        self._places = ShownPlaces(arena, partial(_free, line))  # not a method: a cycle would keep the arena
        self._wanted = wanted
        self._silent_s = silent_s
        self._limits = VideoLimits()
        self._decoder: _Decoder | None = None
        self._show_as: ShowAs | None = None
        self._at_s = 0.0
        self._is_told_over = False
        self._silent_polls = 0

    def open(self, limits: VideoLimits, process: ProcessLimits) -> None:
        """Return when the decoder has found a video that is let in. Raises as `Sandbox.open_video`."""
        self._limits = limits
        for message in self._heard():
            match message:
                case Born() if self._decoder is None:  # another one would be of the decoder's making, and killed for it
                    with contextlib.suppress(ProcessLookupError):  # it is gone already: we shall hear how
                        self._decoder = _Decoder(message.pid, cpu_s=process.cpu_s)
                    self._say(
                        Begin(
                            extent=self._source.extent,
                            limits=limits,
                            process=process,
                            wishes=tuple(Which(wish.period, wish.after_index) for wish in self._wanted.wishes),
                        )
                    )
                case Opened():
                    return
                case _:
                    raise _crashed(f"it said {type(message).__name__} first")
        self._source.raise_if_over()
        raise _crashed("it saw no video and no fault")

    def frames(self) -> Iterator[DecodedFrame]:
        """Every frame that can be decoded, in display order. Raises as `Sandbox.open_video`, and `StoppedError`."""
        for message in self._heard():
            if not isinstance(message, Seen):
                raise _crashed(f"it said {type(message).__name__} instead of a frame")
            yield self._frame(message)
        self._source.raise_if_over()

    def is_partial(self) -> bool:
        """True if something was lost on the way to the last frame, as far as that can be known; asked at the end."""
        return is_partial(self._source, damaged=self.damaged)

    def close(self) -> None:
        """End the decoder; frames that somebody holds stay."""
        if self._decoder is not None:
            self._decoder.end()
        self._line.close()
        self._places.close()

    def _heard(self) -> Generator[Born | Opened | Seen]:
        """What is said up to the end; what only wants an answer gets one."""
        self._silent_polls = 0
        while True:
            match message := self._received():
                case None:
                    self._raise_if_hung()
                    continue
                case Ended():
                    return self._conclude(message)
                case Exited():
                    raise _gone(message.status)
                case Needs():
                    self._answer(message)
                case Asks():
                    self._check_size(message.picture)
                    self._say_how(message.picture)
                case Full():
                    pass
                case _:
                    yield message
            self._silent_polls = 0
            if self._decoder is not None:
                self._decoder.grant_time()

    def _received(self) -> FromDecoder | None:
        """The next message, None if there is none yet. Raises `StoppedError` when asked to stop."""
        if self._source.is_stopped:
            raise StoppedError
        self._source.glance()
        if self._source.is_over and not self._is_told_over:
            self._say(Over())
            self._is_told_over = True
        try:
            return self._line.receive(POLL_S)
        except EOFError:
            raise _crashed("it is gone, and with it the process that forked it") from None
        except ValueError as error:
            raise _crashed(f"what it said makes no sense: {error}") from error

    def _answer(self, needs: Needs) -> None:
        """Wait for the bytes that it needs; whatever ends the waiting, it is told how much there is."""
        self._source.read_at(needs.offset, 1)
        if not self._source.is_over:
            self._say(Arrived(self._source.extent))

    def _conclude(self, end: Ended) -> None:
        self.damaged = end.damaged
        failure = end.failure
        if failure is not None:
            if failure.code not in ITS_FAILURES:
                raise _crashed(f"it said {failure.code}")
            raise Failure(failure.code, failure.detail)

    def _frame(self, seen: Seen) -> DecodedFrame:
        """The frame, if it can be true. Raises `Failure(decoder_crashed)`."""
        picture = seen.picture
        self._check_size(picture)
        if seen.index != self.decoded or not self._at_s <= seen.at_s < math.inf:
            raise _crashed(f"it said that frame {seen.index} is at {seen.at_s} s")
        self.decoded, self._at_s = seen.index + 1, seen.at_s
        self._say_how(seen.turn.size(picture))
        try:
            laid = [Laid(handed, self._places.at(handed.at, handed.size_bytes)) for handed in seen.handed]
            pixels = HandedPixels(laid, stored=picture) if laid else Unwanted(picture.width, picture.height)
        except ValueError as error:
            raise _crashed(f"a frame cannot lie there: {error}") from error
        return DecodedFrame(
            pixels, turn=seen.turn, index=seen.index, at_s=seen.at_s, position_bytes=seen.position_bytes
        )

    def _check_size(self, picture: Size) -> None:
        """Raises `Failure(decoder_crashed)` for what no picture can be, which nobody else is to see."""
        pixels_max = self._limits.pixels_max + PADDING_PIXELS
        if picture.width <= 0 or not 0 < picture.width * picture.height <= pixels_max:
            raise _crashed(f"it said that a picture is {picture.width} x {picture.height}")

    def _say_how(self, picture: Size) -> None:
        """Say how further pictures like this one are wanted, if that has changed."""
        shown = tuple(
            (size, None) if wish.is_kept and (size := wish.size(picture)) else (wish.size(picture),)
            for wish in self._wanted.wishes
        )
        places_max = (self._wanted.held_max() + AHEAD_MAX) * len({size for sizes in shown for size in sizes})
        show_as = ShowAs(picture=picture, shown=shown, places_max=places_max)
        if show_as != self._show_as:
            self._show_as = show_as
            self._say(show_as)

    def _say(self, message: object) -> None:
        """Say something; a decoder that is gone says so itself."""
        with contextlib.suppress(OSError):
            self._line.send(message)

    def _raise_if_hung(self) -> None:
        self._silent_polls += 1
        silent_s = self._silent_polls * POLL_S
        if silent_s > self._silent_s:
            raise Failure(FailureCode.DECODER_HUNG, f"the decoder has been silent for {silent_s:.0f} s")


class Unwanted(msgspec.Struct, frozen=True):
    """The pixels of a frame that nobody was to look at."""

    width: int
    height: int

    def scaled(self, size: Size, crop: Crop | None) -> Rgb:  # noqa: ARG002 - a protocol
        """Raises `LookupError`."""
        raise LookupError("the pixels of this frame were not wanted")


class _Decoder:
    """The process that decodes."""

    def __init__(self, pid: int, *, cpu_s: int) -> None:
        self._pid = pid
        self._cpu_s = cpu_s
        self._handle = os.pidfd_open(pid)
        self._granted_at_s = time.monotonic()

    def grant_time(self) -> None:
        """It got on: it may use as much CPU time again."""
        if time.monotonic() - self._granted_at_s < GRANT_S:
            return
        self._granted_at_s = time.monotonic()
        with contextlib.suppress(OSError):  # it has just ended
            used_s = time.clock_gettime(~self._pid << 3 | 2)  # how Linux names the CPU clock of a process
            resource.prlimit(self._pid, resource.RLIMIT_CPU, (math.ceil(used_s) + self._cpu_s, resource.RLIM_INFINITY))

    def end(self) -> None:
        """Kill it, if it has not ended."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._handle, signal.SIGKILL)
        os.close(self._handle)


def _free(line: Line[FromDecoder], place: int) -> None:
    """Nobody looks at that place any more; called by any thread, also when the video has ended."""
    with contextlib.suppress(OSError):
        line.send(Freed(place))


def _gone(status: int) -> Failure:
    if status == -signal.SIGXCPU:
        return Failure(FailureCode.DECODER_HUNG, "the decoder used all its CPU time without another frame")
    if status < 0:
        return _crashed(f"it was killed by {_SIGNALS.get(-status, f'signal {-status}')}")
    return _crashed(f"it ended with status {status}")


def _crashed(why: str) -> Failure:
    return Failure(FailureCode.DECODER_CRASHED, f"the decoder crashed: {why}")
