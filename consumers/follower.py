"""Which model was chosen, as one consumer learns it."""

import asyncio
import contextlib

import structlog

from consumers.engine_room import EngineRoom
from consumers.models import Models
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
        """In the store, at the last look."""
        self._chosen: ActiveModel | None = None
        self._is_heard = False
        """Whether that was announced."""
        self._waits_for_a_command = True
        """While nobody has chosen another model than was found at the start."""
        self._tries_left = 0
        self._news = asyncio.Event()

    async def begin(self) -> None:
        """What is active now is loaded by the first command; if that got the one before, it is tried again from then on."""
        with contextlib.suppress(Failure):  # that command says why
            self._found = self._chosen = await asyncio.to_thread(self._models.active)
            self._tries_left = TRIES_MAX

    def hear(self, active: ActiveModel) -> None:
        """A choice was announced."""
        self._choose(active, is_heard=True)
        self._news.set()

    async def run(self) -> None:
        """For ever."""
        async with asyncio.TaskGroup() as running:
            running.create_task(self._follow())
            running.create_task(self._refresh())

    async def _follow(self) -> None:
        """Change the model at every choice; what failed of something that may pass is tried at every look."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_PERIOD_S):
                    await self._news.wait()
            self._news.clear()
            await self._look()
            if self._tries_left > 0 and (self._room.ready is not None or not self._waits_for_a_command):
                await self._try()

    async def _refresh(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_PERIOD_S)
            await self._room.refresh()

    async def _try(self) -> None:
        chosen = self._chosen
        self._tries_left -= 1
        if await self._room.change(chosen) and chosen == self._chosen:
            self._tries_left = 0
            if chosen is not None and self._is_heard and self._room.serves(chosen):
                await self._keep(chosen)

    async def _keep(self, chosen: ActiveModel) -> None:
        """A folder of this consumer's own does not hold what was chosen elsewhere: a restart would serve another one."""
        try:
            self._found = await asyncio.to_thread(self._models.keep, chosen)
        except Failure as failure:
            logger.warning("choice not kept", model=chosen.file, detail=failure.detail)
        else:
            if self._found != chosen == self._chosen:  # announced late, after a later one
                self._choose(self._found, is_heard=False)

    async def _look(self) -> None:
        try:
            found = await asyncio.to_thread(self._models.active)
        except Failure as failure:
            logger.warning("choice not readable", detail=failure.detail)
            return
        if found != self._found:
            self._found = found
            if found != self._chosen:
                self._choose(found, is_heard=False)

    def _choose(self, active: ActiveModel | None, *, is_heard: bool) -> None:
        self._chosen, self._is_heard, self._tries_left = active, is_heard, TRIES_MAX
        self._waits_for_a_command = False
