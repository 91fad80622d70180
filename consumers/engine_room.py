"""The engine's life: loaded by the first command that needs it, watched by everybody."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import msgspec
import structlog

from consumers.settings import ConsumerSettings
from contracts.events import EngineStatus
from contracts.failures import Failure, FailureCode, FailureRecord
from engine.batching import Workers
from engine.detector import Detector
from engine.loading import load_detector

SHIPPED_MODEL = Path(__file__).resolve().parent.parent / "models" / "aerial-vehicle.onnx"

logger = structlog.get_logger(__name__)


class EngineState(msgspec.Struct, frozen=True, kw_only=True):
    """What `/health` shows of an engine."""

    status: EngineStatus = EngineStatus.NONE
    engine_type: str | None = None
    model: str | None = None
    error_message: str | None = None


class ActiveModel(msgspec.Struct, frozen=True, kw_only=True):
    """`active.json` in the models folder."""

    file: str


class EngineRoom:
    """Loads the detector once for all who wait, and again after a failure."""

    def __init__(
        self,
        *,
        find_model: Callable[[], Path],
        workers_count: int,
        load: Callable[[Path], Detector] = load_detector,
        announce: Callable[[], None] = lambda: None,
    ) -> None:
        self._find_model = find_model
        self._workers_count = workers_count
        self._load = load
        self._announce = announce
        self._loading: asyncio.Task[Workers] | None = None
        self.state = EngineState()
        self.ready: Workers | None = None
        """The workers once they are there; None before and after a failure."""

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
            self.ready = None

    def _forget(self, loading: "asyncio.Task[Workers]") -> None:
        self._loading = None
        if not loading.cancelled():
            loading.exception()  # looked at, also if nobody waits any more

    async def _load_and_tell(self) -> Workers:
        self._change(EngineState(status=EngineStatus.DOWNLOADING))
        try:
            path = self._find_model()
            detector = await asyncio.to_thread(self._load, path)
        except Failure as failure:
            self._fail(failure.record())
            raise
        except Exception as error:
            logger.exception("the engine did not load")
            failure = Failure(FailureCode.ENGINE_UNAVAILABLE, f"{type(error).__name__}: {error}")
            self._fail(failure.record())
            raise failure from error
        self.ready = Workers(detector, count=self._workers_count)
        card = detector.model
        self._change(EngineState(status=EngineStatus.ENABLED, engine_type=card.engine_type, model=card.name))
        return self.ready

    def _fail(self, failure: FailureRecord) -> None:
        self._change(EngineState(status=EngineStatus.ERROR, error_message=f"{failure.code}: {failure.detail}"))

    def _change(self, state: EngineState) -> None:
        self.state = state
        logger.info("engine", status=state.status.api_name, model=state.model, error=state.error_message)
        self._announce()


def find_model(settings: ConsumerSettings) -> Path:
    """The model file to load: the setting, else what `active.json` names, else the shipped one."""
    if settings.model is not None:
        return _named(settings.model, settings.models)
    active = settings.models / "active.json"
    try:
        return _named(msgspec.json.decode(active.read_bytes(), type=ActiveModel).file, settings.models)
    except FileNotFoundError:
        return SHIPPED_MODEL
    except msgspec.DecodeError as error:
        raise Failure(FailureCode.MODEL_MISSING, f"{active.name} is unreadable: {error}") from error


def _named(name: str, folder: Path) -> Path:
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
