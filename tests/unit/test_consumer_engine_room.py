"""The engine's life in a consumer."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from consumers.engine_room import EngineRoom
from contracts.events import EngineStatus
from contracts.failures import Failure, FailureCode
from engine.detector import Detector
from engine.loading import load_detector
from tests.broker.consumer_stage import scripted_model


class Loader:
    """Loads a scripted model and counts how often it was asked; it waits while it is held."""

    def __init__(self, model: Path) -> None:
        self.model = model
        self.loads = 0
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def __call__(self, path: Path) -> Detector:
        self.loads += 1
        self.may_go_on.wait(10)
        return load_detector(path)


def room_of(loader: Callable[[Path], Detector], model: Path, seen: list[EngineStatus]) -> EngineRoom:
    room = EngineRoom(
        find_model=lambda: model, workers_count=1, load=loader, announce=lambda: seen.append(room.state.status)
    )
    return room


async def test_nothing_is_loaded_before_somebody_asks(tmp_path: Path) -> None:
    loader = Loader(scripted_model(tmp_path))
    room = room_of(loader, loader.model, [])

    assert (room.state.status, room.ready, loader.loads) == (EngineStatus.NONE, None, 0)


async def test_all_who_wait_share_one_load(tmp_path: Path) -> None:
    seen: list[EngineStatus] = []
    loader = Loader(scripted_model(tmp_path))
    room = room_of(loader, loader.model, seen)
    first, *others = await asyncio.gather(*(room.workers() for _ in range(5)))

    assert all(workers is first for workers in others)
    assert await room.workers() is first
    assert loader.loads == 1
    assert seen == [EngineStatus.DOWNLOADING, EngineStatus.ENABLED]
    assert room.model is not None
    assert (room.model.engine_type, room.model.name) == ("scripted", "red")
    room.close()


async def test_one_who_stops_waiting_does_not_take_the_load_from_the_others(tmp_path: Path) -> None:
    loader = Loader(scripted_model(tmp_path))
    loader.may_go_on.clear()
    room = room_of(loader, loader.model, [])
    impatient = asyncio.create_task(room.workers())
    patient = asyncio.create_task(room.workers())
    await asyncio.sleep(0)
    impatient.cancel()
    await asyncio.wait((impatient,))
    loader.may_go_on.set()

    assert await patient is room.ready
    assert loader.loads == 1
    room.close()


async def test_after_a_failure_the_next_one_tries_again(tmp_path: Path) -> None:
    seen: list[EngineStatus] = []
    loader = Loader(tmp_path / "red.json")
    room = room_of(loader, loader.model, seen)
    with pytest.raises(Failure) as failed:
        await room.workers()
    assert failed.value.code is FailureCode.MODEL_MISSING
    assert room.state.status is EngineStatus.ERROR
    assert "model_missing" in (room.state.reason or "")
    scripted_model(tmp_path)
    await room.workers()

    assert room.state.status is EngineStatus.ENABLED
    assert seen == [
        EngineStatus.DOWNLOADING,
        EngineStatus.ERROR,
        EngineStatus.DOWNLOADING,
        EngineStatus.ENABLED,
    ]
    room.close()


async def test_a_fault_that_nobody_named_is_an_engine_that_is_not_available(tmp_path: Path) -> None:
    def crash(_: Path) -> Detector:
        raise RuntimeError("no driver")

    room = room_of(crash, tmp_path, [])
    with pytest.raises(Failure, match="no driver") as failed:
        await room.workers()

    assert failed.value.code is FailureCode.ENGINE_UNAVAILABLE
    assert room.state.status is EngineStatus.ERROR
