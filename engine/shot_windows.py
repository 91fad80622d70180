"""Frames become the overlapping windows that TransNet V2 looks at, with bounded memory.

The convention is that of the reference (TransNetV2, inference/transnetv2.py): windows of 100 frames every 50, of which the
middle 50 count; before the first frame lie 25 copies of it, behind the last one as many of that as are needed.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 48, 27
WINDOW = 100
"""Frames that the model sees at once."""
STEP = 50
"""Frames of a window that it is asked about."""
MARGIN = (WINDOW - STEP) // 2
"""Frames before and behind those, for context."""

Small = NDArray[np.uint8]
"""uint8[27, 48, 3], RGB."""
Window = NDArray[np.uint8]
"""uint8[100, 27, 48, 3]; of the i-th, the frames 25..74 are the frames 50i..50i+49 of the video."""


class Windows:
    """The windows of one video, while its frames come: 0.4 MB whatever its length."""

    def __init__(self, *, behind: int = 0) -> None:
        """behind: how many frames of the video need no answer; the windows are those from the first that does on."""
        self.asked = behind // STEP * STEP
        """Frames of the video about which a window was given away, or never will be: a multiple of 50."""
        self.added = max(self.asked - MARGIN, 0)
        """Frames of the video so far; the first one to be added is this one."""
        self._frames = np.empty((WINDOW, HEIGHT, WIDTH, 3), np.uint8)
        self._filled = 0

    def add(self, frame: Small) -> Window | None:
        """Add the next frame; the window that it completes, if it does."""
        if self.added == 0:
            self._frames[:MARGIN] = frame
            self._filled = MARGIN
        self._frames[self._filled] = frame
        self._filled += 1
        self.added += 1
        return self._taken() if self._filled == WINDOW else None

    def end(self) -> Iterator[Window]:
        """The windows of the frames that nobody was asked about, when no more frames come."""
        while self.asked < self.added:
            self._frames[self._filled :] = self._frames[self._filled - 1]
            yield self._taken()

    def _taken(self) -> Window:
        window = self._frames.copy()
        self._frames[:-STEP] = window[STEP:]
        self._filled = WINDOW - STEP
        self.asked += STEP
        return window
