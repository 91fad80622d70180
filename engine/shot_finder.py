"""From the probability that each frame is the last of a shot to the shots, as each becomes certain."""

import msgspec

from contracts.detections import video_time
from contracts.options import DetectionOptions
from contracts.shots import Shot, ShotBoundary, ShotPlace, Transition

GRADUAL_FRAMES_MIN = 3
"""A transition that covers at least so many frames is gradual; a cut covers the frames on its two sides."""
_DIGITS = 6


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
    """When its last frame ends: the next one begins, or the video's last one has lasted as long as the one before."""
    confidence: float | None
    """Highest probability of the boundary that ends it; None for the last shot, which ends with the video."""
    transition: Transition | None

    def told(self) -> Shot:
        """The shot as clients see it."""
        return Shot(
            start_frame=self.start_frame,
            end_frame=self.end_frame,
            start_time=video_time(self.start_s),
            end_time=video_time(self.end_s),
            confidence=None if self.confidence is None else round(self.confidence, _DIGITS),
            transition=self.transition,
        )


def rule_of(options: DetectionOptions) -> ShotRule:
    """The rule that the client's options state."""
    return ShotRule(threshold=options.shot_threshold, frames_min=options.min_shot_frames)


class ShotFinder:
    """Reads frames in order; its state is a few numbers, whatever the length of the video.

    Boundaries are those of the reference's `predictions_to_scenes`: a run of frames above the threshold is one boundary, the
    shot before ends with the first frame of the run, the next one begins behind its last.
    """

    def __init__(self, rule: ShotRule, place: ShotPlace | None = None) -> None:
        """place: where to go on; None: at the first frame."""
        self._rule = rule
        self._place = place or ShotPlace()

    @property
    def place(self) -> ShotPlace:
        """Behind the last frame."""
        return self._place

    def add(self, odds: FrameOdds) -> list[FoundShot]:
        """The shots that this frame makes certain; at most two, where transitions touch."""
        here, threshold = self._arrived(odds.at_s), self._rule.threshold
        is_boundary = odds.boundary > threshold
        found: list[FoundShot] = []
        if is_boundary and not here.is_in_run:
            found += self._told()
            if here.next_frame > 0:
                self._change(boundary=_boundary_at(here, odds))
        elif is_boundary and here.boundary is not None:
            surest = max(here.boundary.confidence, odds.boundary)
            self._change(boundary=msgspec.structs.replace(here.boundary, confidence=surest))
        elif here.is_in_run and not is_boundary and (here.boundary is None or self._is_long_enough(here.boundary)):
            self._change(start_frame=here.next_frame, start_s=odds.at_s)
        is_in_transition = is_boundary or odds.transition > threshold
        if not is_in_transition:
            found += self._told()
        self._change(
            is_in_run=is_boundary,
            transition_frames=self._place.transition_frames + 1 if is_in_transition else 0,
            next_frame=here.next_frame + 1,
        )
        return found

    def end(self) -> list[FoundShot]:
        """The shots that were not told, when no more frames come; a video of at least one frame has at least one shot."""
        place = self._place
        found = self._told()
        if place.start_frame < place.next_frame and not (place.is_in_run and found):
            found.append(
                FoundShot(
                    start_frame=place.start_frame,
                    end_frame=place.next_frame - 1,
                    start_s=place.start_s,
                    end_s=place.last_s + place.gap_s,
                    confidence=None,
                    transition=None,
                )
            )
        self._change(start_frame=place.next_frame)  # asked again it has nothing to say
        return found

    def _arrived(self, at_s: float) -> ShotPlace:
        """A frame begins here: the one before it has ended."""
        place = self._place
        gap_s = at_s - place.last_s if place.next_frame > 0 else 0.0
        self._change(last_s=at_s, gap_s=gap_s)
        if place.boundary is not None and place.boundary.end_s is None:
            self._change(boundary=msgspec.structs.replace(place.boundary, end_s=at_s))
        return self._place

    def _change(self, **fields: object) -> None:
        self._place = msgspec.structs.replace(self._place, **fields)

    def _is_long_enough(self, boundary: ShotBoundary) -> bool:
        return boundary.end_frame - boundary.start_frame + 1 >= self._rule.frames_min

    def _told(self) -> list[FoundShot]:
        """The shot before the boundary that is over, if there is one and it is no splinter."""
        place, boundary = self._place, self._place.boundary
        if boundary is None:
            return []
        self._change(boundary=None, transition_frames=0)  # where another one follows at once, it has frames of its own
        if not self._is_long_enough(boundary):
            return []
        return [
            FoundShot(
                start_frame=boundary.start_frame,
                end_frame=boundary.end_frame,
                start_s=boundary.start_s,
                end_s=place.last_s + place.gap_s if boundary.end_s is None else boundary.end_s,
                confidence=boundary.confidence,
                transition="gradual" if place.transition_frames >= GRADUAL_FRAMES_MIN else "cut",
            )
        ]


def _boundary_at(here: ShotPlace, odds: FrameOdds) -> ShotBoundary:
    return ShotBoundary(
        start_frame=here.start_frame, start_s=here.start_s, end_frame=here.next_frame, confidence=odds.boundary
    )
