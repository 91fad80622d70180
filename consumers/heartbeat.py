"""What a consumer says of itself: once a second, and at every change of its engines, that it lives and how it is."""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from itertools import islice

import structlog

from consumers.engine_room import EngineRoom
from consumers.outgoing import Sender, Undelivered, presence_message
from consumers.shot_room import ShotRoom
from contracts.events import COLOURS_MAX, ConsumerSeen, EngineSeen

PERIOD_S = 1.0

logger = structlog.get_logger(__name__)


class Heartbeat:
    """Of one consumer, on the presence exchange."""

    def __init__(
        self,
        id: str,  # noqa: A002 - the message's own word
        *,
        objects: EngineRoom,
        shots: ShotRoom,
        sender: Sender,
        tasks_running: Callable[[], int],
        is_stopping: Callable[[], bool],
    ) -> None:
        self._id = id
        self._host = socket.gethostname()
        self._objects = objects
        self._shots = shots
        self._sender = sender
        self._tasks_running = tasks_running
        self._is_stopping = is_stopping

    async def run(self, news: asyncio.Event) -> None:
        """Beat for ever, early when there is news."""
        while True:
            news.clear()
            await self.beat()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PERIOD_S):
                    await news.wait()

    async def beat(self) -> None:
        """Say it once; a broker that is away misses it."""
        try:
            await self._sender.send(presence_message(self._seen()))
        except Undelivered as error:
            logger.debug("not seen", error=str(error))

    def _seen(self) -> ConsumerSeen:
        state, model = self._objects.state, self._objects.model
        return ConsumerSeen(
            id=self._id,
            host=self._host,
            engine_type=model.engine_type if model else None,
            status=state.status,
            model=model.name if model else None,
            error_message=state.reason,
            model_outcome=self._objects.outcome,
            shots=self._shot_engine(),
            class_colours=dict(islice(model.colours.items(), COLOURS_MAX)) if model else {},
            tasks_running=self._tasks_running(),
            is_stopping=self._is_stopping(),
        )

    def _shot_engine(self) -> EngineSeen:
        state, model = self._shots.state, self._shots.model
        return EngineSeen(
            status=state.status,
            engine_type=model.engine_type if model else None,
            model=model.name if model else None,
            error_message=state.reason,
        )
