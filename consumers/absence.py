"""How long a task outlasts an engine that is away: a server that restarts costs a pause, one that stays away the task."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable

from consumers.stopping import stopped
from contracts.failures import Failure, FailureCode
from contracts.results import Checkpoint

AWAY_MAX_S = 60.0
"""From the first failure on, without anything new; then the task fails with what the engine said."""
RETRY_PERIOD_S = 2.0


class Absence:
    """What a task has waited since the engine was first away where it stands."""

    def __init__(self, *, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._reached: Checkpoint | None = None
        self._since_s: float | None = None
        """Not from the start: to come to where a long video was left takes minutes in which no engine is asked."""

    def is_outlasted(self, failure: Failure, *, reached: Checkpoint | None) -> bool:
        """Whether what failed may be tried again. reached: as far as the task has come by now."""
        if self._since_s is None or reached != self._reached:
            self._reached, self._since_s = reached, self._now_s()
        return failure.code is FailureCode.ENGINE_UNAVAILABLE and self._now_s() - self._since_s < AWAY_MAX_S


async def pause(stop: threading.Event) -> None:
    """Wait until it is time to try again, or until `stop`."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(RETRY_PERIOD_S):
            await stopped(stop)
