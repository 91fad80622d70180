"""The shots of a video: what lies between two cuts or transitions."""

from typing import Literal

import msgspec

Transition = Literal["cut", "gradual"]


class Shot(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One shot, as clients see it. Frames are inclusive; times are `HH:MM:SS.mmm` since the stream's first frame."""

    start_frame: int
    end_frame: int
    start_time: str
    end_time: str
    """When its last frame ends, which is when the next one begins."""
    confidence: float | None
    """Highest probability of the boundary that ends it, 0..1; null for the last shot, which ends with the video."""
    transition: Transition | None
    """What ends it; null for the last shot."""


class ShotBoundary(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A run of frames above the threshold, and the shot that it ends."""

    start_frame: int
    start_s: float
    end_frame: int
    end_s: float | None = None
    """None until the next frame begins."""
    confidence: float


class ShotPlace(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Where the search for shots stands behind a frame: all that is needed to go on with the next one."""

    next_frame: int = 0
    last_s: float = 0.0
    """When the last frame began."""
    gap_s: float = 0.0
    """Between the last two frames."""
    start_frame: int = 0
    """Of the shot that goes on."""
    start_s: float = 0.0
    boundary: ShotBoundary | None = None
    """Its shot is not told yet: the transition may go on."""
    is_in_run: bool = False
    """Whether the last frame was above the threshold."""
    transition_frames: int = 0
    """Length of the transition so far."""
