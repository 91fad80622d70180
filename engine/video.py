"""A video as whoever looks at it knows it, wherever it is decoded."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol

import msgspec

from engine.growing_file import GrowingFile
from engine.orientation import Size
from engine.video_frame import DecodedFrame

FRAMES_HELD_MAX = 8
"""Frames of a video that may be looked at at once, unless somebody knows better."""


class VideoLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What a video may claim. Beyond `pixels_max` or `side_px_max` it is refused, at the others it ends: `duration_limit`."""

    pixels_max: int = 36_000_000
    """8K (8192 x 4320) and nothing larger: a decoder holds up to 17 frames of that size."""
    side_px_max: int = 16_384
    duration_max_s: float = 12 * 3600.0
    frames_max: int = 3_000_000
    """12 hours of 60 frames per second, and what a few megabytes of 16 x 16 pixels can pretend to be."""


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """Frames that will be looked at, and how."""

    period: int = 1
    """Every so many."""
    after_index: int = -1
    """And only those behind this one."""
    size: Callable[[Size], Size | None] = lambda _size: None
    """The one size in which a picture of that size is looked at now; None: in several, in parts, or as it is."""
    is_kept: bool = False
    """Whether it is wanted whole besides."""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What will be asked of the frames of a video, known before they are: others may come without their pixels."""

    wishes: tuple[Wish, ...]
    held_max: Callable[[], int] = lambda: FRAMES_HELD_MAX
    """Frames that are looked at at once now; whoever holds more may wait for ever for the next."""


EVERYTHING = Wanted(wishes=(Wish(),))


class ReadableVideo(Protocol):
    """An open video. `frames` is read once, by one thread; the counters belong to the frames read so far."""

    @property
    def damaged(self) -> int:
        """Packets that could not be decoded, and frames that the decoder had to patch."""
        ...

    @property
    def decoded(self) -> int:
        """Frames so far."""
        ...

    def frames(self) -> Iterator[DecodedFrame]:
        """Every frame that can be decoded, in display order. Raises as `engine.decode.Video.frames`."""
        ...

    def is_partial(self) -> bool:
        """True if something was lost on the way to the last frame, as far as that can be known; asked at the end."""
        ...


class OpenVideo(Protocol):
    """How a video is opened: `engine.decode.open_video` in this process, `engine.sandbox.Sandbox.open_video` in another."""

    def __call__(
        self, source: GrowingFile, *, limits: VideoLimits, wanted: Wanted = EVERYTHING
    ) -> AbstractContextManager[ReadableVideo]: ...
