"""What listeners are to hear is told from a log, and what one missed or heard twice is found."""

import pytest

from contracts.events import AnyEvent
from tests.events import end, new_task, progress, report, reports
from tests.fault.listeners import Heard, Listener, difference, to_be_heard

ONE, TWO = new_task(), new_task()


def heard(*said: Heard, gaps: tuple[str, ...] = ()) -> Listener:
    listener = Listener("http://127.0.0.1:1")
    listener.heard, listener.gaps = list(said), list(gaps)
    return listener


def test_reports_and_ends_are_heard_in_the_order_of_the_log() -> None:
    log: list[AnyEvent] = [report(ONE, 1), progress(ONE), report(TWO, 1), end(ONE, 2), end(TWO, 2)]

    assert to_be_heard(log) == [(ONE, 1), (TWO, 1), (ONE, 2), (TWO, 2)]


def test_what_is_said_again_or_by_an_older_taker_is_heard_once() -> None:
    log: list[AnyEvent] = [*reports(ONE, 1, 2), report(ONE, 2, epoch=2), report(ONE, 3), report(ONE, 3, epoch=2)]

    assert to_be_heard([*log, end(ONE, 4), end(ONE, 4), report(ONE, 4, epoch=3)]) == [(ONE, n) for n in (1, 2, 3, 4)]


@pytest.mark.parametrize(
    ("listener", "found"),
    [
        (heard((ONE, 1), (ONE, 2)), ""),
        (heard((ONE, 1)), "heard 1 of 2"),
        (heard((ONE, 1), (ONE, 1), (ONE, 2)), "event 1: heard"),
        (heard((ONE, 2), (ONE, 1)), "event 0: heard"),
        (heard((ONE, 1), (ONE, 2), (ONE, 2)), "heard 3 of 2"),
        (heard((ONE, 1), (ONE, 2), gaps=("{}",)), "gaps"),
    ],
)
def test_a_listener_that_heard_something_else_is_found(listener: Listener, found: str) -> None:
    said = difference(listener, [(ONE, 1), (ONE, 2)])

    assert said.startswith(found)
    assert bool(said) == bool(found)
