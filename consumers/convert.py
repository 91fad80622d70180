"""A faster engine is made behind the one that serves: built, compared with it, put in its place, uploaded.

Whatever goes wrong, the ONNX file goes on serving and the status says why. A plan that once passed is loaded first at the
next start (`load_fastest`), until the model, the GPU or TensorRT is another one.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import msgspec
import structlog

from consumers.building import Builder
from consumers.judging import judged
from consumers.load_faults import every_fault_named
from consumers.model_folder import disk_faults_named, staging_in
from contracts.failures import Failure, FailureCode
from engine.agreement import AgreementLimits
from engine.building import can_calibrate
from engine.checksums import sha256_of
from engine.conversion import BuildOrder, Progress
from engine.detector import Detector
from engine.devices.memory import GpuFacts
from engine.devices.opening import find_gpu
from engine.external_data import digest_of_model
from engine.loading import load_detector
from engine.plans import (
    PlanRecord,
    Precision,
    move_plan,
    plan_path,
    read_record,
    record_path,
    staleness,
)
from engine.reference_pictures import calibration_pictures, digest_of_pictures
from engine.status import Step
from engine.tensorrt_library import load_library

FASTEST_FIRST: tuple[Precision, ...] = ("int8", "fp16")
LIMITS: dict[Precision, AgreementLimits] = {
    "fp16": AgreementLimits(iou_min=0.9),
    "int8": AgreementLimits(iou_min=0.5),  # the boxes of good INT8 models overlap by .94 in the mean (measured)
}
CALIBRATION_PICTURES_MIN = 8
RECORD_BYTES_MAX = 1_000_000
"""Of one that comes from the Loader."""

logger = structlog.get_logger(__name__)


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine is built for."""

    gpu: GpuFacts
    library: str
    library_version: str

    def staleness_of(self, record: PlanRecord, digest: str) -> str | None:
        return staleness(record, model_sha256=digest, gpu=self.gpu, library_version=self.library_version)


class Room(Protocol):
    """Where the engine serves (`consumers/engine_room.py`)."""

    def step(self, step: Step, reason: str | None = None) -> None: ...

    async def use(self, detector: Detector) -> None:
        """Swap between two batches. Raises `Failure(engine_unavailable)` if nothing serves any more."""
        ...


class PlanLoader(Protocol):
    """Where engines are exchanged (`consumers/loader.py`)."""

    async def fetch(
        self, filename: str, *, into: Path | None = None, sha256: str | None = None, bytes_max: int | None = None
    ) -> Path: ...

    async def upload(self, path: Path) -> None: ...


def machine_here(library: str = "tensorrt") -> Machine | None:
    """None without a GPU. Raises `Failure(engine_unavailable)` for a GPU without TensorRT."""
    gpu = find_gpu()
    if gpu is None:
        return None
    return Machine(gpu=gpu, library=library, library_version=str(load_library(library).__version__))


def load_fastest(model: Path, machine: Machine, *, load: Callable[[Path], Detector] = load_detector) -> Detector:
    """The model as the fastest engine that fits this machine and has passed, else as it is. Raises `Failure`."""
    if model.suffix == ".onnx":
        digest = digest_of_model(model)
        for plan in (plan_path(model, machine.gpu, precision) for precision in FASTEST_FIRST):
            record = _fitting(plan, digest, machine)
            if record is None or record.verdict is None or not record.verdict.is_enough:
                continue
            try:
                return load(plan)
            except Failure as failure:
                logger.warning("an engine does not load", plan=plan.name, reason=str(failure))
    return load(model)


class Converter:
    """Makes engines of the models that serve; one call of `run` for each model, cancelled when another one comes."""

    def __init__(
        self,
        machine: Machine,
        *,
        builder: Builder | None = None,
        loader: PlanLoader | None = None,
        load: Callable[[Path], Detector] = load_detector,
    ) -> None:
        self._machine = machine
        self._builder = builder or Builder()
        self._loader = loader
        self._load = load

    async def run(self, model: Path, *, serving: Detector, room: Room) -> None:
        """Put an engine of the model in the place of `serving`, if one can be had that sees the same."""
        if model.suffix != ".onnx" or serving.model.engine_type == "tensorrt":
            return
        room.step(Step.CONVERSION_STARTED, "an engine is looked for")
        reasons: list[str] = []
        for precision in self._precisions(model):
            plan = plan_path(model, self._machine.gpu, precision)
            try:
                with every_fault_named(), disk_faults_named(plan.name):
                    is_new = await self._find_or_build(model, plan, precision, serving, room)
                    detector = await judged(plan, model, serving, LIMITS[precision], load=self._load)
                    await self._swap(room, detector)
            except Failure as failure:
                logger.warning("no engine", precision=precision, model=model.name, reason=str(failure))
                reasons.append(f"no {precision} engine: {failure.detail}")
            else:
                room.step(Step.CONVERTED, plan.name)
                await self._share(plan if is_new else None, room, "; ".join(reasons) or None)
                return
        room.step(Step.CONVERSION_FAILED, f"{model.name} goes on as ONNX: {'; '.join(reasons)}")

    def _precisions(self, model: Path) -> list[Precision]:
        """INT8 only where there is something to calibrate with."""
        is_possible = self._cache(model) is not None or len(calibration_pictures(model)) >= CALIBRATION_PICTURES_MIN
        return [precision for precision in FASTEST_FIRST if precision != "int8" or is_possible]

    def _cache(self, model: Path) -> Path | None:
        """The calibration cache of TensorRT 10, if there is one that can be used."""
        cache = model.with_suffix(".int8_calib.cache")
        return cache if cache.is_file() and can_calibrate(self._machine.library) else None

    async def _find_or_build(
        self, model: Path, plan: Path, precision: Precision, serving: Detector, room: Room
    ) -> bool:
        """True if it was built now. Raises `Failure`, also for one that was refused before."""
        digest = await asyncio.to_thread(_digest_of_served, model, serving)
        record = _fitting(plan, digest, self._machine) or await self._fetched(plan, digest)
        if record is not None and record.verdict is not None and not record.verdict.is_enough:
            if record.verdict.pictures == await asyncio.to_thread(digest_of_pictures, model):
                raise Failure(FailureCode.ENGINE_UNAVAILABLE, f"refused before: {record.verdict.agreement}")
            record = None  # others may show that it does see the same, or calibrate it better
        if record is None:
            cache = self._cache(model)
            order = BuildOrder(
                model=str(model),
                precision=precision,
                model_sha256=digest,
                may_be_there=True,
                library=self._machine.library,
                calibration_pictures=[str(path) for path in calibration_pictures(model)],
                calibration_cache=str(cache) if cache else None,
            )
            await self._builder.build(order, lambda progress: _tell(room, precision, progress))
        return record is None

    async def _fetched(self, plan: Path, digest: str) -> PlanRecord | None:
        """The record of the Loader's engine, which now lies here; None if it has none that fits and has passed."""
        if self._loader is None:
            return None
        try:
            with staging_in(plan.parent) as staging:
                await self._loader.fetch(record_path(plan).name, into=staging, bytes_max=RECORD_BYTES_MAX)
                record = read_record(staging / plan.name)
                has_passed = record is not None and record.verdict is not None and record.verdict.is_enough
                if record is None or not has_passed or self._machine.staleness_of(record, digest) is not None:
                    return None
                fetched = await self._loader.fetch(plan.name, into=staging, sha256=record.plan_sha256)
                await asyncio.to_thread(move_plan, fetched, plan)
        except Failure as failure:
            logger.info("no engine from the Loader", plan=plan.name, reason=str(failure))
            return None
        return record

    async def _swap(self, room: Room, detector: Detector) -> None:
        try:
            await room.use(detector)
        except Failure:
            await asyncio.to_thread(detector.close)
            raise

    async def _share(self, plan: Path | None, room: Room, reason: str | None) -> None:
        """Give a new engine to the Loader; its record last, without which nobody uses it."""
        try:
            if plan is not None and self._loader is not None:
                with every_fault_named(), disk_faults_named(plan.name):
                    await self._loader.upload(plan)
                    await self._loader.upload(record_path(plan))
        except Failure as failure:
            room.step(Step.UPLOAD_FAILED, f"the engine serves here, but was not uploaded: {failure.detail}")
        else:
            room.step(Step.UPLOADED, reason)


def _fitting(plan: Path, digest: str, machine: Machine) -> PlanRecord | None:
    """The record of a plan that need not be built (again): it is there, or it was refused."""
    record = read_record(plan)
    if record is None:
        return None
    why = machine.staleness_of(record, digest)
    if why is not None:
        logger.info("an engine is stale", plan=plan.name, reason=why)
        return None
    is_refused = record.verdict is not None and not record.verdict.is_enough
    return record if is_refused or plan.is_file() else None


def _digest_of_served(model: Path, serving: Detector) -> str:
    """Raises `Failure`: an engine of another model would be judged by one that it need not resemble."""
    sha256 = sha256_of(model)
    if serving.model.sha256 != sha256:
        raise Failure(FailureCode.ENGINE_UNAVAILABLE, f"{model.name} was replaced since it was loaded")
    return digest_of_model(model, sha256=sha256)


def _tell(room: Room, precision: Precision, progress: Progress) -> None:
    room.step(Step.CONVERSION_GOES_ON, f"{precision}: {progress.percent} %, {progress.doing}")
