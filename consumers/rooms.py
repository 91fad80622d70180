"""The engine room as it is set: which runtime loads a model, and what goes on behind the one that serves."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from consumers.acceleration import Acceleration
from consumers.convert import Converter, machine_here
from consumers.engine_room import EngineRoom
from consumers.model_store import ModelStore
from consumers.remote import look_after
from consumers.settings import ConsumerSettings
from engine.batching import Workers
from engine.loading import load_detector
from engine.sources import ModelSource, RemoteModel

GPU_PROVIDERS = ("auto", "cuda")
"""With these a GPU is looked for, and engines are built for it."""


def room_of(settings: ConsumerSettings, models: ModelStore, *, announce: Callable[[], None]) -> EngineRoom:
    """An engine room that serves what the store says; nothing is loaded yet."""
    accelerated = Acceleration(
        look=partial(machine_here, settings.tensorrt_library) if settings.provider in GPU_PROVIDERS else lambda: None,
        converter=lambda machine: Converter(machine, loader=models.loader),
        load=partial(load_detector, provider=settings.provider),
    )

    async def go_on_behind(room: EngineRoom, source: ModelSource) -> None:
        match source:
            case RemoteModel():
                await look_after(room, source)
            case Path():
                await accelerated.behind(room, source)

    return EngineRoom(
        models=models,
        workers=partial(
            Workers, count=settings.workers, batch_max=settings.batch_max, batch_wait_s=settings.batch_wait_s
        ),
        load=accelerated.load,
        announce=announce,
        behind=go_on_behind,
    )
