"""The engine's life: loaded by the first command that needs it, watched by everybody."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import msgspec
import structlog

from consumers.settings import ConsumerSettings
from contracts.failures import Failure, FailureCode
from engine.batching import Workers
from engine.detector import Detector
from engine.loading import load_detector
from engine.models import ModelCard
from engine.sources import ModelSource, is_address, remote_model
from engine.status import EngineState, StatusBoard, Step

SHIPPED_MODEL = Path(__file__).resolve().parent.parent / "models" / "aerial-vehicle.onnx"

logger = structlog.get_logger(__name__)


class ActiveModel(msgspec.Struct, frozen=True, kw_only=True):
    """`active.json` in the models folder."""

    file: str


class EngineRoom:
    """Loads the detector once for all who wait, and again after a failure."""

    def __init__(
        self,
        *,
        find_model: Callable[[], ModelSource],
        workers_count: int,
        load: Callable[[ModelSource], Detector] = load_detector,
        announce: Callable[[], None] = lambda: None,
    ) -> None:
        self._find_model = find_model
        self._workers_count = workers_count
        self._load = load
        self._announce = announce
        self._board = StatusBoard(tell=self._tell)
        self._loading: asyncio.Task[Workers] | None = None
        self.model: ModelCard | None = None
        """What is loaded; None before and after a failure."""
        self.ready: Workers | None = None
        """The workers once they are there; None before and after a failure."""

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
        if self._loading is None:
            self._loading = asyncio.create_task(self._load_and_tell())
            self._loading.add_done_callback(self._forget)
        return await asyncio.shield(self._loading)  # one who no longer waits must not take it from the others

    def close(self) -> None:
        """Free the engine; running inferences end first."""
        if self.ready is not None:
            self.ready.close()
            self.ready = self.model = None

    def _forget(self, loading: "asyncio.Task[Workers]") -> None:
        self._loading = None
        if not loading.cancelled():
            loading.exception()  # looked at, also if nobody waits any more

    async def _load_and_tell(self) -> Workers:
        self._board.step(Step.LOAD_STARTED)
        try:
            detector = await asyncio.to_thread(lambda: self._load(self._find_model()))
        except Failure as failure:
            self._board.step(Step.LOAD_FAILED, str(failure))
            raise
        except Exception as error:
            logger.exception("the engine did not load")
            failure = Failure(FailureCode.ENGINE_UNAVAILABLE, f"{type(error).__name__}: {error}")
            self._board.step(Step.LOAD_FAILED, str(failure))
            raise failure from error
        self.model = detector.model
        self.ready = Workers(detector, count=self._workers_count)
        warnings = "; ".join(detector.model.warnings)
        self._board.step(Step.LOADED_WITH_WARNING if warnings else Step.LOADED, warnings or None)
        return self.ready

    def _tell(self, state: EngineState) -> None:
        model = self.model.name if self.model else None
        logger.info("engine", status=state.status.api_name, model=model, reason=state.reason)
        self._announce()


def find_model(settings: ConsumerSettings) -> ModelSource:
    """The model to load: the setting, else what `active.json` names, else the shipped one."""
    if settings.model is not None:
        return _named(settings.model, settings.models)
    active = settings.models / "active.json"
    try:
        return _named(msgspec.json.decode(active.read_bytes(), type=ActiveModel).file, settings.models)
    except FileNotFoundError:
        return SHIPPED_MODEL
    except msgspec.DecodeError as error:
        raise Failure(FailureCode.MODEL_MISSING, f"{active.name} is unreadable: {error}") from error


def _named(name: str, folder: Path) -> ModelSource:
    if is_address(name):
        return remote_model(name, folders=[folder, SHIPPED_MODEL.parent])
    path = Path(name)
    if path.is_absolute() or path.exists():
        return path
    inside = folder / name
    if inside.exists() or path.suffix:
        return inside
    return next(
        (inside.with_name(name + suffix) for suffix in (".onnx", ".json") if inside.with_name(name + suffix).exists()),
        inside,
    )
