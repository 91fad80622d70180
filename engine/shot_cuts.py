"""Frames whose shot is not known yet wait here, with what was seen in them, until it is certain whether a shot begins there.

Why they wait: docs/adr/0025. At most 125 frames wait, of which only the sampled ones have anything to keep.
"""

from collections.abc import Iterator

import msgspec

from contracts.options import DetectionOptions
from contracts.results import Checkpoint
from contracts.shots import ShotPlace
from engine.decode_thread import Looked
from engine.images import PackedPicture
from engine.orientation import Size
from engine.shot_feed import Searched
from engine.shot_finder import FoundShot, FrameOdds, ShotFinder, rule_of
from engine.shot_windows import HEIGHT, WIDTH
from engine.showing import Detections


class Passed(msgspec.Struct, frozen=True, kw_only=True):
    """A frame about which everything is known."""

    looked: Looked
    begins_shot: bool = False
    shots: list[FoundShot] = []
    """That became certain with it."""
    place: ShotPlace | None = None
    """Where the search stands behind it, if there is one."""


class Cuts:
    """The search of one video."""

    def __init__(self, options: DetectionOptions, resume: Checkpoint | None) -> None:
        self._done_index = resume.frame_index if resume else -1
        place = resume.shots if resume else None
        self._finder = ShotFinder(rule_of(options), place or ShotPlace(next_frame=self._done_index + 1))
        self._held: dict[int, Looked] = {}
        self._last = _last_of(resume) if resume else None

    def passed(self, result: Looked | Searched) -> Iterator[Passed]:
        """The frames about which everything is known now, in their order. Raises the failure of a window."""
        if isinstance(result, Looked):
            self._hold(result)
        else:
            yield from self._searched(result)

    def end(self) -> Iterator[Passed]:
        """The last shots, told with the last frame, which has passed already; nothing if they were told before."""
        shots = self._finder.end()
        if shots and self._last is not None:
            looked = msgspec.structs.replace(self._last, detections=None, frame=None)
            yield Passed(looked=looked, shots=shots, place=self._finder.place)

    def _hold(self, looked: Looked) -> None:
        """Keep what was seen in a frame; of its picture, if there may be a report, a JPEG."""
        picture = looked.frame
        if picture is not None:
            picture = PackedPicture(picture) if _shows_something(looked.detections) else None
        self._held[looked.frame_index] = msgspec.structs.replace(looked, frame=picture)

    def _searched(self, searched: Searched) -> Iterator[Passed]:
        odds = searched.odds.result()
        for row, at_s in enumerate(searched.times_s):
            index = searched.first_frame + row
            if index <= self._done_index:
                continue
            boundary, transition = float(odds.boundary[row]), float(odds.transition[row])
            shots = self._finder.add(FrameOdds(at_s=at_s, boundary=boundary, transition=transition))
            looked = self._held.pop(index, None) or _not_looked_at(index, at_s, searched)
            self._last = msgspec.structs.replace(looked, percent=searched.percent)
            place = self._finder.place
            yield Passed(
                looked=self._last,
                begins_shot=place.start_frame == index,
                shots=shots,
                place=place,
            )


def _last_of(resume: Checkpoint) -> Looked:
    return Looked(
        frame_index=resume.frame_index,
        at_s=resume.at_s,
        percent=resume.percent,
        size=Size(WIDTH, HEIGHT),
        detections=None,
    )


def _not_looked_at(index: int, at_s: float, searched: Searched) -> Looked:
    return Looked(frame_index=index, at_s=at_s, percent=searched.percent, size=searched.size, detections=None)


def _shows_something(detections: Detections | None) -> bool:
    """Asked when they are there."""
    if detections is None or detections.cancelled() or detections.exception() is not None:
        return False
    return bool(detections.result())
