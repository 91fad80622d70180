"""The engine's life: loaded by the first command that needs it, swapped for another model, watched by everybody."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec
import structlog

from consumers.load_faults import closed, every_fault_named
from consumers.models import Found, Models
from consumers.one_for_all import OneForAll
from contracts.events import ActiveModel, EngineStatus, ModelOutcome
from contracts.failures import Failure, FailureCode
from engine.batching import Workers
from engine.detector import Detector
from engine.loading import load_detector
from engine.models import ModelCard
from engine.sources import ModelSource, RemoteModel
from engine.status import EngineState, StatusBoard, Step

TRANSIENT = frozenset((FailureCode.ENGINE_UNAVAILABLE, FailureCode.MODEL_MISSING))
"""A model that failed so may load a little later: a Loader comes back, a slow disk shows its file."""

logger = structlog.get_logger(__name__)


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """A detector that may serve."""

    active: ActiveModel | None
    source: ModelSource
    detector: Detector
    copied_since: str | None
    """Why the copy here serves, and not what the Loader has."""
    refused: str | None = None
    """Why another one that was chosen does not serve."""

    @property
    def warnings(self) -> tuple[str, ...]:
        copied = None if self.copied_since is None else f"the copy here serves: {self.copied_since}"
        return tuple(warning for warning in (self.refused, *self.detector.model.warnings, copied) if warning)


BEHIND_STOP_S = 10.0
"""Then another model takes its place all the same."""

Behind = Callable[["EngineRoom", ModelSource], Coroutine[Any, Any, None]]
"""What goes on behind a model that serves, or a server's that is away; cancelled before another one takes its place.

That is where a faster engine is built and a server is looked after: it tells its steps (`EngineRoom.step`) and puts its
detector in place (`use`).
"""


class EngineRoom:
    """Loads the detector once for all who wait, and again after a failure or for another model."""

    def __init__(
        self,
        *,
        models: Models,
        workers: Callable[[Detector], Workers],
        load: Callable[[ModelSource], Detector] = load_detector,
        announce: Callable[[], None] = lambda: None,
        behind: Behind | None = None,
    ) -> None:
        self._models = models
        self._make_workers = workers
        self._load = load
        self._announce = announce
        self._behind = behind
        self._running_behind: asyncio.Task[None] | None = None
        self._board = StatusBoard(tell=self._tell)
        self._loading = OneForAll(self._load_what_is_active)
        self._one_at_a_time = asyncio.Lock()
        self._serving: Loaded | None = None
        self._is_closed = False
        self._asked: ModelSource | None = None
        """What was to be loaded last."""
        self.model: ModelCard | None = None
        """What is loaded; None before and after a failure."""
        self.ready: Workers | None = None
        """The workers once they are there; None before and after a failure."""
        self._is_lost = asyncio.Event()
        self.outcome: ModelOutcome | None = None
        """What became of the last model that was chosen; None before one was."""

    @property
    def state(self) -> EngineState:
        return self._board.state

    async def workers(self) -> Workers:
        """The workers, loading the model if nobody has.

        Raises `Failure`: `model_missing`, `model_corrupt`, `model_not_a_detector`, `engine_unavailable`; the next call
        tries again.
        """
        if self.ready is not None:
            return self.ready
        return await self._loading.outcome()

    async def change(self, active: ActiveModel | None) -> bool:
        """Serve this model from now on; one that fails leaves what serves, and `outcome` says why.

        False: it failed of something that may have passed the next time.
        """
        async with self._one_at_a_time:
            try:
                if self.ready is None or self._serving is None:
                    await self._load_first(active)
                elif active != self._serving.active:
                    await self._swap(self.ready, active)
                elif self._serving.refused is not None:  # that one is no longer wanted
                    self._serving = msgspec.structs.replace(self._serving, refused=None)
                    if self.state.is_serving:
                        self._serve(self._serving)
            except Failure as failure:
                self._conclude(active, failure)
            else:
                if self.serves(active):
                    self._conclude(active, None)
            return self.outcome is None or self.outcome.failure is None or self.outcome.failure.code not in TRANSIENT

    async def refresh(self) -> None:
        """Where a copy serves since the Loader was away: serve what the Loader has, once it is back."""
        serving = self._serving
        if serving is None or serving.copied_since is None:
            return
        with contextlib.suppress(Failure):
            found = await self._found(serving.active)  # it may take minutes, and another model does not wait for it
            async with self._one_at_a_time:
                if found.copied_since is None and self.ready is not None and self._serving is serving:
                    await self._put_in_place(self.ready, await self._load_found(serving.active, found))

    def step(self, step: Step, reason: str | None = None) -> None:
        """Tell what happens to the engine; a warning about what serves outlives it. Raises `IllegalStepError`."""
        self._board.step(step, reason)
        warnings = () if self._serving is None else self._serving.warnings
        if self.state.status is EngineStatus.ENABLED and warnings:
            self._board.step(Step.LOADED_WITH_WARNING, "; ".join((*([reason] if reason else []), *warnings)))

    async def use(self, detector: Detector) -> None:
        """Put a detector in the place of the one that serves; nothing that is in flight fails.

        Raises `Failure(engine_unavailable)` if none serves any more.
        """
        if self.ready is None:
            raise Failure(FailureCode.ENGINE_UNAVAILABLE, "no model serves")
        await asyncio.to_thread(self.ready.use, detector)
        self.model = detector.model
        if self._serving is not None:
            self._serving = msgspec.structs.replace(self._serving, detector=detector)
            self._watch_device(self._serving)

    def serves(self, active: ActiveModel | None) -> bool:
        """Whether that choice is what serves."""
        return self._serving is not None and self._serving.active == active

    def watch(self, on_lost: Callable[[str], object]) -> None:
        """Be told once, from a thread, why the model that serves is lost: see `Detector.watch`."""
        if self._serving is not None:
            self._serving.detector.watch(on_lost)

    async def lost(self) -> str:
        """Wait until the GPU of what serves is lost to this process, which then can only end; why it is."""
        await self._is_lost.wait()
        return self.state.reason or ""

    def close(self) -> None:
        """Free the engine; running inferences end first. A model that is still being loaded will not serve."""
        self._is_closed = True
        self._models.close()
        if self._running_behind is not None:
            self._running_behind.cancel()
        if self.ready is not None:
            self.ready.close()
            self.ready = self.model = None

    async def _load_what_is_active(self) -> Workers:
        async with self._one_at_a_time:
            if self.ready is not None:  # a change was faster
                return self.ready
            return await self._load_first()

    async def _load_first(self, *chosen: ActiveModel | None) -> Workers:
        """Load what was chosen; without an argument what the store says."""
        self._board.step(Step.LOAD_STARTED)
        try:
            [active] = chosen or [await asyncio.to_thread(self._models.active)]
            loaded = await self._loaded_or_the_one_before(active)
            workers = self._make_workers(loaded.detector)
        except Failure as failure:
            self._board.step(Step.LOAD_FAILED, str(failure))
            if isinstance(self._asked, RemoteModel) and failure.code in TRANSIENT:
                self._start_behind(self._asked)
            raise
        if self._is_closed:
            workers.close()
            raise closed()
        self.ready = workers
        self._serve(loaded)
        self._start_behind(loaded.source)
        return self.ready

    async def _swap(self, workers: Workers, active: ActiveModel | None) -> None:
        try:
            loaded = await self._loaded(active)
        except Failure as failure:
            refused = f"{_name(active)} does not serve: {failure}"
            self._board.step(Step.LOAD_FAILED, refused)
            if self._serving is not None:
                self._serving = msgspec.structs.replace(self._serving, refused=refused)
            raise
        await self._put_in_place(workers, loaded)

    async def _put_in_place(self, workers: Workers, loaded: Loaded) -> None:
        await self._stop_behind()
        await asyncio.to_thread(workers.use, loaded.detector)
        self._serve(loaded)
        self._start_behind(loaded.source)

    async def _loaded_or_the_one_before(self, active: ActiveModel | None) -> Loaded:
        """A consumer that starts serves what served before, as those do that saw the new one fail."""
        try:
            return await self._loaded(active)
        except Failure as failure:
            if active is None or active.previous is None:
                raise
            logger.warning("the model before serves", chosen=active.file, reason=str(failure))
            self._conclude(active, failure)
            try:
                before = await self._loaded(active.previous)
            except Failure:
                raise failure from None
            return msgspec.structs.replace(before, refused=f"{_name(active)} does not serve: {failure}")

    async def _loaded(self, active: ActiveModel | None) -> Loaded:
        return await self._load_found(active, await self._found(active))

    async def _found(self, active: ActiveModel | None) -> Found:
        with every_fault_named():
            return await self._models.find(active)

    async def _load_found(self, active: ActiveModel | None, found: Found) -> Loaded:
        self._asked = found.source
        with every_fault_named():
            detector = await asyncio.to_thread(self._load, found.source)
        return Loaded(active=active, source=found.source, detector=detector, copied_since=found.copied_since)

    def _serve(self, loaded: Loaded) -> None:
        self._serving, self.model = loaded, loaded.detector.model
        step = Step.LOADED_WITH_WARNING if loaded.warnings else Step.LOADED
        self._board.step(step, "; ".join(loaded.warnings) or None)
        self._watch_device(loaded)

    def _watch_device(self, loaded: Loaded) -> None:
        """A server's model is looked after by who can bring it back (`consumers/remote.py`); a lost GPU nobody can."""
        if not isinstance(loaded.source, RemoteModel):
            loop = asyncio.get_running_loop()
            loaded.detector.watch(lambda reason: loop.call_soon_threadsafe(self._lose, reason))

    def _lose(self, reason: str) -> None:
        if self.state.is_serving:
            self._board.step(Step.LOST, f"the GPU is lost to this process: {reason}")
            self._is_lost.set()

    def _start_behind(self, source: ModelSource) -> None:
        if self._behind is not None:
            if self._running_behind is not None:
                self._running_behind.cancel()
            self._running_behind = asyncio.create_task(self._behind(self, source))
            self._running_behind.add_done_callback(_ended)

    async def _stop_behind(self) -> None:
        if self._running_behind is not None:
            self._running_behind.cancel()
            await asyncio.wait((self._running_behind,), timeout=BEHIND_STOP_S)

    def _conclude(self, active: ActiveModel | None, failure: Failure | None) -> None:
        revision = active.revision if active else None
        self.outcome = ModelOutcome(revision=revision, failure=failure.record() if failure else None)
        self._announce()

    def _tell(self, state: EngineState) -> None:
        model = self.model.name if self.model else None
        logger.info("engine", status=state.status.api_name, model=model, reason=state.reason)
        self._announce()


def _ended(behind: "asyncio.Task[None]") -> None:
    if not behind.cancelled() and (error := behind.exception()) is not None:
        logger.error("ended behind the engine", error=repr(error))


def _name(active: ActiveModel | None) -> str:
    return "the default model" if active is None else Path(active.file).name
