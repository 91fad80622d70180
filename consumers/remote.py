"""A model of a server, as long as it is the one to serve: said to be lost when the server goes, back when it is back."""

import asyncio
from pathlib import Path

import structlog

from consumers.engine_room import EngineRoom
from contracts.failures import Failure
from engine.detector import Detector
from engine.loading import load_detector
from engine.sources import ModelSource, RemoteModel
from engine.status import Step

RETRY_PERIOD_S = 2.0
"""Between two looks whether a server is back."""

logger = structlog.get_logger(__name__)


async def look_after(room: EngineRoom, source: ModelSource) -> None:
    """Behind a model of a server; a file is never lost.

    What brings a lost model back is loading it again: the server may be back with another one under its name.
    """
    if isinstance(source, Path):
        return
    while True:
        if room.ready is not None:
            room.step(Step.LOST, await _lost(room))
        detector = await _back(source)
        try:
            await _serve_again(room, detector)
        except Failure as failure:
            logger.info("away again", model=str(source), reason=str(failure))


async def _serve_again(room: EngineRoom, detector: Detector) -> None:
    if room.ready is None:
        detector.close()  # what has never served is loaded as it always is
        await room.workers()
    else:
        await room.use(detector)
        room.step(Step.RECOVERED)


async def _lost(room: EngineRoom) -> str:
    """Wait until the model that serves is lost; why it is."""
    loop = asyncio.get_running_loop()
    lost: asyncio.Future[str] = loop.create_future()

    def tell(reason: str) -> None:
        if not lost.done():
            lost.set_result(reason)

    room.watch(lambda reason: loop.call_soon_threadsafe(tell, reason))
    return await lost


async def _back(model: RemoteModel) -> Detector:
    """Wait until the model can be loaded."""
    while True:
        await asyncio.sleep(RETRY_PERIOD_S)
        try:
            return await asyncio.to_thread(load_detector, model)
        except Failure as failure:
            logger.debug("still away", model=str(model), reason=str(failure))
