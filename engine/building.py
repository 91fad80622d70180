"""From an ONNX file to a plan, with the builder of TensorRT 10, 11 or RTX.

Networks are strongly typed: TensorRT 11 knows nothing else, so the precision is in the file (`precision.py`). The one
exception is the older way to INT8 on 10.x, with a calibration cache.
"""

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from contracts.failures import Failure, FailureCode
from engine.tensorrt_library import load_library, logger_of, made, major_version

LAST_MAJOR_WITH_CALIBRATION = 10
_COMPLAINTS_LENGTH_MAX = 600

Shape = tuple[int, ...]
Told = Callable[[float, str], bool]
"""Is told the share done, 0..1, and of what; False cancels the build."""


class ShapeRange(msgspec.Struct, frozen=True, kw_only=True):
    """The shapes of an input that a plan takes; it is tuned for the usual one."""

    least: Shape
    usual: Shape
    largest: Shape


class BuildPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be built."""

    model: bytes
    """ONNX, already of the precision that is wanted."""
    ranges: Mapping[str, ShapeRange]
    """Of the inputs with free dimensions."""
    workspace_bytes: int
    """What the builder may take of the GPU for trying kernels."""
    capability: tuple[int, int] | None = None
    """Of the GPU that the plan is for (RTX only: otherwise it builds for Ampere and later); None: of the one here."""
    calibration_cache: bytes | None = None
    """Build in INT8 with these scales (TensorRT 10 only)."""


def build(plan: BuildPlan, library: Any, told: Told) -> bytes:
    """The plan's bytes. Raises `Failure`: `engine_unavailable` with what TensorRT says, `cancelled`."""
    logger = logger_of(library)
    builder = made(library.Builder, logger)
    network = builder.create_network(_network_flags(library, plan))
    parser = library.OnnxParser(network, logger)
    if not parser.parse(plan.model):
        raise _refused(_parser_errors(parser))
    progress = _progress_monitor(library, told)
    config = _config(builder, library, plan)
    config.progress_monitor = progress
    _add_profile(builder, config, network, plan.ranges)
    built = builder.build_serialized_network(network, config)
    if progress.is_cancelled:
        raise Failure(FailureCode.CANCELLED, "the build was cancelled")
    if built is None:
        raise _refused(logger.complaints.taken("TensorRT does not say why"))
    return bytes(built)


def can_calibrate(library_name: str) -> bool:
    """True where INT8 with a calibration cache exists."""
    return library_name == "tensorrt" and major_version(load_library()) <= LAST_MAJOR_WITH_CALIBRATION


def _network_flags(library: Any, plan: BuildPlan) -> int:
    """Strong typing, which is a flag on TensorRT 10 only; with calibration the builder chooses the types."""
    is_old = library.__name__ == "tensorrt" and major_version(library) <= LAST_MAJOR_WITH_CALIBRATION
    if not is_old or plan.calibration_cache is not None:
        return 0
    return 1 << int(library.NetworkDefinitionCreationFlag.STRONGLY_TYPED)


def _config(builder: Any, library: Any, plan: BuildPlan) -> Any:
    config = builder.create_builder_config()
    config.set_memory_pool_limit(library.MemoryPoolType.WORKSPACE, plan.workspace_bytes)
    if plan.capability is not None:
        name = "SM{}{}".format(*plan.capability)
        target = getattr(library.ComputeCapability, name, None)
        if target is None:
            raise _refused(f"{library.__name__} does not build for {name}")
        config.num_compute_capabilities = 1
        config.set_compute_capability(target, 0)
    if plan.calibration_cache is not None:
        config.set_flag(library.BuilderFlag.INT8)
        config.set_flag(library.BuilderFlag.FP16)
        config.int8_calibrator = _calibrator(library, plan.calibration_cache)
    return config


def _calibrator(library: Any, cache: bytes) -> Any:
    class Cached(library.IInt8EntropyCalibrator2):
        def __init__(self) -> None:
            library.IInt8EntropyCalibrator2.__init__(self)

        def get_batch_size(self) -> int:
            return 1

        def get_batch(self, names: list[str]) -> None:
            """Nothing to calibrate with: every scale is in the cache."""

        def read_calibration_cache(self) -> bytes:
            return cache

        def write_calibration_cache(self, cache: bytes) -> None:
            """It is as it was."""

    return Cached()


def _add_profile(builder: Any, config: Any, network: Any, ranges: Mapping[str, ShapeRange]) -> None:
    if not ranges:
        return
    profile = builder.create_optimization_profile()
    for at in range(network.num_inputs):
        name = network.get_input(at).name
        if name in ranges:
            of_input = ranges[name]
            profile.set_shape(name, of_input.least, of_input.usual, of_input.largest)
    config.add_optimization_profile(profile)


def _progress_monitor(library: Any, told: Told) -> Any:
    class Monitor(library.IProgressMonitor):
        def __init__(self) -> None:
            library.IProgressMonitor.__init__(self)
            self.is_cancelled = False
            self._phases = Phases()
            self._lock = threading.Lock()  # several of the builder's threads call, as its documentation says

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            with self._lock:
                self._phases.start(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            with self._lock:
                self._phases.step(phase_name, step)
                if not self.is_cancelled:
                    self.is_cancelled = not told(self._phases.share, phase_name)
                return not self.is_cancelled

        def phase_finish(self, phase_name: str) -> None:
            with self._lock:
                self._phases.finish(phase_name)

    return Monitor()


class Phases:
    """How far a build is, by phases that have steps and phases within a step. It never falls."""

    def __init__(self) -> None:
        self._running: dict[str, tuple[str | None, int, int]] = {}
        """Parent, steps, steps done; by name."""
        self.share = 0.0
        """Of the whole build, 0..1."""

    def start(self, name: str, parent: str | None, steps: int) -> None:
        self._running[name] = (parent, max(1, steps), 0)

    def step(self, name: str, step: int) -> None:
        """A step has ended, counted from 0."""
        if name in self._running:
            parent, steps, _ = self._running[name]
            self._running[name] = (parent, steps, min(step + 1, steps))
            self.share = max(self.share, self._share(None))

    def finish(self, name: str) -> None:
        self._running.pop(name, None)

    def _share(self, parent: str | None) -> float:
        inside = [
            (done + (self._share(name) if done < steps else 0.0)) / steps
            for name, (above, steps, done) in self._running.items()
            if above == parent
        ]
        return min(1.0, max(inside, default=0.0))


def _parser_errors(parser: Any) -> str:
    errors = [parser.get_error(at) for at in range(parser.num_errors)]
    if not errors:
        return "TensorRT cannot read the model and does not say why"
    operators = Counter(str(error.node_operator()) for error in errors)
    listed = ", ".join(f"{name} ({count} nodes)" for name, count in operators.most_common())
    first = errors[0]
    return f"TensorRT does not take {listed}; first the node {first.node_name()}: {first.desc()}"


def _refused(why: str) -> Failure:
    return Failure(FailureCode.ENGINE_UNAVAILABLE, " ".join(why.split())[:_COMPLAINTS_LENGTH_MAX])
