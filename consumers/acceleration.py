"""What the engine room of a consumer with a GPU is given: how a model is loaded, and what goes on behind it.

`EngineRoom(load=acceleration.load, behind=acceleration.behind)`; without a GPU both do as if there were no TensorRT.
"""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import structlog

from consumers.convert import Converter, Machine, Room, load_fastest, machine_here
from contracts.failures import Failure
from engine.detector import Detector
from engine.loading import load_detector
from engine.sources import ModelSource, RemoteModel
from engine.status import Step

logger = structlog.get_logger(__name__)


class Acceleration:
    """Finds out once what this machine is, when the first model is loaded: that costs a CUDA context."""

    def __init__(
        self,
        *,
        look: Callable[[], Machine | None] = machine_here,
        converter: Callable[[Machine], Converter] = Converter,
        load: Callable[[ModelSource], Detector] = load_detector,
    ) -> None:
        self._look = look
        self._make_converter = converter
        self._load = load
        self._looking = threading.Lock()
        self._has_looked = False
        self._machine: Machine | None = None
        self._missing: str | None = None
        self._serving: Detector | None = None
        """What was loaded last: a room goes on with what is behind it right after it has loaded it."""

    def load(self, model: ModelSource) -> Detector:
        """The model, as the fastest engine that there is. Raises `Failure`."""
        if isinstance(model, RemoteModel):
            return self._load(model)
        machine = self._here()
        self._serving = self._load(model) if machine is None else load_fastest(model, machine, load=self._load)
        return self._serving

    async def behind(self, room: Room, model: Path) -> None:
        """Make a faster engine of the model that serves, if there is a GPU; a GPU without TensorRT is worth a warning."""
        machine = await asyncio.to_thread(self._here)
        if self._missing is not None:
            room.step(Step.CONVERSION_STARTED)
            room.step(Step.CONVERSION_FAILED, f"{model.name} goes on as ONNX: {self._missing}")
        if machine is not None and self._serving is not None:
            await self._make_converter(machine).run(model, serving=self._serving, room=room)

    def _here(self) -> Machine | None:
        with self._looking:
            if not self._has_looked:
                self._has_looked = True
                try:
                    self._machine = self._look()
                except Failure as failure:
                    self._missing = failure.detail
                    logger.warning("a GPU without TensorRT", reason=failure.detail)
            return self._machine
