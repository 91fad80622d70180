"""How long a task outlasts an engine that is away: a server that restarts costs a pause, one that stays away the task."""

import asyncio
import threading
import time

from contracts.failures import Failure, FailureCode
from contracts.results import Checkpoint

AWAY_MAX_S = 60.0
"""Without anything new; then the task fails with what the engine said."""
RETRY_PERIOD_S = 2.0
_POLL_S = 0.05


class Absence:
    """What a task has waited since it last came on."""

    def __init__(self, reached: Checkpoint | None) -> None:
        self._reached = reached
        self._since_s = time.monotonic()

    def is_outlasted(self, failure: Failure, *, reached: Checkpoint | None) -> bool:
        """Whether what failed may be tried again. reached: as far as the task has come by now."""
        if reached != self._reached:
            self._reached, self._since_s = reached, time.monotonic()
        return failure.code is FailureCode.ENGINE_UNAVAILABLE and time.monotonic() - self._since_s < AWAY_MAX_S


async def pause(stop: threading.Event) -> None:
    """Wait until it is time to try again, or until `stop`."""
    for _ in range(round(RETRY_PERIOD_S / _POLL_S)):
        if stop.is_set():
            return
        await asyncio.sleep(_POLL_S)
