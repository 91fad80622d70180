"""An engine behind the one that serves: built in real processes, judged, swapped, uploaded; nothing that fails is felt."""

import asyncio
import errno
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from PIL import Image

from consumers.acceleration import Acceleration
from consumers.building import Builder, BuildLimits
from consumers.convert import Converter, Machine, load_fastest
from contracts.detections import Detection
from contracts.events import EngineStatus
from contracts.failures import Failure, FailureCode
from contracts.options import DetectionOptions
from engine.conversion import BuildOrder
from engine.detector import Detector
from engine.loading import load_detector
from engine.picture import Picture
from engine.plans import PlanRecord, Verdict, is_plan, plan_path, read_plan, read_record, record_path, write_record
from engine.status import EngineState, StatusBoard, Step
from tests import scripted_builder
from tests.fake_gpu import FACTS
from tests.pictures import BLUE, GREEN, RED, drawn
from tests.processes import is_gone, wait_until
from tests.tiny_models import write_script

MACHINE = Machine(gpu=FACTS, library="tensorrt", library_version=scripted_builder.VERSION)
ENGINE = "street.cc_8.9_sm_128.engine"


def load(path: Path) -> Detector:
    """A plan is a script; and so is the model, though its name is another."""
    content = read_plan(path).content if is_plan(path) else path.read_bytes()
    script = path.parent / "loaded" / f"{path.name}.json"
    script.parent.mkdir(exist_ok=True)
    script.write_bytes(content)
    return load_detector(script)


class StatusRoom:
    """A room that keeps what it is told, by the real table of transitions."""

    def __init__(self) -> None:
        self.states: list[EngineState] = []
        self.in_use: list[Detector] = []
        self.is_closed = False
        self._board = StatusBoard(self.states.append)
        self._board.step(Step.LOAD_STARTED)
        self._board.step(Step.LOADED)

    def step(self, step: Step, reason: str | None = None) -> None:
        self._board.step(step, reason)

    async def use(self, detector: Detector) -> None:
        if self.is_closed:
            raise Failure(FailureCode.ENGINE_UNAVAILABLE, "no model serves")
        self.in_use.append(detector)

    @property
    def state(self) -> EngineState:
        return self.states[-1]


class KeepingLoader:
    """A Loader that is a dictionary; it can be away."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.is_away = False

    async def fetch(
        self, filename: str, *, into: Path | None = None, sha256: str | None = None, bytes_max: int | None = None
    ) -> Path:
        if self.is_away or filename not in self.files or into is None:
            raise Failure(FailureCode.ENGINE_UNAVAILABLE, f"the Loader does not give {filename}")
        (into / filename).write_bytes(self.files[filename])
        return into / filename

    async def upload(self, path: Path) -> None:
        if self.is_away:
            raise Failure(FailureCode.ENGINE_UNAVAILABLE, "the Loader is away")
        self.files[path.name] = await asyncio.to_thread(path.read_bytes)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model that knows three colours, and twelve pictures to judge by."""
    (tmp_path / "reference").mkdir()
    for at in range(6):
        squares = [
            ((20 + 9 * at, 20, 80 + 9 * at, 90), RED),
            ((150, 120, 230, 190 + at), GREEN),
            ((20, 150, 80, 220), BLUE),
        ]
        Image.fromarray(drawn(256, 256, *squares).pixels).save(tmp_path / "reference" / f"{at}.png")
    return write_script(tmp_path / "street.json").rename(tmp_path / "street.onnx")


def builder(behaviour: str, model: Path, script: Path | None = None, limits: BuildLimits | None = None) -> Builder:
    command = [sys.executable, "-S", "-E", scripted_builder.__file__, behaviour, str(script or model)]
    return Builder(command=lambda order: [*command, msgspec.json.encode(order).decode()], limits=limits)


async def run(converter: Converter, model: Path) -> StatusRoom:
    room = StatusRoom()
    await converter.run(model, serving=load(model), room=room)
    return room


def builder_pid(model: Path) -> int:
    return int((model.parent / "pid").read_text() or 0)


async def test_a_good_engine_takes_over_and_is_uploaded_with_its_record(model: Path) -> None:
    loader = KeepingLoader()

    room = await run(Converter(MACHINE, builder=builder("builds", model), loader=loader, load=load), model)

    assert [state.status for state in room.states[2:]] == [
        EngineStatus.CONVERTING,
        EngineStatus.CONVERTING,
        EngineStatus.UPLOADING,
        EngineStatus.ENABLED,
    ]
    assert room.states[3].reason == "fp16: 40 %, Timing tactics"
    assert len(room.in_use) == 1
    assert loader.files.keys() == {ENGINE, f"{ENGINE}.record"}
    record = read_record(model.with_name(ENGINE))
    assert record is not None
    assert record.verdict is not None
    assert record.verdict.is_enough
    assert "recall 1.000 (18 of 18" in record.verdict.agreement


async def test_an_engine_that_never_detects_is_refused_with_numbers_and_not_built_again(
    model: Path, tmp_path: Path
) -> None:
    dead = write_script(tmp_path / "dead.json", objects=[{"class": 0, "rgb": [1, 254, 77]}], tolerance=0)

    room = await run(Converter(MACHINE, builder=builder("builds", model, dead), load=load), model)
    again = await run(Converter(MACHINE, builder=builder("crashes", model), load=load), model)

    assert room.in_use == again.in_use == []
    assert room.state.status == EngineStatus.WARNING
    assert "street.onnx goes on as ONNX: no fp16 engine: it does not see the same: recall 0.000 (0 of 18" in str(
        room.state.reason
    )
    assert "refused before: recall 0.000" in str(again.state.reason)
    assert not model.with_name(ENGINE).exists()


async def test_an_engine_that_does_not_run_is_refused_with_the_reason_and_not_built_again(model: Path) -> None:
    """FP16 that overflows does so each time, and building takes minutes at each start."""

    def load_overflowing(path: Path) -> Detector:
        if is_plan(path):
            raise Failure(FailureCode.MODEL_CORRUPT, "its outputs are not finite")
        return load(path)

    room = await run(Converter(MACHINE, builder=builder("builds", model), load=load_overflowing), model)
    again = await run(Converter(MACHINE, builder=builder("crashes", model), load=load_overflowing), model)

    assert "no fp16 engine: its outputs are not finite" in str(room.state.reason)
    assert "refused before: its outputs are not finite" in str(again.state.reason)
    assert not model.with_name(ENGINE).exists()


@pytest.mark.parametrize("folder", ["reference", "calibration"])
async def test_an_engine_that_was_refused_is_built_again_for_other_pictures(
    model: Path, tmp_path: Path, folder: str
) -> None:
    """Which its reason asks the operator for: with the drawn ones there may be nothing to compare."""
    dead = write_script(tmp_path / "dead.json", objects=[{"class": 0, "rgb": [1, 254, 77]}], tolerance=0)
    await run(Converter(MACHINE, builder=builder("builds", model, dead), load=load), model)
    (tmp_path / folder).mkdir(exist_ok=True)
    Image.fromarray(drawn(256, 256, ((30, 30, 90, 90), RED)).pixels).save(tmp_path / folder / "other.png")

    room = await run(Converter(MACHINE, builder=builder("builds", model), load=load), model)

    assert (room.state.status, len(room.in_use)) == (EngineStatus.ENABLED, 1)


async def test_a_file_that_was_replaced_since_it_was_loaded_is_not_built_for_what_serves(
    model: Path, tmp_path: Path
) -> None:
    """What serves need not see what the new one sees, and the new one's engine would be refused for good."""
    room, serving = StatusRoom(), load(model)
    write_script(tmp_path / "new.json", tolerance=3).rename(model)
    converter = Converter(MACHINE, builder=builder("builds", model), load=load)

    await converter.run(model, serving=serving, room=room)

    assert room.in_use == []
    assert (
        room.state.reason == "street.onnx goes on as ONNX: no fp16 engine: street.onnx was replaced since it was loaded"
    )
    assert read_record(model.with_name(ENGINE)) is None


async def test_an_engine_that_sees_other_things_is_refused(model: Path, tmp_path: Path) -> None:
    wrong = write_script(
        tmp_path / "wrong.json",
        objects=[{"class": 0, "rgb": RED}, {"class": 2, "rgb": GREEN}, {"class": 1, "rgb": BLUE}],
    )

    room = await run(Converter(MACHINE, builder=builder("builds", model, wrong), load=load), model)

    assert room.in_use == []
    assert "recall 0.333 (6 of 18" in str(room.state.reason)


@pytest.mark.parametrize(
    ("behaviour", "said"),
    [
        ("refuses", "TensorRT does not take ConvInteger (64 nodes)"),
        ("crashes", "ended without a plan (SIGSEGV)"),
        ("exits", "ended without a plan (status 1): MemoryError: too much"),
        ("hangs", "took more than 0.5 s"),
        ("is deaf", "took more than 0.5 s"),
    ],
)
async def test_a_builder_that_fails_leaves_onnx_serving_with_the_reason(model: Path, behaviour: str, said: str) -> None:
    limits = BuildLimits(wall_s=0.5 if "took" in said else 200, stop_s=0.3)

    room = await run(Converter(MACHINE, builder=builder(behaviour, model, limits=limits), load=load), model)

    assert room.in_use == []
    assert room.state.status == EngineStatus.WARNING
    assert said in str(room.state.reason)
    if (model.parent / "pid").exists():
        assert is_gone(builder_pid(model))


async def test_a_builder_that_takes_too_much_memory_is_killed(model: Path) -> None:
    limits = BuildLimits(memory_bytes=100 << 20, look_s=0.02)

    room = await run(Converter(MACHINE, builder=builder("is greedy", model, limits=limits), load=load), model)

    assert "took more than 100 MiB of memory" in str(room.state.reason)
    assert is_gone(builder_pid(model))


async def test_what_a_native_library_prints_is_not_heard(model: Path) -> None:
    room = await run(Converter(MACHINE, builder=builder("builds noisily", model), load=load), model)

    assert room.state.status == EngineStatus.ENABLED


@pytest.mark.parametrize("behaviour", ["hangs", "is deaf"])
async def test_a_cancelled_conversion_leaves_no_process(model: Path, behaviour: str) -> None:
    room = StatusRoom()
    limits = BuildLimits(stop_s=0.2)
    converter = Converter(MACHINE, builder=builder(behaviour, model, limits=limits), load=load)
    running = asyncio.create_task(converter.run(model, serving=load(model), room=room))
    while not (model.parent / "pid").exists() or len(room.states) < 4:
        await asyncio.sleep(0.02)

    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    wait_until(lambda: is_gone(builder_pid(model)))
    assert room.in_use == []


async def test_an_engine_that_is_there_is_compared_but_not_built_again(model: Path) -> None:
    await run(Converter(MACHINE, builder=builder("builds", model), load=load), model)

    room = await run(Converter(MACHINE, builder=builder("crashes", model), load=load), model)

    assert room.state.status == EngineStatus.ENABLED
    assert len(room.in_use) == 1


async def stale(model: Path, change: Callable[[PlanRecord], PlanRecord]) -> StatusRoom:
    """After an engine was built, its record changes, and a builder comes that only crashes."""
    plan = model.with_name(ENGINE)
    await run(Converter(MACHINE, builder=builder("builds", model), load=load), model)
    record = read_record(plan)
    assert record is not None
    write_record(plan, change(record))
    assert load_fastest(model, MACHINE, load=lambda path: load(path)).model.name.endswith(".onnx")
    return await run(Converter(MACHINE, builder=builder("crashes", model), load=load), model)


@pytest.mark.parametrize("field", ["model_sha256", "library_version", "sm_count", "capability"])
async def test_an_engine_of_another_model_version_or_gpu_is_built_again(model: Path, field: str) -> None:
    other = {"model_sha256": "0" * 64, "library_version": "10.16.0", "sm_count": 114, "capability": (9, 0)}

    room = await stale(model, lambda record: msgspec.structs.replace(record, **{field: other[field]}))

    assert "SIGSEGV" in str(room.state.reason)


async def test_an_engine_whose_bytes_changed_is_not_loaded_and_goes(model: Path) -> None:
    await run(Converter(MACHINE, builder=builder("builds", model), load=load), model)
    model.with_name(ENGINE).write_bytes(b"something else")

    room = await run(Converter(MACHINE, builder=builder("crashes", model), load=load), model)

    assert room.in_use == []
    assert f"{ENGINE}: sha256" in str(room.state.reason)
    assert not record_path(model.with_name(ENGINE)).exists()


async def test_an_engine_of_the_loader_is_used_instead_of_building_one(model: Path) -> None:
    loader = KeepingLoader()
    await run(Converter(MACHINE, builder=builder("builds", model), loader=loader, load=load), model)
    for path in (model.with_name(ENGINE), record_path(model.with_name(ENGINE))):
        path.unlink()

    room = await run(Converter(MACHINE, builder=builder("crashes", model), loader=loader, load=load), model)

    assert room.state.status == EngineStatus.ENABLED
    assert len(room.in_use) == 1


async def test_a_loader_that_is_away_costs_a_warning_and_no_engine(model: Path) -> None:
    loader = KeepingLoader()
    loader.is_away = True

    room = await run(Converter(MACHINE, builder=builder("builds", model), loader=loader, load=load), model)

    assert len(room.in_use) == 1
    assert room.state.status == EngineStatus.WARNING
    assert "was not uploaded: the Loader is away" in str(room.state.reason)


async def test_a_full_disk_costs_a_warning_and_no_engine(model: Path) -> None:
    class Full(KeepingLoader):
        async def fetch(self, *_: object, **__: object) -> Path:
            raise OSError(errno.ENOSPC, "No space left on device")

    room = await run(Converter(MACHINE, builder=builder("builds", model), loader=Full(), load=load), model)

    assert room.in_use == []
    assert room.state.status == EngineStatus.WARNING
    assert "No space left on device" in str(room.state.reason)


async def test_an_engine_that_is_gone_when_it_is_to_be_uploaded_serves_with_a_warning(model: Path) -> None:
    class Removing(KeepingLoader):
        async def upload(self, path: Path) -> None:
            await asyncio.to_thread(path.unlink)  # as with the whole folder, once enough other models were chosen
            await super().upload(path)

    room = await run(Converter(MACHINE, builder=builder("builds", model), loader=Removing(), load=load), model)

    assert len(room.in_use) == 1
    assert room.state.status == EngineStatus.WARNING
    assert "was not uploaded: " in str(room.state.reason)


async def test_a_fault_that_nobody_named_costs_a_warning_and_no_engine(model: Path) -> None:
    def broken(path: Path) -> Detector:
        if is_plan(path):
            raise ZeroDivisionError("by a native library")
        return load(path)

    room = await run(Converter(MACHINE, builder=builder("builds", model), load=broken), model)

    assert room.in_use == []
    assert room.state.status == EngineStatus.WARNING
    assert "ZeroDivisionError: by a native library" in str(room.state.reason)


async def test_an_engine_whose_room_was_closed_meanwhile_is_closed(model: Path) -> None:
    room = StatusRoom()
    room.is_closed = True

    await Converter(MACHINE, builder=builder("builds", model), load=load).run(model, serving=load(model), room=room)

    assert "no model serves" in str(room.state.reason)


async def test_int8_comes_first_where_there_are_pictures_to_calibrate_with(model: Path, tmp_path: Path) -> None:
    (tmp_path / "calibration").mkdir()
    for at in range(8):
        (tmp_path / "calibration" / f"{at}.png").touch()

    room = await run(Converter(MACHINE, builder=builder("builds", model), load=load), model)

    assert room.states[-2].reason == "street.cc_8.9_sm_128.int8.engine"


def test_the_fastest_engine_that_passed_is_loaded_at_the_next_start(model: Path) -> None:
    for precision, is_enough in (("int8", False), ("fp16", True)):
        asyncio.run(_built(model, precision, is_enough=is_enough))

    assert load_fastest(model, MACHINE, load=load).model.name == ENGINE
    plan_path(model, FACTS, "fp16").unlink()
    assert load_fastest(model, MACHINE, load=load).model.name == "street.onnx"


async def _built(model: Path, precision: str, *, is_enough: bool) -> None:
    order = BuildOrder(model=str(model), precision=precision)  # type: ignore[arg-type]
    plan = await builder("builds", model).build(order, lambda _: None)
    record = read_record(plan)
    assert record is not None
    write_record(plan, msgspec.structs.replace(record, verdict=Verdict(is_enough=is_enough, agreement="")))


def test_an_engine_that_does_not_load_leaves_the_model(model: Path) -> None:
    asyncio.run(_built(model, "fp16", is_enough=True))
    model.with_name(ENGINE).write_bytes(b"something else")

    assert load_fastest(model, MACHINE, load=load).model.name == "street.onnx"


def no_tensorrt() -> Machine | None:
    raise Failure(FailureCode.ENGINE_UNAVAILABLE, "tensorrt: No module named 'tensorrt'")


async def test_a_consumer_with_a_gpu_serves_onnx_then_the_engine_and_the_engine_at_once_next_time(model: Path) -> None:
    def converter(machine: Machine) -> Converter:
        return Converter(machine, builder=builder("builds", model), load=load)

    accelerated = Acceleration(look=lambda: MACHINE, converter=converter, load=load)
    room = StatusRoom()
    assert accelerated.load(model).model.name == "street.onnx"

    await accelerated.behind(room, model)

    assert [detector.model.name for detector in room.in_use] == [ENGINE]
    assert accelerated.load(model).model.name == ENGINE


async def test_a_consumer_without_a_gpu_does_nothing_behind_its_model(model: Path) -> None:
    accelerated = Acceleration(look=lambda: None, load=load)
    room = StatusRoom()
    accelerated.load(model)

    await accelerated.behind(room, model)

    assert [state.status for state in room.states] == [EngineStatus.DOWNLOADING, EngineStatus.ENABLED]


async def test_a_gpu_without_tensorrt_is_worth_a_warning(model: Path) -> None:
    accelerated = Acceleration(look=no_tensorrt, load=load)
    room = StatusRoom()
    accelerated.load(model)

    await accelerated.behind(room, model)

    assert room.state.status == EngineStatus.WARNING
    assert room.state.reason == "street.onnx goes on as ONNX: tensorrt: No module named 'tensorrt'"


async def test_a_cancelled_comparison_ends_before_the_serving_detector_is_closed(model: Path) -> None:
    room, slow = StatusRoom(), Slow(load(model))
    converter = Converter(MACHINE, builder=builder("builds", model), load=load)
    running = asyncio.create_task(converter.run(model, serving=slow, room=room))  # type: ignore[arg-type]
    await asyncio.to_thread(slow.has_begun.wait, 20)

    running.cancel()
    asyncio.get_running_loop().call_later(0.05, slow.may_end.set)
    with pytest.raises(asyncio.CancelledError):
        await running

    assert slow.looks == slow.answers == 1
    assert room.in_use == []


class Slow:
    """A serving detector that answers when it may."""

    def __init__(self, detector: Detector) -> None:
        self.model = detector.model
        self.has_begun, self.may_end = threading.Event(), threading.Event()
        self.looks = self.answers = 0
        self._detector = detector

    def detect(self, picture: Picture, options: DetectionOptions) -> list[Detection]:
        self.looks += 1
        self.has_begun.set()
        assert self.may_end.wait(20)
        self.answers += 1
        return self._detector.detect(picture, options)
