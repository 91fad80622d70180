"""Found against drawn: what counts as right, as missed and as false."""

import pytest

from contracts.detections import Detection
from detections.score import Score, overlap, score
from detections.traffic import HEIGHT, WIDTH, Drawn


def car(x: float = 100, *, is_whole: bool = True) -> Drawn:
    return Drawn(x1=x, y1=100, x2=x + 50, y2=120, is_whole=is_whole)


def found(x: float, *, y: float = 100, width: float = 50, height: float = 20, confidence: float = 0.9) -> Detection:
    return Detection(
        center_x=(x + width / 2) / WIDTH,
        center_y=(y + height / 2) / HEIGHT,
        width=width / WIDTH,
        height=height / HEIGHT,
        class_num=0,
        label="vehicle",
        confidence=confidence,
    )


def test_a_box_on_its_car_overlaps_wholly() -> None:
    assert overlap(found(100), car(100)) == pytest.approx(1)


def test_half_a_box_aside_is_a_third_of_overlap() -> None:
    assert overlap(found(125), car(100)) == pytest.approx(1 / 3)


@pytest.mark.parametrize("x", [150, 300])
def test_boxes_that_do_not_meet_do_not_overlap(x: float) -> None:
    assert overlap(found(x), car(100)) == 0


def test_each_car_is_found_once() -> None:
    assert score([found(100), found(102, confidence=0.5)], [car(100)]) == Score(drawn=1, found=1, false=1)


def test_a_box_beside_its_car_is_false_and_the_car_is_missed() -> None:
    assert score([found(130)], [car(100)]) == Score(drawn=1, found=0, false=1)


def test_a_car_cut_by_the_edge_is_right_when_found_and_no_fault_when_missed() -> None:
    cut = car(0, is_whole=False)

    assert score([found(0)], [cut]) == score([], [cut]) == Score(drawn=0, found=0, false=0)


def test_the_most_confident_box_chooses_first() -> None:
    cars = [car(100), car(110)]

    assert score([found(104, confidence=0.5), found(101, confidence=0.9)], cars).found == 2


def test_frames_add_up() -> None:
    total = Score(drawn=3, found=2, false=1) + Score(drawn=1, found=1, false=0)

    assert (total.recall, total.precision) == (0.75, 0.75)


def test_nothing_drawn_and_nothing_found_is_perfect() -> None:
    assert (Score().recall, Score().precision) == (1, 1)
