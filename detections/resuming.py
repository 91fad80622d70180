"""How long an upload over broken connections is tried for: ever more slowly, and anew whenever the edge has more of it."""

import random
import time
from collections.abc import Callable

from detections.answers import ClientError

GIVE_UP_AFTER_S = 100.0
"""Without a new byte at the edge; an edge waits for its client a little longer (`EDGE_UPLOAD_RESUME_S`)."""
DELAY_FIRST_S = 0.2
DELAY_MAX_S = 5.0
ASKED_MAX_S = 30.0
"""What an edge may ask for with `Retry-After`."""

PASSING = frozenset((408, 429, 502, 503, 504))
"""Statuses of an upload that may go better the next time: stalled, too many at once, away."""
CONFLICTS = frozenset(("upload_busy", "upload_offset_mismatch"))
"""Codes that say the same: another connection of ours still counts, or the upload stands elsewhere by now."""


class Interrupted(Exception):
    """An upload broke off in a way that may pass."""

    def __init__(self, error: ClientError, *, asked_s: float = 0.0) -> None:
        """asked_s: how long the edge wants to be left alone."""
        super().__init__(str(error))
        self.error = error
        self.asked_s = asked_s


class Patience:
    """One upload's tries."""

    def __init__(self, *, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self._offset_bytes = 0
        self._tries = 0
        self._since_s: float | None = None

    def stands_at(self, offset_bytes: int) -> None:
        """The edge has so much of the upload; more than before is worth as many tries again."""
        if offset_bytes > self._offset_bytes:
            self._offset_bytes, self._tries, self._since_s = offset_bytes, 0, None

    def delay_s(self, broken: Interrupted) -> float:
        """How long to wait before the next try. Raises the error itself when it has been long enough."""
        now_s = self._clock_s()
        self._since_s = now_s if self._since_s is None else self._since_s
        if now_s - self._since_s > GIVE_UP_AFTER_S:
            raise broken.error
        delay_s = min(DELAY_MAX_S, DELAY_FIRST_S * 2**self._tries)
        self._tries += 1
        return max(min(broken.asked_s, ASKED_MAX_S), delay_s * random.uniform(0.5, 1.0))  # noqa: S311 - spreads clients, hides nothing
