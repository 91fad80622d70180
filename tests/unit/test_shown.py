"""Every report once, whoever publishes it and however often."""

import msgspec
import pytest

from contracts.events import AnyEvent
from contracts.failures import FailureCode, FailureRecord
from edge.shown import OVERTAKEN_MAX, Shown
from tests.events import end, progress, report

T = "00000000-0000-4000-8000-000000000001"
OTHER = "00000000-0000-4000-8000-000000000002"


def admitted(*events: AnyEvent, tasks_max: int = 10) -> list[bool]:
    shown = Shown(tasks_max=tasks_max)
    return [shown.admit(event) is not None for event in events]


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ((report(T, 1), report(T, 2)), [True, True]),
        ((report(T, 1), report(T, 1)), [True, False]),
        ((report(T, 2), report(T, 1)), [True, False]),
        ((report(T, 1), report(T, 3), report(T, 2), report(T, 2)), [True, True, True, False]),
        ((report(T, 1), report(T, 4), report(T, 3), report(T, 5), report(T, 2)), [True, True, True, True, True]),
        ((report(T, 1), report(T, 4), progress(T, epoch=2), report(T, 3)), [True, True, True, False]),
        ((report(T, 1), report(T, 4), report(T, 4, epoch=2), report(T, 3, epoch=2)), [True, True, False, True]),
        ((report(T, 1), report(T, 3), end(T, 4), report(T, 2)), [True, True, True, False]),
        ((report(T, 1), report(OTHER, 1)), [True, True]),
        ((report(T, 1), report(T, 1, epoch=2), report(T, 2, epoch=2)), [True, False, True]),
        ((report(T, 1, epoch=2), report(T, 2, epoch=1)), [True, False]),
        ((report(T, 1), report(T, 1, epoch=2), report(T, 2, epoch=1)), [True, False, False]),
        ((progress(T), progress(T), report(T, 1), progress(T)), [True, True, True, True]),
        ((progress(T, epoch=2), progress(T), report(T, 1)), [True, False, False]),
        ((report(T, 1), end(T, 2), end(T, 2, epoch=2)), [True, True, False]),
        ((end(T, 2), report(T, 3), progress(T, epoch=9)), [True, False, False]),
        ((report(T, 5, epoch=2), end(T, 4, epoch=1)), [True, True]),
    ],
)
def test_what_was_said_before_is_no_news(events: tuple[AnyEvent, ...], expected: list[bool]) -> None:
    assert admitted(*events) == expected


def test_a_taker_that_begins_behind_what_was_told_lowers_no_percent() -> None:
    shown = Shown(tasks_max=1)
    stopped = FailureRecord(code=FailureCode.CANCELLED, detail="as asked")
    events = [
        msgspec.structs.replace(progress(T), percent=40),
        msgspec.structs.replace(progress(T, epoch=2), percent=35),
        msgspec.structs.replace(report(T, 1, epoch=2), percent=36),
        msgspec.structs.replace(report(T, 2, epoch=2), percent=41),
        msgspec.structs.replace(end(T, 3, epoch=2), percent=39, failure=stopped),
    ]
    assert [event.percent for event in map(shown.admit, events) if event is not None] == [40, 40, 40, 41, 41]


def test_the_task_that_was_silent_longest_is_forgotten_first() -> None:
    third = OTHER.replace("2", "3")
    assert (
        admitted(report(T, 1), report(OTHER, 1), progress(T), report(third, 1), report(T, 1), tasks_max=2)[-1] is False
    )
    assert admitted(report(T, 1), report(OTHER, 1), report(third, 1), report(T, 1), tasks_max=2)[-1] is True


def test_of_too_many_that_were_overtaken_the_last_are_waited_for() -> None:
    far = 2 * OVERTAKEN_MAX
    assert admitted(
        report(T, 1), report(T, far), report(T, far - OVERTAKEN_MAX), report(T, far - OVERTAKEN_MAX - 1)
    ) == [
        True,
        True,
        True,
        False,
    ]


def test_the_memory_is_bounded() -> None:
    shown = Shown(tasks_max=3)
    for number in range(10):
        shown.admit(report(f"task {number}", 1))
    assert len(shown) == 3
