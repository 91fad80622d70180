"""A small model for tests of what surrounds models for shots, and videos with cuts to find."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from contracts.failures import Failure, FailureCode
from engine.shot_model import Odds
from engine.shot_windows import MARGIN, STEP, Window
from tests.media import BLUE, GRAY, GREEN, Rgb, Square, write_video

CHANGE = 20
"""Difference of mean colours of two frames that is a cut, of 255."""
SIDE = 4096
"""Of a square that is the background of every clip here."""
BACKGROUNDS = (GRAY, GREEN, BLUE)


class CutFinder:
    """Says of a frame that the next one has another mean colour; of both that they are in a transition."""

    def __init__(self, *, rows_best: int | None = 1, fails_at: frozenset[int] = frozenset()) -> None:
        """fails_at: numbers of windows, from 0, that raise `failure`."""
        self.rows_best = rows_best
        self.windows: list[Window] = []
        self.batches: list[int] = []
        self.failure = Failure(FailureCode.INFERENCE_FAILED, "as the test wants it")
        self.is_closed = False
        self._fails_at = fails_at

    def look(self, windows: Sequence[Window]) -> tuple[Odds, Odds]:
        calls = range(len(self.windows), len(self.windows) + len(windows))
        self.windows += windows
        self.batches.append(len(windows))
        if self._fails_at & set(calls):
            raise self.failure
        means = np.asarray(windows, np.float32).mean(axis=(2, 3))
        changed = np.abs(np.diff(means, axis=1)).max(axis=2) > CHANGE
        boundary = changed[:, MARGIN : MARGIN + STEP]
        transition = boundary | changed[:, MARGIN - 1 : MARGIN + STEP - 1]
        return boundary.astype(np.float32), transition.astype(np.float32)

    def close(self) -> None:
        self.is_closed = True


def scenes(*cuts: int, over: Sequence[Square] = ()) -> tuple[Square, ...]:
    """The backgrounds of a clip, another one from each of these frames on, and what is to be seen before them."""
    starts = (0, *cuts)
    ends = (*cuts, 1 << 30)
    return (*(_background(at, start, end) for at, (start, end) in enumerate(zip(starts, ends, strict=True))), *over)


def write_scenes(path: Path, *cuts: int, frames: int, over: Sequence[Square] = (), **how: Any) -> Path:
    """Write a clip that changes its background at these frames."""
    return write_video(path, frames=frames, squares=scenes(*cuts, over=over), **how)


def _background(at: int, start: int, end: int) -> Square:
    rgb: Rgb = BACKGROUNDS[at % len(BACKGROUNDS)]
    return Square(rgb=rgb, x=0, y=0, side=SIDE, from_frame=start, until_frame=end)
