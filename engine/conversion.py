"""Builds a plan in a process of its own: `python -m engine.conversion ORDER`, which another process runs and listens to.

A build takes minutes and gigabytes and can crash, so the consumer never does it itself. The process is nice to others, says
on stdout how far it is (`Progress`, `Built`, `NotBuilt`, a line of JSON each), and ends when its stdin is closed: that is
how it is cancelled, and how it ends when whoever started it is gone.
"""

import contextlib
import fcntl
import hashlib
import os
import resource
import sys
import tempfile
import threading
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import msgspec

from contracts.failures import Failure, FailureCode, FailureRecord
from engine.building import BuildPlan, ShapeRange, Told, build
from engine.devices.memory import GpuFacts
from engine.devices.opening import find_gpu
from engine.external_data import digest_of_model
from engine.images import read_picture
from engine.models import ModelCard, describe
from engine.opening import open_runtime
from engine.picture import Picture
from engine.plans import PlanRecord, Precision, plan_path, read_record, staleness, write_plan
from engine.precision import PICTURES_MAX, as_it_is, in_eighth, in_half
from engine.preprocess import NATIVE_SIDE_FACTOR, InputRule, up_to_multiple
from engine.runtime import TensorSpec
from engine.sources import INCOMING
from engine.tensorrt_library import NEEDS_NO_GPU, load_library

NICENESS = 15
"""Of 19: whatever else runs goes first."""
CANCEL_S_MAX = 5.0
"""From the wish to stop to the end of the process, be the builder as deaf as it likes."""
LEFT_FOR_SERVING_BYTES = 2 << 30
"""Of the GPU's free memory: what the engine that serves may still take for larger batches."""
WORKSPACE_BYTES_MIN = 256 << 20
WORKSPACE_SHARE = 0.9
"""Of what is then left."""
BATCH_USUAL = 8
"""The batch that the kernels are tuned for, if the largest is no smaller."""


class BuildOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What to build; the process reads it from its command line."""

    model: str
    """Path of the ONNX file; the plan comes to lie beside it."""
    precision: Precision
    model_sha256: str | None = None
    """Of that file and its weights; another one there is refused. None: whatever lies there."""
    may_be_there: bool = False
    """True: a plan that fits and lies there by now is enough; another consumer has built it meanwhile."""
    library: str = "tensorrt"
    batch_max: int = 16
    for_gpu: GpuFacts | None = None
    """Build for such a GPU though there is none here (RTX only)."""
    calibration_pictures: list[str] = []
    """Paths, for INT8."""
    calibration_cache: str | None = None
    """Path, for INT8 on TensorRT 10."""


class Progress(msgspec.Struct, frozen=True, kw_only=True, tag="progress"):
    percent: int
    doing: str


class Built(msgspec.Struct, frozen=True, kw_only=True, tag="built"):
    plan: str
    """Path; its record lies beside it."""


class NotBuilt(msgspec.Struct, frozen=True, kw_only=True, tag="not built"):
    failure: FailureRecord


Line = Progress | Built | NotBuilt


def convert(order: BuildOrder, told: Told) -> Path:
    """Build the plan and put it in place, with its record. Raises `Failure`."""
    model = Path(order.model)
    gpu = order.for_gpu or find_gpu()
    if gpu is None:
        raise Failure(FailureCode.ENGINE_UNAVAILABLE, "no GPU here")
    library = load_library(order.library)
    target = plan_path(model, gpu, order.precision)
    with _alone(target, told):
        digest = _digest(order)
        if not order.may_be_there or not _is_there(target, digest, gpu, library):
            write_plan(target, *_built(order, digest, gpu, library, told))
    return target


@contextlib.contextmanager
def _alone(target: Path, told: Told) -> Generator[None]:
    """While no other process builds that plan: consumers with GPUs of one kind hear of a model at the same time."""
    with target.with_name(f".{target.name}.lock").open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            told(0.0, "waiting for another process that builds the same")
            fcntl.flock(file, fcntl.LOCK_EX)  # whoever started this process bounds it
        except OSError:  # a file system without locks: it is built twice, and each writes it whole
            pass
        yield


def _is_there(target: Path, digest: str, gpu: GpuFacts, library: Any) -> bool:
    record = read_record(target)
    if record is None or not target.is_file():
        return False
    return staleness(record, model_sha256=digest, gpu=gpu, library_version=str(library.__version__)) is None


def _digest(order: BuildOrder) -> str:
    """Of the model that lies there. Raises `Failure(engine_unavailable)` if it is not the one that was ordered."""
    digest = digest_of_model(Path(order.model))
    if order.model_sha256 not in (None, digest):
        raise Failure(FailureCode.ENGINE_UNAVAILABLE, f"{Path(order.model).name} was replaced before it was built")
    return digest


def _built(order: BuildOrder, digest: str, gpu: GpuFacts, library: Any, told: Told) -> tuple[bytes, PlanRecord]:
    """The plan and its record. Raises `Failure`, also if the model is another one by the end: which was read nobody knows."""
    told(0.0, "reading the model")
    model = Path(order.model)
    card = describe(model, provider="cpu")  # the GPU's memory is for the engine that serves and for the builder
    content = build(
        BuildPlan(
            model=_of_precision(order, card),
            ranges={spec.name: _range(spec, card.input, order.batch_max) for spec in card.inputs if None in spec.shape},
            workspace_bytes=_workspace_bytes(gpu),
            capability=gpu.capability if order.library == NEEDS_NO_GPU else None,
            calibration_cache=_cache(order),
        ),
        library,
        told,
    )
    record = PlanRecord(
        plan_sha256=hashlib.sha256(content).hexdigest(),
        model_sha256=digest,
        precision=order.precision,
        library=order.library,
        library_version=str(library.__version__),
        capability=gpu.capability,
        sm_count=gpu.sm_count,
        gpu=gpu.name,
        metadata=_metadata(model),
    )
    if digest_of_model(model) != digest:
        raise Failure(FailureCode.ENGINE_UNAVAILABLE, f"{model.name} was replaced while it was built")
    return content, record


def _of_precision(order: BuildOrder, card: ModelCard) -> bytes:
    """The model as TensorRT shall see it."""
    model = Path(order.model)
    if order.precision == "fp16":
        return in_half(model)
    if order.precision == "fp32" or order.calibration_cache:
        return as_it_is(model)
    # beside the model, where the plan has its room: the system's own folder for such files may be small
    with tempfile.TemporaryDirectory(dir=model.parent, prefix=INCOMING) as folder:
        return in_eighth(model, card, _pictures(order), Path(folder))


def _pictures(order: BuildOrder) -> Iterator[Picture]:
    for path in order.calibration_pictures[:PICTURES_MAX]:
        yield read_picture(Path(path))


def _range(spec: TensorSpec, rule: InputRule, batch_max: int) -> ShapeRange:
    """Free dimensions become ranges: the batch 1 to the largest, sides as long as any picture is shown with."""
    height_at = 2 if rule.layout == "NCHW" else 1
    sides = {height_at: rule.height, height_at + 1: rule.width} if spec.name == rule.tensor else {}
    least, usual, largest = list(spec.shape), list(spec.shape), list(spec.shape)
    for at, side in enumerate(spec.shape):
        if side is None:
            in_steps = up_to_multiple(NATIVE_SIDE_FACTOR * sides.get(at, 1), rule.multiple)
            batch = (1, min(BATCH_USUAL, batch_max), batch_max)
            least[at], usual[at], largest[at] = (rule.multiple, sides[at], in_steps) if at in sides else batch
    return ShapeRange(least=_whole(least), usual=_whole(usual), largest=_whole(largest))


def _whole(shape: list[int | None]) -> tuple[int, ...]:
    return tuple(1 if side is None else side for side in shape)


def _workspace_bytes(gpu: GpuFacts) -> int:
    """Raises `Failure(engine_unavailable)` where the engine that serves leaves too little."""
    workspace = int((gpu.free_bytes - LEFT_FOR_SERVING_BYTES) * WORKSPACE_SHARE)
    if workspace < WORKSPACE_BYTES_MIN:
        free = gpu.free_bytes >> 20
        raise Failure(FailureCode.ENGINE_UNAVAILABLE, f"{free} MiB of GPU memory are free, too little to build beside")
    return workspace


def _cache(order: BuildOrder) -> bytes | None:
    """The scales of INT8, if they come from a calibration cache."""
    if order.precision != "int8" or order.calibration_cache is None:
        return None
    return Path(order.calibration_cache).read_bytes()


def _metadata(model: Path) -> dict[str, str]:
    """What the ONNX file says of itself: a plan has no room for it."""
    runtime = open_runtime(model, provider="cpu")
    metadata = dict(runtime.metadata)
    runtime.close()
    return metadata


class Teller:
    """Writes `Progress`, a line for each new percent, and says whether to go on."""

    def __init__(self) -> None:
        self._percent = -1
        self.is_cancelled = threading.Event()

    def __call__(self, share: float, doing: str) -> bool:
        """False: stop building."""
        percent = int(share * 100)
        if percent > self._percent:
            self._percent = percent
            say(Progress(percent=percent, doing=doing))
        return not self.is_cancelled.is_set()

    def listen(self) -> None:
        """Until stdin is closed, which means: stop. Runs in a thread of its own."""
        while os.read(sys.stdin.fileno(), 1):  # not its buffer, whose lock the ending interpreter wants
            continue
        self.is_cancelled.set()
        threading.Event().wait(CANCEL_S_MAX)
        os._exit(1)  # the builder did not hear it


def say(line: Line) -> None:
    """Tell whoever started this process."""
    sys.stdout.buffer.write(msgspec.json.encode(line) + b"\n")
    sys.stdout.buffer.flush()


def main() -> None:
    """Build what the order on the command line says; the last line on stdout says what became of it."""
    os.nice(NICENESS)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    order = msgspec.json.decode(sys.argv[1], type=BuildOrder)
    told = Teller()
    threading.Thread(target=told.listen, name="listen", daemon=True).start()
    try:
        plan = convert(order, told)
    except Failure as failure:
        say(NotBuilt(failure=failure.record()))
        return
    say(Built(plan=str(plan)))


if __name__ == "__main__":
    main()
