"""The engine's life in a consumer."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import pytest

from consumers.engine_room import EngineRoom
from contracts.events import ActiveModel, EngineStatus
from contracts.failures import Failure, FailureCode, FailureRecord
from engine.batching import Workers
from engine.detector import Detector
from engine.loading import load_detector
from engine.status import Step
from tests.unit.model_fakes import FakeModels

CORRUPT = Failure(FailureCode.MODEL_CORRUPT, "no model at all")
AWAY = Failure(FailureCode.ENGINE_UNAVAILABLE, "the Loader is away")


class Loader:
    """Loads scripted models and remembers which; it waits while it is held."""

    def __init__(self) -> None:
        self.loads: list[str] = []
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def __call__(self, path: Path) -> Detector:
        self.loads.append(path.name)
        self.may_go_on.wait(10)
        return load_detector(path)


class Stage:
    """A room with a default model, and every status it went through."""

    def __init__(self, folder: Path, *, load: Callable[[Path], Detector] | None = None) -> None:
        self.models = FakeModels(folder)
        self.default = self.models.add("default.json")
        self.loader = Loader()
        self.statuses: list[EngineStatus] = []
        self.room = EngineRoom(
            models=self.models,
            workers=partial(Workers, count=1),
            load=load or self.loader,
            announce=self._remember,
            behind=self._behind,
        )
        self.behind: list[str] = []

    @property
    def serving(self) -> str | None:
        return self.room.model.name if self.room.model else None

    def _remember(self) -> None:
        status = self.room.state.status
        if not self.statuses or status is not self.statuses[-1]:
            self.statuses.append(status)

    async def _behind(self, room: EngineRoom, path: Path) -> None:
        self.behind.append(f"began {path.stem}")
        try:
            await asyncio.Event().wait()
        finally:
            self.behind.append(f"ended {path.stem} while {room.model.name if room.model else None} serves")


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    made = Stage(tmp_path)
    yield made
    made.room.close()


# The first load


async def test_nothing_is_loaded_before_somebody_asks(stage: Stage) -> None:
    assert (stage.room.state.status, stage.room.ready, stage.loader.loads) == (EngineStatus.NONE, None, [])


async def test_all_who_wait_share_one_load(stage: Stage) -> None:
    first, *others = await asyncio.gather(*(stage.room.workers() for _ in range(5)))

    assert all(workers is first for workers in others)
    assert await stage.room.workers() is first
    assert stage.loader.loads == ["default.json"]
    assert stage.statuses == [EngineStatus.DOWNLOADING, EngineStatus.ENABLED]
    assert stage.room.model is not None
    assert (stage.room.model.engine_type, stage.serving) == ("scripted", "default")


async def test_one_who_stops_waiting_does_not_take_the_load_from_the_others(stage: Stage) -> None:
    stage.loader.may_go_on.clear()
    impatient = asyncio.create_task(stage.room.workers())
    patient = asyncio.create_task(stage.room.workers())
    await asyncio.sleep(0)
    impatient.cancel()
    await asyncio.wait((impatient,))
    stage.loader.may_go_on.set()

    assert await patient is stage.room.ready
    assert len(stage.loader.loads) == 1


async def test_a_model_whose_load_ends_after_the_room_was_closed_does_not_serve(stage: Stage) -> None:
    stage.loader.may_go_on.clear()
    waiting = asyncio.create_task(stage.room.workers())
    while not stage.loader.loads:
        await asyncio.sleep(0.001)
    stage.room.close()
    stage.loader.may_go_on.set()
    with pytest.raises(Failure) as refused:
        await waiting
    assert refused.value.code is FailureCode.ENGINE_UNAVAILABLE
    assert stage.room.ready is None


async def test_after_a_failure_the_next_one_tries_again(stage: Stage) -> None:
    stage.models.failures["default.json"] = AWAY
    with pytest.raises(Failure) as failed:
        await stage.room.workers()
    assert failed.value.code is FailureCode.ENGINE_UNAVAILABLE
    assert (stage.room.state.status, stage.room.state.reason) == (EngineStatus.ERROR, str(AWAY))
    stage.models.failures.clear()
    await stage.room.workers()

    assert stage.statuses == [
        EngineStatus.DOWNLOADING,
        EngineStatus.ERROR,
        EngineStatus.DOWNLOADING,
        EngineStatus.ENABLED,
    ]


async def test_a_fault_that_nobody_named_is_an_engine_that_is_not_available(tmp_path: Path) -> None:
    def crash(_: Path) -> Detector:
        raise RuntimeError("no driver")

    room = Stage(tmp_path, load=crash).room
    with pytest.raises(Failure, match="no driver") as failed:
        await room.workers()

    assert failed.value.code is FailureCode.ENGINE_UNAVAILABLE
    assert room.state.status is EngineStatus.ERROR


async def test_a_machine_without_room_for_another_thread_is_a_failure_and_the_next_one_tries_again(
    tmp_path: Path,
) -> None:
    made: list[Detector] = []

    def workers(detector: Detector) -> Workers:
        made.append(detector)
        if len(made) == 1:
            detector.close()
            raise Failure(FailureCode.ENGINE_UNAVAILABLE, "can't start new thread")
        return Workers(detector, count=1)

    models = FakeModels(tmp_path)
    models.add("default.json")
    room = EngineRoom(models=models, workers=workers)
    with pytest.raises(Failure, match="can't start new thread") as failed:
        await room.workers()

    assert failed.value.code is FailureCode.ENGINE_UNAVAILABLE
    assert room.state.status is EngineStatus.ERROR
    await room.workers()
    assert room.state.status is EngineStatus.ENABLED
    room.close()


async def test_a_copy_that_serves_for_an_absent_loader_is_a_warning_until_the_loader_is_back(stage: Stage) -> None:
    stage.models.copied_since = "the Loader is away"
    await stage.room.workers()
    assert (stage.room.state.status, stage.room.state.reason) == (
        EngineStatus.WARNING,
        "the copy here serves: the Loader is away",
    )
    await stage.room.refresh()
    assert len(stage.loader.loads) == 1, "it is still away"
    stage.models.copied_since = None
    await stage.room.refresh()
    await stage.room.refresh()

    assert (stage.room.state.status, stage.room.state.reason) == (EngineStatus.ENABLED, None)
    assert len(stage.loader.loads) == 2


async def test_a_copy_goes_on_serving_where_looking_for_a_fresher_one_breaks(stage: Stage) -> None:
    stage.models.copied_since = "the Loader is away"
    await stage.room.workers()
    stage.models.failures["default.json"] = OSError(28, "No space left on device")
    await stage.room.refresh()

    assert stage.serving == "default"
    assert stage.room.state.status is EngineStatus.WARNING


async def test_another_model_does_not_wait_for_a_loader_that_is_asked_for_the_one_that_serves(stage: Stage) -> None:
    stage.models.copied_since = "it was away"
    await stage.room.workers()
    stage.models.copied_since = None
    stage.models.may_find.clear()
    refreshing = asyncio.create_task(stage.room.refresh())
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        assert await stage.room.change(stage.models.add("other.json"))
    stage.models.may_find.set()
    await refreshing

    assert (stage.serving, stage.room.state.status) == ("other", EngineStatus.ENABLED)


async def test_the_first_load_serves_what_was_chosen(stage: Stage) -> None:
    stage.models.chosen = stage.models.add("other.json")
    await stage.room.workers()

    assert stage.serving == "other"


async def test_a_start_whose_choice_fails_serves_what_served_before(stage: Stage) -> None:
    before = stage.models.add("before.json")
    stage.models.chosen = ActiveModel(file="bad.json", revision="r2", previous=before)
    stage.models.failures["bad.json"] = CORRUPT
    await stage.room.workers()

    assert (stage.serving, stage.room.state.status) == ("before", EngineStatus.WARNING)
    assert stage.room.state.reason == f"bad.json does not serve: {CORRUPT}"
    assert stage.room.outcome is not None
    assert (stage.room.outcome.revision, stage.room.outcome.failure) == ("r2", CORRUPT.record())


# Another model


async def test_a_change_swaps_the_detector_of_the_same_workers(stage: Stage) -> None:
    workers = await stage.room.workers()
    before = workers.detector
    other = stage.models.add("other.json", revision="r7")

    assert await stage.room.change(other)
    assert stage.room.ready is workers
    assert workers.detector is not before
    assert (stage.serving, stage.room.state.status) == ("other", EngineStatus.ENABLED)
    assert stage.room.outcome is not None
    assert (stage.room.outcome.revision, stage.room.outcome.failure) == ("r7", None)
    assert EngineStatus.DOWNLOADING not in stage.statuses[2:], "it serves all the while"


@pytest.mark.parametrize(("failure", "is_settled"), [(CORRUPT, True), (AWAY, False)])
async def test_a_change_that_fails_leaves_what_serves_and_says_why(
    stage: Stage, failure: Failure, is_settled: bool
) -> None:
    workers = await stage.room.workers()
    before = workers.detector
    stage.models.failures["bad.json"] = failure

    assert await stage.room.change(ActiveModel(file="bad.json", revision="r8")) is is_settled
    assert workers.detector is before
    assert (stage.serving, stage.room.state.status) == ("default", EngineStatus.WARNING)
    assert stage.room.state.reason == f"bad.json does not serve: {failure}"
    assert stage.room.outcome is not None
    assert (stage.room.outcome.revision, stage.room.outcome.failure) == (
        "r8",
        FailureRecord(code=failure.code, detail=failure.detail),
    )
    assert await stage.room.change(stage.models.add("good.json"))
    assert (stage.serving, stage.room.state.status) == ("good", EngineStatus.ENABLED)


async def test_a_change_before_the_first_command_loads(stage: Stage) -> None:
    assert await stage.room.change(stage.models.add("other.json"))
    assert stage.serving == "other"
    assert await stage.room.workers() is stage.room.ready
    assert stage.loader.loads == ["other.json"]


async def test_a_change_that_fails_where_nothing_serves_is_an_error_and_the_next_command_tries_again(
    stage: Stage,
) -> None:
    stage.models.chosen = ActiveModel(file="bad.json")
    stage.models.failures["bad.json"] = CORRUPT
    assert await stage.room.change(stage.models.chosen)
    assert stage.room.state.status is EngineStatus.ERROR
    stage.models.add("bad.json")
    stage.models.failures.clear()
    await stage.room.workers()

    assert stage.serving == "bad"


async def test_what_serves_already_is_not_loaded_again(stage: Stage) -> None:
    other = stage.models.add("other.json", revision="r9")
    await stage.room.change(other)

    assert await stage.room.change(other)
    assert stage.loader.loads == ["other.json"]


async def test_a_change_and_the_first_command_together_load_one_after_the_other(stage: Stage) -> None:
    other = stage.models.add("other.json")
    await asyncio.gather(stage.room.change(other), stage.room.workers())

    assert stage.serving == "other"


async def test_a_lost_engine_is_replaced_by_a_change(stage: Stage) -> None:
    await stage.room.workers()
    stage.room.step(Step.LOST, "the server is away")
    await stage.room.change(stage.models.add("other.json"))

    assert stage.room.state.status is EngineStatus.ENABLED


async def test_an_unreadable_choice_is_the_error_of_a_first_load(stage: Stage) -> None:
    stage.models.unreadable = Failure(FailureCode.MODEL_MISSING, "active.json is unreadable")
    with pytest.raises(Failure, match="unreadable"):
        await stage.room.workers()

    assert stage.room.state.status is EngineStatus.ERROR


async def test_if_the_one_before_fails_too_the_reason_is_that_of_the_choice(stage: Stage) -> None:
    before = ActiveModel(file="gone.json")
    stage.models.chosen = ActiveModel(file="bad.json", previous=before)
    stage.models.failures |= {"bad.json": CORRUPT, "gone.json": AWAY}
    with pytest.raises(Failure, match="no model at all"):
        await stage.room.workers()

    assert stage.room.state.reason == str(CORRUPT)


async def test_going_back_to_what_serves_ends_the_warning_of_a_choice_that_failed(stage: Stage) -> None:
    good = stage.models.add("good.json")
    await stage.room.change(good)
    stage.models.failures["bad.json"] = CORRUPT
    await stage.room.change(ActiveModel(file="bad.json"))
    assert stage.room.state.status is EngineStatus.WARNING
    await stage.room.change(good)

    assert (stage.room.state.status, stage.room.state.reason) == (EngineStatus.ENABLED, None)
    assert stage.loader.loads == ["good.json"]


# Behind it


async def test_what_goes_on_behind_a_model_ends_before_another_takes_its_place(stage: Stage) -> None:
    await stage.room.workers()
    await asyncio.sleep(0)
    stage.room.step(Step.CONVERSION_STARTED)
    await stage.room.change(stage.models.add("other.json"))
    await asyncio.sleep(0)

    assert stage.behind == ["began default", "ended default while default serves", "began other"]
    assert stage.room.state.status is EngineStatus.ENABLED


async def test_a_model_that_fails_does_not_end_what_goes_on_behind_the_one_that_serves(stage: Stage) -> None:
    await stage.room.workers()
    await asyncio.sleep(0)
    stage.models.failures["bad.json"] = CORRUPT
    await stage.room.change(ActiveModel(file="bad.json"))

    assert stage.behind == ["began default"]


async def test_an_engine_goes_on_being_built_while_other_models_fail_and_are_given_up(stage: Stage) -> None:
    good = stage.models.add("good.json")
    await stage.room.change(good)
    stage.models.failures["bad.json"] = CORRUPT
    stage.room.step(Step.CONVERSION_STARTED)
    await stage.room.change(ActiveModel(file="bad.json"))
    stage.room.step(Step.CONVERSION_GOES_ON, "fp16: 30 %")
    assert stage.room.state.status is EngineStatus.CONVERTING
    await stage.room.change(good)
    stage.room.step(Step.CONVERTED)
    await stage.room.change(ActiveModel(file="bad.json"))
    stage.room.step(Step.UPLOADED, "no int8 engine")
    assert stage.room.state.status is EngineStatus.WARNING
    assert stage.room.state.reason == f"no int8 engine; bad.json does not serve: {CORRUPT}"
    await stage.room.change(good)

    assert (stage.room.state.status, stage.room.state.reason) == (EngineStatus.ENABLED, None)


async def test_a_warning_about_the_model_outlives_the_building_of_its_engine(stage: Stage) -> None:
    (stage.models.folder / "classes.json").write_text("{")
    await stage.room.workers()
    warning = stage.room.state.reason
    for step in (Step.CONVERSION_STARTED, Step.CONVERTED, Step.UPLOADED):
        stage.room.step(step)

    assert (stage.room.state.status, stage.room.state.reason) == (EngineStatus.WARNING, warning)
    stage.room.step(Step.LOST, "its server is away")
    stage.room.step(Step.RECOVERED)
    assert (stage.room.state.status, stage.room.state.reason) == (EngineStatus.WARNING, warning)


async def test_a_lost_engine_does_not_come_back_by_giving_up_another_model(stage: Stage) -> None:
    good = stage.models.add("good.json")
    await stage.room.change(good)
    stage.models.failures["bad.json"] = CORRUPT
    await stage.room.change(ActiveModel(file="bad.json"))
    stage.room.step(Step.LOST, "its server is away")
    await stage.room.change(good)
    assert (stage.room.state.status, stage.room.state.reason) == (EngineStatus.ERROR, "its server is away")
    stage.room.step(Step.RECOVERED)

    assert stage.room.state.status is EngineStatus.ENABLED


async def test_a_faster_detector_takes_the_place_of_the_one_that_serves(stage: Stage) -> None:
    workers = await stage.room.workers()
    stage.models.add("faster.json")
    faster = load_detector(stage.models.folder / "faster.json")
    await stage.room.use(faster)

    assert workers.detector is faster
    assert stage.serving == "faster"
    stage.room.close()
    with pytest.raises(Failure, match="no model serves"):
        await stage.room.use(faster)
