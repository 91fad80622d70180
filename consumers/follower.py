"""Which model was chosen, as one consumer learns it."""

import asyncio
import contextlib
import time

import structlog

from consumers.engine_room import EngineRoom, Models
from contracts.events import ActiveModel
from contracts.failures import Failure

LOOK_PERIOD_S = 3.0
"""Between two looks into the store."""

TRIES_MAX = 100
"""Of a choice that failed of something that may pass, one each look; then it waits for another choice, or a restart."""
REFRESH_PERIOD_S = 60.0
"""Between two questions to a Loader that was away when a model was loaded."""

logger = structlog.get_logger(__name__)


class Follower:
    """Follows the choice of a model: as it is announced, or as it is found in the store by whoever missed that."""

    def __init__(self, room: EngineRoom, models: Models) -> None:
        self._room = room
        self._models = models
        self._found: ActiveModel | None = None
        self._chosen: ActiveModel | None = None
        self._tries_left = 0
        self._news = asyncio.Event()

    async def begin(self) -> None:
        """What is active now is loaded by the first command, not by a change."""
        with contextlib.suppress(Failure):  # that command says why
            self._found = self._chosen = await asyncio.to_thread(self._models.active)

    def hear(self, active: ActiveModel) -> None:
        """A choice was announced."""
        self._choose(active)
        self._news.set()

    async def run(self) -> None:
        """Change the model at every choice; what failed of something that may pass is tried at every look."""
        refreshed_s = time.monotonic()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_PERIOD_S):
                    await self._news.wait()
            self._news.clear()
            await self._look()
            if self._tries_left > 0:
                await self._try()
            if time.monotonic() - refreshed_s > REFRESH_PERIOD_S:
                await self._room.refresh()
                refreshed_s = time.monotonic()

    async def _try(self) -> None:
        chosen = self._chosen
        self._tries_left -= 1
        if await self._room.change(chosen) and chosen == self._chosen:
            self._tries_left = 0

    async def _look(self) -> None:
        try:
            found = await asyncio.to_thread(self._models.active)
        except Failure as failure:
            logger.warning("choice not readable", detail=failure.detail)
            return
        if found != self._found:
            self._found = found
            if found != self._chosen:
                self._choose(found)

    def _choose(self, active: ActiveModel | None) -> None:
        self._chosen, self._tries_left = active, TRIES_MAX
