"""In the process that decodes one file: confined before the first byte is read, gone after the last frame.

It has three descriptors: the line to whoever asked, the file, and the arena in which frames are laid down. It reads the
file by itself; what is there while it still arrives, it is told.
"""

import contextlib
import os
import time

from contracts.failures import Failure, FailureCode, FailureRecord
from contracts.storage import Extent, ExtentState
from engine.confinement import confine
from engine.decode import open_video
from engine.frame_arena import ARENA_BYTES, Places
from engine.growing_file import StoppedError, is_behind_end, readable_bytes
from engine.handed_frame import Handed, Offer
from engine.orientation import Size
from engine.reading import read_whole_at
from engine.sandbox_messages import (
    DETAIL_CHARACTERS_MAX,
    SIZES_MAX,
    Arrived,
    Asks,
    Begin,
    Ended,
    Freed,
    Full,
    Line,
    Needs,
    Opened,
    Over,
    Seen,
    ShowAs,
    ToDecoder,
)
from engine.video_frame import DecodedFrame, DecoderPixels

FULL_S = 1.0
"""How often it says that it waits for a place."""
UNTOLD_S = 0.25
"""How long frames without pixels may wait to be told of together."""


def decode(line: Line[ToDecoder], file: int, arena: int) -> None:
    """Do what the first message asks for."""
    begin = line.receive()
    if not isinstance(begin, Begin):
        raise TypeError(f"{begin} instead of what to decode")
    places = Places(arena)
    confine(begin.process)
    table = _Table(line, places, begin)
    line.send(table.ended(_decoded(AskedFile(table, file), table, begin)))


def _decoded(source: "AskedFile", table: "_Table", begin: Begin) -> FailureRecord | None:
    """Why it ended, None at the end of the video or where the other side knows why."""
    try:
        with open_video(source, limits=begin.limits) as video:
            table.say(Opened())
            for frame in video.frames():
                table.hand_over(frame, damaged=video.damaged)
            table.damaged = video.damaged
    except StoppedError:
        return None
    except Failure as failure:
        return FailureRecord(code=failure.code, detail=failure.detail[:DETAIL_CHARACTERS_MAX])
    except MemoryError:
        limit = begin.process.memory_bytes >> 20
        return FailureRecord(code=FailureCode.DECODER_CRASHED, detail=f"it needs more than {limit} MiB of memory")
    except (EOFError, OSError):
        raise  # nobody listens any more
    except Exception as error:  # noqa: BLE001 - the outermost loop of a process
        detail = f"the decoder broke: {type(error).__name__}: {error}"
        return FailureRecord(code=FailureCode.DECODER_CRASHED, detail=detail[:DETAIL_CHARACTERS_MAX])
    return None


class _Table:
    """What is said to the other side and heard from it, frames among it."""

    def __init__(self, line: Line[ToDecoder], places: Places, begin: Begin) -> None:
        self.extent: Extent = begin.extent
        self.is_over = False
        self.damaged = 0
        self._line = line
        self._places = places
        self._begin = begin
        self._show_as: ShowAs | None = None
        self._decoded = 0
        self._untold: list[Seen] = []
        self._told_at_s = time.monotonic()

    def say(self, *messages: object) -> None:
        """Say this behind all that has not been told of yet."""
        if self._untold or messages:
            self._line.send(*self._untold, *messages)
        self._untold.clear()
        self._told_at_s = time.monotonic()

    def hear(self, *, timeout_s: float | None) -> None:
        """Take in what was said, waiting for the first of it."""
        message = self._line.receive(timeout_s)
        while message is not None:
            match message:
                case Arrived():
                    self.extent = message.extent
                case Over():
                    self.is_over = True
                case Freed():
                    self._places.free(message.at)
                case ShowAs():
                    self._show_as = message
                case Begin():
                    raise TypeError("it has begun")
            message = self._line.at_hand()

    def hand_over(self, frame: DecodedFrame, *, damaged: int) -> None:
        """Tell of a frame, with its pixels if they are wanted."""
        self._decoded, self.damaged = frame.index + 1, damaged
        pixels = frame.pixels
        wanted_by = [at for at, which in enumerate(self._begin.wishes) if which.has(frame.index)]
        seen = Seen(
            index=frame.index,
            at_s=frame.at_s,
            position_bytes=frame.position_bytes,
            picture=Size(pixels.width, pixels.height),
            turn=frame.turn,
            handed=self._laid_down(frame, wanted_by) if wanted_by else (),
        )
        if wanted_by or time.monotonic() - self._told_at_s > UNTOLD_S:
            self.say(seen)
        else:
            self._untold.append(seen)

    def ended(self, failure: FailureRecord | None) -> Ended:
        """The last message; what waited is told before it."""
        self.say()
        return Ended(decoded=self._decoded, damaged=self.damaged, failure=failure)

    def _laid_down(self, frame: DecodedFrame, wanted_by: list[int]) -> tuple[Handed, ...]:
        """Lay down a frame in every size that these wishes ask for."""
        if not isinstance(frame.pixels, DecoderPixels):
            raise TypeError("no frame of a decoder")
        shown = self._show_how(Size(frame.width, frame.height)).shown
        sizes = dict.fromkeys(size for at in wanted_by for size in shown[at])
        stored = (None if size is None else frame.turn.size(size) for size in sizes)
        return tuple(self._lay_down(Offer(frame.pixels.frame, size)) for size in stored)

    def _lay_down(self, offer: Offer) -> Handed:
        handed = offer.handed(self._place(offer.handed(0).size_bytes))
        offer.lay_down(handed, self._places.at(handed.at, handed.size_bytes))
        return handed

    def _show_how(self, picture: Size) -> ShowAs:
        """How a picture of that displayed size is wanted."""
        self.hear(timeout_s=0)
        if self._show_as is None or self._show_as.picture != picture:
            self.say(Asks(picture))
        while (show_as := self._show_as) is None or show_as.picture != picture:
            self.hear(timeout_s=None)
        return show_as

    def _place(self, count: int) -> int:
        """A place in the arena, as soon as there is one."""
        waiting: tuple[Full, ...] = ()
        while True:
            places_max = SIZES_MAX if self._show_as is None else self._show_as.places_max
            if self._places.taken < places_max and (place := self._places.take(count)) is not None:
                return place
            if self._places.taken == 0:
                raise Failure(FailureCode.TOO_MANY_PIXELS, f"a frame of {count} bytes, in memory for {ARENA_BYTES}")
            self.say(*waiting)
            waiting = (Full(),)
            self.hear(timeout_s=FULL_S)


class AskedFile:
    """The file, as `engine.reading.Source`: bytes that have not arrived are asked for."""

    def __init__(self, table: _Table, descriptor: int) -> None:
        self._table = table
        self._descriptor = descriptor

    @property
    def total_bytes(self) -> int | None:
        """The length of the whole file, None while only the client knows it."""
        return self._table.extent.total_bytes

    @property
    def is_complete(self) -> bool:
        """True once every byte has arrived and the writer has said so."""
        return self._table.extent.state is ExtentState.SEALED

    def raise_if_over(self) -> None:
        """Raise `StoppedError` if the other side knows why no more bytes come."""
        if self._table.is_over:
            raise StoppedError

    def read_at(self, offset: int, count: int) -> bytes:
        """At least one byte and at most `count` at `offset`; none at the end, or when it is over."""
        self._table.hear(timeout_s=0)
        while not self._table.is_over:
            extent = self._table.extent
            if content := self._there(offset, min(count, readable_bytes(extent, offset))):
                return content
            if is_behind_end(extent, offset):
                break
            self._ask(offset)
        return b""

    def read_whole_at(self, offset: int, count: int) -> bytes:
        """`count` bytes at `offset`; fewer only where `read_at` would give none."""
        return read_whole_at(self, offset, count)

    def wait_for_total(self) -> int | None:
        """The length of the whole file, waiting until it is known; None when it is over."""
        while (total := self.total_bytes) is None and not self._table.is_over:
            self._ask(self._table.extent.head_bytes)
        return total

    def _there(self, offset: int, count: int) -> bytes:
        """What is there of these bytes; none where the disk fails, which the other side sees and tells."""
        with contextlib.suppress(OSError):
            return os.pread(self._descriptor, count, offset)
        return b""

    def _ask(self, offset: int) -> None:
        """Return when there is something new: bytes there, or the end of all."""
        before = self._table.extent
        self._table.say(Needs(offset))
        while not self._table.is_over:
            self._table.hear(timeout_s=None)
            if self._table.extent is not before:
                return
