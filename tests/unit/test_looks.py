"""What is drawn on frames between two looks."""

import pytest

from contracts.detections import Detection
from detections.looks import Looks


def seen(x: float, *, class_num: int = 0) -> Detection:
    return Detection(center_x=x, center_y=0.5, width=0.1, height=0.1, class_num=class_num, label="car", confidence=0.9)


def looks(at: dict[int, list[Detection]]) -> Looks:
    kept = Looks()
    for frame_index, detections in at.items():
        kept.add(frame_index, detections)
    return kept


def positions(detections: list[Detection]) -> list[float]:
    return [each.center_x for each in detections]


def test_a_frame_that_was_looked_at_shows_just_that() -> None:
    assert looks({0: [seen(0.1)], 4: [seen(0.14)]}).at(4) == [seen(0.14)]


def test_a_box_glides_from_one_look_to_the_next() -> None:
    assert positions(looks({0: [seen(0.1)], 4: [seen(0.18)]}).at(2)) == [pytest.approx(0.14)]


def test_two_boxes_keep_their_own_ways() -> None:
    kept = looks({0: [seen(0.1), seen(0.5)], 4: [seen(0.54), seen(0.14)]})

    assert positions(kept.at(2)) == [pytest.approx(0.12), pytest.approx(0.52)]


@pytest.mark.parametrize("other", [seen(0.9), seen(0.1, class_num=1)])
def test_a_box_without_a_successor_stays_half_the_way(other: Detection) -> None:
    kept = looks({0: [seen(0.1)], 4: [other]})

    assert positions(kept.at(2)) == [0.1]
    assert kept.at(3) == []


def test_nothing_is_shown_before_the_first_look() -> None:
    assert looks({4: [seen(0.1)]}).at(3) == []


def test_the_last_look_holds_as_long_as_looks_are_apart() -> None:
    kept = looks({0: [], 4: [seen(0.1)]})

    assert kept.at(8) == [seen(0.1)]
    assert kept.at(9) == []


def test_looks_may_arrive_in_any_order() -> None:
    assert positions(looks({8: [seen(0.3)], 0: [seen(0.1)], 4: [seen(0.2)]}).at(4)) == [0.2]
