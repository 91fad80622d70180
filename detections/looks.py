"""What was seen in every frame that was looked at, also in those that were not reported; and between them."""

import bisect
from collections.abc import Iterable, Iterator

import msgspec

from contracts.detections import Detection

_HELD_SHARE = 0.5
"""A box without a successor stays for this share of the way to the next look."""


class Looks:
    """Detections by frame index. Added to by any thread; read when all are there.

    About 300 bytes a detection: an hour of 25 frames a second, every 4th looked at, 10 objects each: 70 MB.
    """

    def __init__(self) -> None:
        self._seen: dict[int, list[Detection]] = {}
        self._indices: list[int] = []

    def add(self, frame_index: int, detections: list[Detection]) -> None:
        """What one frame shows."""
        self._seen[frame_index] = detections

    def at(self, frame_index: int) -> list[Detection]:
        """What to draw on a frame: what was seen there, or on its way from the look before to the next one."""
        if len(self._indices) != len(self._seen):
            self._indices = sorted(self._seen)
        after = bisect.bisect_right(self._indices, frame_index)
        if after == 0:
            return []
        before = self._indices[after - 1]
        if before == frame_index or after == len(self._indices):
            return self._seen[before] if frame_index - before <= self._typical_gap() else []
        following = self._indices[after]
        share = (frame_index - before) / (following - before)
        return list(_between(self._seen[before], self._seen[following], share))

    def _typical_gap(self) -> int:
        return min((after - before for before, after in zip(self._indices, self._indices[1:], strict=False)), default=1)


def _between(before: Iterable[Detection], after: Iterable[Detection], share: float) -> Iterator[Detection]:
    """Each box moved by its share of the way to its nearest box of the same class in the next look."""
    free = list(after)
    for seen in before:
        successor = _nearest(seen, free)
        if successor is not None:
            free.remove(successor)
            yield _moved(seen, successor, share)
        elif share <= _HELD_SHARE:
            yield seen


def _nearest(seen: Detection, candidates: Iterable[Detection]) -> Detection | None:
    """The box that may be the same object: of its class, and not further away than it is large."""
    near = [
        (dx * dx + dy * dy, index, each)
        for index, each in enumerate(candidates)
        if each.class_num == seen.class_num
        and (dx := abs(each.center_x - seen.center_x)) <= seen.width
        and (dy := abs(each.center_y - seen.center_y)) <= seen.height
    ]
    return min(near)[2] if near else None


def _moved(before: Detection, after: Detection, share: float) -> Detection:
    def between(start: float, end: float) -> float:
        return start + (end - start) * share

    return msgspec.structs.replace(
        before,
        center_x=between(before.center_x, after.center_x),
        center_y=between(before.center_y, after.center_y),
        width=between(before.width, after.width),
        height=between(before.height, after.height),
    )
