"""The model that finds shots: loaded by the first task that needs it, lost with its server, and loaded again."""

import asyncio
import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Generator
from pathlib import Path

import msgspec
import structlog

from consumers.load_faults import closed, every_fault_named
from consumers.model_store import SHIPPED_MODEL
from consumers.one_for_all import OneForAll
from consumers.settings import ConsumerSettings
from contracts.crashpoints import crashpoint
from contracts.failures import Failure, FailureCode
from engine.shot_model import open_shot_model, shot_model_file
from engine.shot_workers import LooksForShots, ShotWorkers
from engine.sources import ModelSource, is_address, remote_model
from engine.status import EngineState, StatusBoard, Step

logger = structlog.get_logger(__name__)


class LoadedShots(msgspec.Struct, frozen=True, kw_only=True):
    """A model that may serve."""

    name: str
    engine_type: str
    finder: LooksForShots


class ShotRoom:
    """Loads the model once for all who wait, and again after a failure."""

    def __init__(
        self, load: Callable[[], LoadedShots], *, cores: int, announce: Callable[[], None] = lambda: None
    ) -> None:
        """load: blocks; raises `Failure`. cores: how many may be used."""
        self._load = load
        self._cores = cores
        self._announce = announce
        self._board = StatusBoard(tell=self._tell)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loading = OneForAll(self._load_now)
        self._users: Counter[ShotWorkers] = Counter()
        self._counting = threading.Lock()
        self._is_closed = False
        self._ready: ShotWorkers | None = None
        self.model: LoadedShots | None = None
        """What is loaded; None before and after a failure."""

    @property
    def state(self) -> EngineState:
        return self._board.state

    async def workers(self) -> ShotWorkers:
        """The workers, loading the model if nobody has.

        Raises `Failure`: `model_missing`, `model_corrupt`, `model_not_a_detector`, `engine_unavailable`; the next call
        tries again.
        """
        if self._ready is not None:
            return self._ready
        return await self._loading.outcome()

    @contextlib.contextmanager
    def used(self, workers: ShotWorkers) -> Generator[None]:
        """While a task works with them, in its thread. Those whose server goes away are closed behind their last user.

        Raises `Failure(engine_unavailable)` if that has happened already: the next ones may be had.
        """
        with self._counting:
            if not self._serves(workers):
                raise Failure(FailureCode.ENGINE_UNAVAILABLE, "the model for shots was lost just now")
            self._users[workers] += 1
        try:
            yield
        finally:
            if workers.lost is not None:  # asked of them: what a task fails of may be the engine for objects
                self._lose(workers, workers.lost)
            if self._let_go(workers):
                workers.close()

    def close(self) -> None:
        """Free the model; nobody uses it any more. One that is still being loaded will not serve."""
        self._is_closed = True
        if self._ready is not None:
            self._ready.close()
            self._ready = self.model = None

    async def _load_now(self) -> ShotWorkers:
        self._loop = asyncio.get_running_loop()
        self._board.step(Step.LOAD_STARTED)
        try:
            with every_fault_named():
                loaded = await asyncio.to_thread(self._load)
            workers = ShotWorkers(loaded.finder, count=self._cores)
        except Failure as failure:
            self._board.step(Step.LOAD_FAILED, str(failure))
            raise
        if self._is_closed:
            workers.close()
            raise closed()
        self._ready, self.model = workers, loaded
        crashpoint("consumer.shots.loaded")
        self._board.step(Step.LOADED)
        return self._ready

    def _lose(self, workers: ShotWorkers, reason: str) -> None:
        with self._counting:
            if not self._serves(workers):  # another task was faster
                return
            self._ready = self.model = None
        self._board.step(Step.LOST, reason)

    def _let_go(self, workers: ShotWorkers) -> bool:
        """True if nobody will use them any more."""
        with self._counting:
            self._users[workers] -= 1
            if self._users[workers] > 0 or self._serves(workers):
                return False
            del self._users[workers]
            return True

    def _serves(self, workers: ShotWorkers) -> bool:
        return self._ready is workers

    def _tell(self, state: EngineState) -> None:
        logger.info("engine for shots", status=state.status.api_name, reason=state.reason)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._announce)  # a loss is seen in the thread of a task


def shot_room_of(settings: ConsumerSettings, *, announce: Callable[[], None]) -> ShotRoom:
    """A room for the model that the settings name; nothing is loaded yet."""

    def load() -> LoadedShots:
        model = open_shot_model(_source(settings), provider=settings.provider)
        return LoadedShots(name=model.card.name, engine_type=model.card.engine_type, finder=model)

    return ShotRoom(load, cores=settings.workers, announce=announce)


def _source(settings: ConsumerSettings) -> ModelSource:
    """Where the model is. Raises `Failure(model_missing)`."""
    folders = [settings.models, SHIPPED_MODEL.parent]
    named = settings.shot_model
    if named is None:
        return shot_model_file(folders)
    if is_address(named):
        return remote_model(named, folders=folders)
    places = [Path(named), *(folder / f"{named.removesuffix('.onnx')}.onnx" for folder in folders)]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise Failure(FailureCode.MODEL_MISSING, f"no model {named!r} for shots")
    return found
