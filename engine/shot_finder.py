"""From the probability that each frame is the last of a shot to the shots, as each becomes certain."""

from typing import Literal

import msgspec

GRADUAL_FRAMES_MIN = 3
"""A transition that covers at least so many frames is gradual; a cut covers the frames on its two sides."""


class ShotRule(msgspec.Struct, frozen=True, kw_only=True):
    """What counts as a boundary."""

    threshold: float = 0.5
    """A frame of a higher probability is in a transition."""
    frames_min: int = 1
    """A shorter shot is none: its frames belong to the next one."""


class FrameOdds(msgspec.Struct, frozen=True, kw_only=True):
    """What the model says of one frame."""

    at_s: float
    """Since the stream's first frame."""
    boundary: float
    """That a transition is at its middle here (`single_frame`), 0..1."""
    transition: float
    """That it is anywhere in a transition (`many_hot`), 0..1; the same where a model does not tell the two apart."""


class FoundShot(msgspec.Struct, frozen=True, kw_only=True):
    """Frames of a video between two boundaries, both inclusive."""

    start_frame: int
    end_frame: int
    start_s: float
    end_s: float
    """Of the last frame's beginning."""
    confidence: float | None
    """Highest probability of the boundary that ends it; None for the last shot, which ends with the video."""
    transition: Literal["cut", "gradual"] | None


class _Place(msgspec.Struct, frozen=True):
    frame: int
    at_s: float


class _Boundary(msgspec.Struct):
    """A run of frames above the threshold that ends the shot before it."""

    shot_start: _Place
    shot_end: _Place
    confidence: float


class ShotFinder:
    """Reads frames in order; its state is a few numbers, whatever the length of the video.

    Boundaries are those of the reference's `predictions_to_scenes`: a run of frames above the threshold is one boundary, the
    shot before ends with the first frame of the run, the next one begins behind its last.
    """

    def __init__(self, rule: ShotRule) -> None:
        self._rule = rule
        self._next = _Place(0, 0.0)
        """The frame that is read next; its time is that of the last one."""
        self._start = _Place(0, 0.0)
        self._boundary: _Boundary | None = None
        """Ended or not, its shot is not told yet: the transition may go on."""
        self._is_in_run = False
        self._transition_frames = 0

    def add(self, odds: FrameOdds) -> list[FoundShot]:
        """The shots that this frame makes certain; at most two, where transitions touch."""
        here = _Place(self._next.frame, odds.at_s)
        threshold = self._rule.threshold
        is_boundary = odds.boundary > threshold
        found: list[FoundShot] = []
        if is_boundary and not self._is_in_run:
            found += self._told()
            if here.frame > 0:
                self._boundary = _Boundary(self._start, here, odds.boundary)
        elif is_boundary and self._boundary is not None:
            self._boundary.confidence = max(self._boundary.confidence, odds.boundary)
        elif self._is_in_run and not is_boundary:
            self._start = here if self._boundary is None or self._is_long_enough(self._boundary) else self._start
        self._is_in_run = is_boundary
        if is_boundary or odds.transition > threshold:
            self._transition_frames += 1
        else:
            found += self._told()
            self._transition_frames = 0
        self._next = _Place(here.frame + 1, odds.at_s)
        return found

    def end(self) -> list[FoundShot]:
        """The shots that were not told, when no more frames come; a video of at least one frame has at least one shot."""
        found = self._told()
        last = _Place(self._next.frame - 1, self._next.at_s)
        if last.frame >= 0 and not (self._is_in_run and found):
            start = self._start
            found.append(
                FoundShot(
                    start_frame=start.frame,
                    end_frame=last.frame,
                    start_s=start.at_s,
                    end_s=last.at_s,
                    confidence=None,
                    transition=None,
                )
            )
        return found

    def _is_long_enough(self, boundary: _Boundary) -> bool:
        return boundary.shot_end.frame - boundary.shot_start.frame + 1 >= self._rule.frames_min

    def _told(self) -> list[FoundShot]:
        """The shot before the boundary that is over, if there is one and it is no splinter."""
        boundary, self._boundary = self._boundary, None
        if boundary is None or not self._is_long_enough(boundary):
            return []
        is_gradual = self._transition_frames >= GRADUAL_FRAMES_MIN
        return [
            FoundShot(
                start_frame=boundary.shot_start.frame,
                end_frame=boundary.shot_end.frame,
                start_s=boundary.shot_start.at_s,
                end_s=boundary.shot_end.at_s,
                confidence=boundary.confidence,
                transition="gradual" if is_gradual else "cut",
            )
        ]
