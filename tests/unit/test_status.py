"""The transition table of the engine's status."""

import pytest

from contracts.events import EngineStatus
from engine.status import TRANSITIONS, EngineState, IllegalStepError, StatusBoard, Step

LIFE = [
    (Step.LOAD_STARTED, EngineStatus.DOWNLOADING),
    (Step.LOAD_FAILED, EngineStatus.ERROR),
    (Step.LOAD_STARTED, EngineStatus.DOWNLOADING),
    (Step.LOADED, EngineStatus.ENABLED),
    (Step.CONVERSION_STARTED, EngineStatus.CONVERTING),
    (Step.CONVERTED, EngineStatus.UPLOADING),
    (Step.UPLOAD_FAILED, EngineStatus.WARNING),
    (Step.RECOVERED, EngineStatus.ENABLED),
    (Step.LOST, EngineStatus.ERROR),
    (Step.UNLOADED, EngineStatus.NONE),
]


def test_a_whole_life_goes_through_the_table() -> None:
    board = StatusBoard()

    assert [board.step(step).status for step, _ in LIFE] == [status for _, status in LIFE]


def test_every_change_is_told_in_order_with_its_reason() -> None:
    told: list[EngineState] = []
    board = StatusBoard(told.append)

    board.step(Step.LOAD_STARTED)
    board.step(Step.LOAD_FAILED, "no file model.onnx")

    assert [(state.status, state.reason) for state in told] == [
        (EngineStatus.DOWNLOADING, None),
        (EngineStatus.ERROR, "no file model.onnx"),
    ]


def test_a_reason_does_not_outlive_its_state() -> None:
    board = StatusBoard()
    board.step(Step.LOAD_STARTED)
    board.step(Step.LOAD_FAILED, "no file")

    assert board.step(Step.LOAD_STARTED).reason is None


def test_a_step_that_cannot_happen_changes_nothing() -> None:
    told: list[EngineState] = []
    board = StatusBoard(told.append)

    with pytest.raises(IllegalStepError, match="loaded while None"):
        board.step(Step.LOADED)

    assert board.state == EngineState()
    assert told == []


def test_every_status_can_be_reached_and_left() -> None:
    assert {status for status, _ in TRANSITIONS} == set(EngineStatus)
    assert set(TRANSITIONS.values()) == set(EngineStatus)


@pytest.mark.parametrize(
    ("status", "is_serving"),
    [
        (EngineStatus.NONE, False),
        (EngineStatus.DOWNLOADING, False),
        (EngineStatus.CONVERTING, True),
        (EngineStatus.UPLOADING, True),
        (EngineStatus.ENABLED, True),
        (EngineStatus.WARNING, True),
        (EngineStatus.ERROR, False),
    ],
)
def test_commands_are_worked_on_while_something_serves(status: EngineStatus, is_serving: bool) -> None:
    assert EngineState(status=status).is_serving is is_serving


def test_a_failed_conversion_leaves_the_engine_serving() -> None:
    state = EngineState(status=EngineStatus.CONVERTING).after(Step.CONVERSION_FAILED, "builder died")

    assert (state.status, state.reason, state.is_serving) == (EngineStatus.WARNING, "builder died", True)


@pytest.mark.parametrize("status", [status for status in EngineStatus if EngineState(status=status).is_serving])
def test_another_model_takes_the_place_of_any_that_serves_or_leaves_it(status: EngineStatus) -> None:
    state = EngineState(status=status, reason="before")

    assert state.after(Step.LOADED) == EngineState(status=EngineStatus.ENABLED)
    assert state.after(Step.LOADED_WITH_WARNING, "no names") == EngineState(
        status=EngineStatus.WARNING, reason="no names"
    )
    assert state.after(Step.LOAD_FAILED, "corrupt") == EngineState(status=EngineStatus.WARNING, reason="corrupt")


def test_a_lost_engine_stays_lost_when_another_model_fails() -> None:
    lost = EngineState(status=EngineStatus.ERROR)

    assert lost.after(Step.LOAD_FAILED, "corrupt").status is EngineStatus.ERROR
    assert lost.after(Step.LOADED).status is EngineStatus.ENABLED
