"""The building of plans: for real with TensorRT-RTX, which needs no GPU for it, and what the older ways would be asked."""

import fcntl
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import onnx
import onnxruntime
import pytest

from contracts.failures import Failure, FailureCode
from engine import conversion
from engine.agreement import compare
from engine.building import BuildPlan, Phases, ShapeRange, build
from engine.conversion import BuildOrder, Built, Line, NotBuilt, Progress, convert
from engine.devices.memory import GpuFacts
from engine.devices.opening import find_gpu
from engine.loading import load_detector
from engine.models import describe
from engine.plans import drop_plan, plan_path, read_plan, read_record, write_plan
from engine.precision import CONVOLUTIONS, head_of, in_eighth, in_half
from tests.conftest import REPOSITORY
from tests.fake_gpu import FACTS
from tests.pictures import RED, drawn, read_photo
from tests.tiny_models import write_colour_model

RTX = "tensorrt_rtx"
H100 = GpuFacts(name="H100", capability=(9, 0), sm_count=132, free_bytes=20 << 30)


def order(model: Path, **changes: Any) -> BuildOrder:
    return BuildOrder(
        **({"model": str(model), "precision": "fp16", "library": RTX, "batch_max": 4, "for_gpu": FACTS} | changes)
    )


def said(line: bytes) -> Line:
    return msgspec.json.decode(line, type=Line)


def started(model: Path, **changes: Any) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "engine.conversion", msgspec.json.encode(order(model, **changes)).decode()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )


def lines(process: "subprocess.Popen[bytes]") -> Iterator[Line]:
    assert process.stdout is not None
    return map(said, process.stdout)


class Told:
    """Hears how a build goes on and stops it after so many words."""

    def __init__(self, stop_after: int = 10_000) -> None:
        self.shares: list[float] = []
        self._stop_after = stop_after

    def __call__(self, share: float, doing: str) -> bool:
        self.shares.append(share)
        return len(self.shares) < self._stop_after


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_colour_model(tmp_path / "tiny.onnx")


def test_a_process_of_its_own_builds_a_plan_with_a_record(model: Path) -> None:
    with started(model) as process:
        heard = list(lines(process))

    plan = plan_path(model, FACTS, "fp16")
    assert heard[-1] == Built(plan=str(plan))
    percents = [line.percent for line in heard if isinstance(line, Progress)]
    assert percents == sorted(set(percents))
    assert percents[-1] > 50
    assert read_plan(plan).library == RTX
    record = read_record(plan)
    assert record is not None
    assert (record.precision, record.capability, record.sm_count) == ("fp16", (8, 9), 128)
    assert record.metadata == {"end2end": "True"}
    assert record.verdict is None


def test_a_process_whose_stdin_is_closed_stops_building(model: Path) -> None:
    with started(model) as process:
        assert process.stdin is not None
        process.stdin.close()
        heard = list(lines(process))

    assert process.returncode == 0
    match heard[-1]:
        case NotBuilt(failure=failure):
            assert failure.code == FailureCode.CANCELLED
        case other:
            pytest.fail(str(other))
    assert not plan_path(model, FACTS, "fp16").exists()


def test_a_build_that_is_told_to_stop_stops(model: Path) -> None:
    told = Told(stop_after=3)

    with pytest.raises(Failure, match="cancelled"):
        convert(order(model), told)
    assert len(told.shares) == 3


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"for_gpu": H100},
            "does not build for SM90",
        ),
        (
            {"for_gpu": msgspec.structs.replace(FACTS, free_bytes=1 << 30)},
            "1024 MiB of GPU memory are free, too little",
        ),
        pytest.param(
            {"for_gpu": None},
            "no GPU here",
            marks=pytest.mark.skipif(find_gpu() is not None, reason="there is a GPU here"),
        ),
        ({"library": "tensorflow"}, "tensorflow is no TensorRT"),
    ],
)
def test_what_cannot_be_built_here_says_why(model: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(Failure, match=said) as refused:
        convert(order(model, **changes), Told())
    assert refused.value.code == FailureCode.ENGINE_UNAVAILABLE


def test_rtx_is_told_of_the_gpu_that_is_here_as_of_any_other(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Untold it builds for Ampere and later: a plan that a Turing card or an H100 refuses to load."""
    monkeypatch.setattr(conversion, "find_gpu", lambda: H100)

    with pytest.raises(Failure, match="does not build for SM90"):
        convert(order(model, for_gpu=None), Told())


def test_the_model_is_read_on_the_cpu_so_that_the_gpu_is_left_to_what_serves(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def looked() -> list[str]:
        pytest.fail("a GPU was looked for")

    monkeypatch.setattr(onnxruntime, "get_available_providers", looked)

    assert convert(order(model), Told()).is_file()


def test_a_model_that_is_replaced_while_it_is_built_has_no_plan(model: Path) -> None:
    """Its record would say that the plan of the old one is of the new one, and it would serve in its place."""

    class Replacing(Told):
        def __call__(self, share: float, doing: str) -> bool:
            if share > 0:
                write_colour_model(model, batch=1)
            return super().__call__(share, doing)

    with pytest.raises(Failure, match="was replaced while it was built"):
        convert(order(model), Replacing())
    assert not plan_path(model, FACTS, "fp16").exists()


def test_another_model_than_was_ordered_is_not_built(model: Path) -> None:
    with pytest.raises(Failure, match="was replaced before it was built"):
        convert(order(model, model_sha256="0" * 64), Told())


def test_a_plan_that_somebody_else_builds_is_waited_for_and_not_built_again(model: Path, tmp_path: Path) -> None:
    convert(order(model), Told())
    plan = plan_path(model, FACTS, "fp16")
    record = read_record(plan)
    assert record is not None
    drop_plan(plan)
    with (tmp_path / f".{plan.name}.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with started(model, may_be_there=True) as process:
            first = next(lines(process))
            assert first == Progress(percent=0, doing="waiting for another process that builds the same")
            write_plan(plan, b"somebody else's", record)
            fcntl.flock(lock, fcntl.LOCK_UN)
            rest = list(lines(process))

    assert rest == [Built(plan=str(plan))]
    assert plan.read_bytes() == b"somebody else's"


def test_a_model_with_a_free_batch_needs_a_range_for_it(model: Path) -> None:
    plan = BuildPlan(model=model.read_bytes(), ranges={}, workspace_bytes=1 << 30, capability=(8, 9))
    library = __import__(RTX)

    with pytest.raises(Failure, match=r"(?i)profile"):
        build(plan, library, Told())


@pytest.mark.real_media
def test_a_real_detector_is_built_in_half_precision_for_batches(shared_data: Path, tmp_path: Path) -> None:
    model = linked(shared_data, "yolox_nano_dynbatch.onnx", tmp_path)
    told = Told()

    plan = convert(order(model), told)

    assert plan.name == "yolox_nano_dynbatch.cc_8.9_sm_128.engine"
    assert plan.stat().st_size > 3_000_000
    assert told.shares == sorted(told.shares)
    assert len(told.shares) > 100


@pytest.mark.real_media
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("yolox_nano_e2e_dynbatch.onnx", "NonMaxSuppression.* has no runners"),
        ("agpl_yolov8n_int8.onnx", r"TensorRT does not take ConvInteger \(64 nodes\), DynamicQuantizeLinear"),
    ],
)
def test_a_real_detector_that_tensorrt_cannot_build_is_refused_with_its_reason(
    shared_data: Path, tmp_path: Path, name: str, reason: str
) -> None:
    with pytest.raises(Failure, match=reason):
        convert(order(linked(shared_data, name, tmp_path), precision="fp32"), Told())


def linked(shared_data: Path, name: str, folder: Path) -> Path:
    (folder / name).symlink_to(shared_data / "models" / name)
    return folder / name


@pytest.mark.real_media
def test_half_precision_sees_what_the_model_sees(shared_data: Path, tmp_path: Path) -> None:
    model = shared_data / "models" / "deimv2_atto.onnx"
    half = tmp_path / "half.onnx"
    half.write_bytes(in_half(model))
    photo = read_photo(shared_data / "images" / "photos" / "bus.jpg")

    assert half.stat().st_size < 0.75 * model.stat().st_size
    agreement = compare(load_detector(model), load_detector(half), [photo])
    assert agreement.is_enough, str(agreement)


def test_eight_bits_are_quantised_as_tensorrt_takes_them(tmp_path: Path) -> None:
    model = REPOSITORY / "models" / "aerial-vehicle.onnx"

    content = in_eighth(model, describe(model), [drawn(64, 64, ((10, 10, 40, 30), RED))], tmp_path)

    kinds = {entry.name: entry.data_type for entry in onnx.load_model_from_string(content).graph.initializer}
    points = {kind for name, kind in kinds.items() if name.endswith("_zero_point")}
    assert points == {onnx.TensorProto.INT8}  # symmetric: no unsigned ones, and no biases of 32 bits


def test_the_quantiser_writes_nothing_into_the_folder_of_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It writes the whole model, and that folder has 64 MiB in a container."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "full"))
    model = write_colour_model(tmp_path / "tiny.onnx")

    assert in_eighth(model, describe(model), [drawn(64, 64, ((10, 10, 40, 30), RED))], tmp_path)
    assert tempfile.gettempdir() == str(tmp_path / "full")


def test_the_shipped_model_with_its_free_sides_is_built(tmp_path: Path) -> None:
    for name in ("aerial-vehicle.onnx", "aerial-vehicle.json"):
        (tmp_path / name).symlink_to(REPOSITORY / "models" / name)

    assert convert(order(tmp_path / "aerial-vehicle.onnx"), Told()).is_file()


def test_the_head_is_what_leads_to_no_convolution() -> None:
    nodes = [
        onnx.helper.make_node("Relu", ["x"], ["a"], "before"),
        onnx.helper.make_node("Conv", ["a", "w"], ["b"], "first"),
        onnx.helper.make_node("Relu", ["b"], ["c"], "between"),
        onnx.helper.make_node("Conv", ["c", "w"], ["d"], "last"),
        onnx.helper.make_node("Sigmoid", ["d"], ["e"], "head"),
        onnx.helper.make_node("Shape", ["c"], ["f"], "side"),
    ]

    assert sorted(head_of(onnx.helper.make_graph(nodes, "g", [], []), CONVOLUTIONS)) == ["head", "side"]


def test_progress_counts_phases_within_steps_and_never_falls() -> None:
    phases = Phases()
    phases.start("all", None, 4)
    phases.step("all", 0)
    phases.start("part", "all", 2)
    phases.step("part", 0)
    assert phases.share == pytest.approx(0.375)

    phases.finish("part")
    phases.step("nobody's", 0)
    assert phases.share == pytest.approx(0.375)
    phases.step("all", 3)
    assert phases.share == 1.0


class OldLibrary:
    """A module like `tensorrt` 10, as far as plans are built; it keeps what it was asked for."""

    __name__ = "tensorrt"
    __version__ = "10.16.1"
    NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=1)
    BuilderFlag = SimpleNamespace(INT8="INT8", FP16="FP16")
    MemoryPoolType = SimpleNamespace(WORKSPACE="workspace")
    ILogger = IProgressMonitor = IInt8EntropyCalibrator2 = object

    def __init__(self, *, has_cuda: bool = True) -> None:
        self.asked: dict[str, Any] = {"flags": []}
        self.has_cuda = has_cuda

    def Builder(self, logger: Any) -> Any:  # noqa: N802 - its name
        if not self.has_cuda:
            raise TypeError("pybind11::init(): factory function returned nullptr")
        profile = SimpleNamespace(set_shape=lambda *shapes: self.asked.update(profile=shapes))
        config = SimpleNamespace(
            set_memory_pool_limit=lambda pool, size: self.asked.update({pool: size}),
            set_flag=self.asked["flags"].append,
            add_optimization_profile=lambda profile: None,
        )
        self.asked["config"] = config
        return SimpleNamespace(
            create_network=self._network,
            create_builder_config=lambda: config,
            create_optimization_profile=lambda: profile,
            build_serialized_network=lambda network, config: b"plan",
        )

    def init_libnvinfer_plugins(self, logger: Any, namespace: str) -> bool:
        self.asked["plugins"] = namespace
        return True

    def OnnxParser(self, network: Any, logger: Any) -> Any:  # noqa: N802 - its name
        return SimpleNamespace(parse=lambda model: True)

    def _network(self, flags: int) -> Any:
        self.asked["network flags"] = flags
        return SimpleNamespace(num_inputs=1, get_input=lambda at: SimpleNamespace(name="images"))


RANGES = {"images": ShapeRange(least=(1, 3, 8, 8), usual=(4, 3, 8, 8), largest=(16, 3, 8, 8))}


def test_tensorrt_10_is_asked_for_a_strongly_typed_network_with_the_range_and_the_limit() -> None:
    library = OldLibrary()

    assert build(BuildPlan(model=b"", ranges=RANGES, workspace_bytes=5), library, Told()) == b"plan"
    assert library.asked["network flags"] == 2
    assert library.asked["flags"] == []
    assert library.asked["workspace"] == 5
    assert library.asked["profile"] == ("images", (1, 3, 8, 8), (4, 3, 8, 8), (16, 3, 8, 8))


def test_progress_may_be_told_by_several_threads_of_the_builder(may_switch_anywhere: None) -> None:
    """What a monitor raises is printed and cancels the build."""
    library = OldLibrary()
    build(BuildPlan(model=b"", ranges=RANGES, workspace_bytes=5), library, Told())
    monitor = library.asked["config"].progress_monitor

    def compile_parts(name: str) -> None:
        for _ in range(1000):
            for part in range(4):
                monitor.phase_start(f"{name} {part}", None, 5)
            assert monitor.step_complete(f"{name} 0", 0)
            for part in range(4):
                monitor.phase_finish(f"{name} {part}")

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(compile_parts, "abcd"))


@pytest.fixture
def may_switch_anywhere() -> Iterator[None]:
    """Another thread may come between any two steps, as it seldom does."""
    usual_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual_s)


def test_tensorrt_11_has_no_flag_for_it() -> None:
    library = OldLibrary()
    library.__version__ = "11.4.0"

    build(BuildPlan(model=b"", ranges=RANGES, workspace_bytes=5), library, Told())

    assert library.asked["network flags"] == 0


def test_tensorrt_10_takes_the_scales_of_a_calibration_cache() -> None:
    library = OldLibrary()

    build(BuildPlan(model=b"", ranges=RANGES, workspace_bytes=5, calibration_cache=b"scales"), library, Told())

    assert library.asked["network flags"] == 0
    assert library.asked["flags"] == ["INT8", "FP16"]
    calibrator = library.asked["config"].int8_calibrator
    assert calibrator.read_calibration_cache() == b"scales"
    assert calibrator.get_batch(["images"]) is None


def test_tensorrt_without_cuda_is_a_failure() -> None:
    with pytest.raises(Failure, match="factory function returned nullptr"):
        build(BuildPlan(model=b"", ranges=RANGES, workspace_bytes=5), OldLibrary(has_cuda=False), Told())
