"""What a consumer and the process that decodes for it say to each other, and the line between them.

Both ends take what they read apart strictly: the process that decodes may have been taken over by the file it reads.
"""

import os
import select
import struct
import threading
from typing import Annotated, Any, Generic, TypeVar

import msgspec
from msgspec import Meta

from contracts.failures import FailureRecord
from contracts.storage import Extent
from engine.confinement import ProcessLimits
from engine.handed_frame import Handed
from engine.orientation import Size, Turn
from engine.sampling import is_sampled
from engine.video import VideoLimits

MESSAGE_BYTES_MAX = 4096
"""No more than a pipe takes at once, so a message is never half there when its sender dies."""
DETAIL_CHARACTERS_MAX = 500
SIZES_MAX = 4
"""Sizes in which one frame is handed over."""
_READ_BYTES = 65_536
_LENGTH = struct.Struct("<I")

_Heard = TypeVar("_Heard")

Count = Annotated[int, Meta(ge=0, le=1 << 62)]


# To the process that decodes


class Which(msgspec.Struct, frozen=True, array_like=True):
    """Every so many frames behind one."""

    period: int
    after_index: int

    def has(self, index: int) -> bool:
        """Whether that frame is among them."""
        return index > self.after_index and is_sampled(index, period=self.period)


class Begin(msgspec.Struct, frozen=True, tag=True, array_like=True, kw_only=True):
    """The first message: what to decode and for whom."""

    extent: Extent
    limits: VideoLimits
    process: ProcessLimits
    wishes: tuple[Which, ...]
    """Frames whose pixels are wanted."""


class Arrived(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """The answer to `Needs`: how much of the file is there."""

    extent: Extent


class Over(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """No more bytes come; the sender knows why."""


class Freed(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Nobody looks at the pixels there any more."""

    at: int


class ShowAs(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """How pictures of a size are wanted from now on; the answer to `Asks`, and whenever it changes."""

    picture: Size
    """As displayed."""
    shown: tuple[tuple[Size | None, ...], ...]
    """For each wish the sizes in which it is looked at, as displayed; None: whole."""
    places_max: int
    """Places in the arena that may be taken at once."""


# From it


class Born(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """The process is there, and waits for `Begin`; said by the one that forked it."""

    pid: int


class Opened(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """It is a video that is let in."""


class Needs(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Nothing goes on before there are bytes at `offset`, or `Over`."""

    offset: Count


class Asks(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """The pixels of a picture of that displayed size are there; nothing goes on before it is known how they are wanted."""

    picture: Size


class Full(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """It is there, and waits for a place to lay down a frame; said every second."""


class Seen(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """A frame."""

    index: Count
    at_s: float
    position_bytes: Count
    picture: Size
    """As stored."""
    turn: Turn
    handed: Annotated[tuple[Handed, ...], Meta(max_length=SIZES_MAX)]
    """In every size that is wanted; none: its pixels are not."""


class Ended(msgspec.Struct, frozen=True, tag=True, array_like=True, kw_only=True):
    """The last message."""

    decoded: Count
    damaged: Count
    failure: FailureRecord | None = None


class Exited(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """The process is gone; said by the one that forked it."""

    status: int
    """As of `waitpid`: an exit code, or the negative number of the signal that killed it."""


ToDecoder = Begin | Arrived | Over | Freed | ShowAs
FromDecoder = Born | Opened | Needs | Asks | Full | Seen | Ended | Exited

_encode = msgspec.msgpack.Encoder().encode


class Line(Generic[_Heard]):
    """One end of a pair of connected sockets. `send` may be called by any thread, the rest by one."""

    def __init__(self, descriptor: int, heard: Any) -> None:
        """descriptor: becomes this object's. heard: the union of what the other end says."""
        self._descriptor = descriptor
        self._decoder: msgspec.msgpack.Decoder[_Heard] = msgspec.msgpack.Decoder(heard)
        self._buffer = bytearray()
        # a garbage collector may come by in mid-sentence and say that a place is free
        self._writing = threading.RLock()
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)

    def send(self, *messages: object) -> None:
        """Say them in this order. Raises `OSError` if nobody listens any more, or has not for 100 kB."""
        content = packed(*messages)
        with self._writing:
            os.write(self._descriptor, content)

    def receive(self, timeout_s: float | None = None) -> _Heard | None:
        """The next message; None if none comes in that time (None: for ever).

        Raises `EOFError` at the end, `ValueError` for what is no message.
        """
        while (message := self.at_hand()) is None:
            if not self._poll.poll(None if timeout_s is None else timeout_s * 1000):
                return None
            try:
                content = os.read(self._descriptor, _READ_BYTES)
            except ConnectionResetError:
                content = b""
            if not content:
                raise EOFError
            self._buffer += content
        return message

    def at_hand(self) -> _Heard | None:
        """The next message if it came with one before; costs no system call. Raises `ValueError` for what is no message."""
        if len(self._buffer) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._buffer)
        if length > MESSAGE_BYTES_MAX:
            raise ValueError(f"a message of {length} bytes")
        end = _LENGTH.size + length
        if len(self._buffer) < end:
            return None
        content = bytes(self._buffer[_LENGTH.size : end])
        del self._buffer[:end]
        try:
            return self._decoder.decode(content)
        except msgspec.DecodeError as error:
            raise ValueError(str(error)) from error

    def close(self) -> None:
        """Say no more and hear no more."""
        with self._writing:
            if self._descriptor >= 0:
                os.close(self._descriptor)
            self._descriptor = -1


def packed(*messages: object) -> bytes:
    """Messages as they travel: each behind its length."""
    parts: list[bytes] = []
    for message in messages:
        body = _encode(message)
        parts += (_LENGTH.pack(len(body)), body)
    return b"".join(parts)
