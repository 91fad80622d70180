"""When each frame of a video is shown, by what its file says of it."""

import math

CLOCK_RESET_S = 1.0
"""Times that fall by more than this start anew (a recorder was restarted); by less, they stand still."""
FALLBACK_FRAME_S = 1 / 25
"""Time between frames where the file states neither times nor a rate."""


class Timeline:
    """Times of frames: since the first one, never falling, and made up from the rate where the file has none."""

    def __init__(self, rate: float, *, clock_s: float | None = None) -> None:
        """rate: frames a second as the file states it; 0: it does not. clock_s: when its clock begins again; None: never."""
        self._clock_s = clock_s
        self._step_s = 1 / rate if math.isfinite(rate) and rate > 0 else FALLBACK_FRAME_S
        self._origin_s: float | None = None
        self._last_s: float | None = None

    def at_s(self, stated_s: float | None) -> float:
        """The time of the next frame. stated_s: by the file's own clock; None: it does not say."""
        expected_s = 0.0 if self._last_s is None else self._last_s + self._step_s
        if stated_s is None:
            self._last_s = expected_s
            return expected_s
        last_s = self._last_s or 0.0
        if self._origin_s is not None and self._clock_s is not None:  # of all the times that it may be, the nearest
            rounds = round((stated_s - self._origin_s - last_s) / self._clock_s)
            self._origin_s += rounds * self._clock_s
        if self._origin_s is None or stated_s - self._origin_s < last_s - CLOCK_RESET_S:
            self._origin_s = stated_s - expected_s
        self._last_s = max(stated_s - self._origin_s, last_s)
        return self._last_s
