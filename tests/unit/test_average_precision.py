"""The average precision of the accuracy benchmark, on cases counted by hand."""

import pytest

from benchmarks.average_precision import Claim, Truth, average_precision

SQUARE = (0.0, 0.0, 10.0, 10.0)
FAR = (50.0, 50.0, 60.0, 60.0)


def truth(corners: tuple[float, float, float, float], *, class_num: int = 0, is_crowd: bool = False) -> Truth:
    return Truth(class_num=class_num, corners=corners, is_crowd=is_crowd)


def claim(corners: tuple[float, float, float, float], score: float, class_num: int = 0) -> Claim:
    return Claim(class_num=class_num, corners=corners, score=score)


def test_all_found_and_nothing_else_is_one() -> None:
    found = average_precision(
        {"a": [truth(SQUARE)], "b": [truth(FAR)]}, {"a": [claim(SQUARE, 0.9)], "b": [claim(FAR, 0.3)]}
    )

    assert (found.ap, found.ap50) == (1, 1)


def test_nothing_found_is_zero() -> None:
    assert average_precision({"a": [truth(SQUARE)]}, {}).ap == 0


def test_a_wrong_box_before_the_second_right_one_costs_the_second_half_of_the_recalls() -> None:
    claims = [claim(SQUARE, 0.9), claim((20, 20, 30, 30), 0.8), claim(FAR, 0.7)]

    found = average_precision({"a": [truth(SQUARE), truth(FAR)]}, {"a": claims})

    # precision 1 at the 51 recalls 0 .. 0.5, then 2 of 3 at the 50 above
    assert found.ap50 == pytest.approx((51 * 1 + 50 * 2 / 3) / 101)


def test_a_box_that_is_half_right_counts_up_to_its_overlap() -> None:
    three_quarters = (0.0, 0.0, 10.0, 7.5)  # IoU 0.75: the overlaps 0.5 .. 0.75 are six of ten

    assert average_precision({"a": [truth(SQUARE)]}, {"a": [claim(three_quarters, 0.9)]}).ap == pytest.approx(0.6)


def test_the_second_box_of_the_same_object_is_wrong() -> None:
    truths, claims = [truth(SQUARE), truth(FAR)], [claim(SQUARE, 0.9), claim(SQUARE, 0.8), claim(FAR, 0.7)]

    assert average_precision({"a": truths}, {"a": claims}).ap50 == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_a_crowd_takes_any_number_of_boxes_and_is_not_missed() -> None:
    truths = [truth(SQUARE), truth((40, 40, 80, 80), is_crowd=True)]
    claims = [claim(FAR, 0.95), claim((41, 41, 50, 50), 0.94), claim(SQUARE, 0.9)]

    assert average_precision({"a": truths}, {"a": claims}).ap == 1


def test_classes_count_alike_and_a_class_that_is_nowhere_does_not_count() -> None:
    truths = {"a": [truth(SQUARE), truth(FAR, class_num=1)]}
    claims = {"a": [claim(SQUARE, 0.9), claim(SQUARE, 0.9, class_num=7)]}

    assert average_precision(truths, claims).ap == 0.5


def test_the_hundred_best_boxes_of_a_picture_count() -> None:
    noise = [claim((200.0 + at, 200, 210.0 + at, 210), 0.5, class_num=1) for at in range(100)]

    assert average_precision({"a": [truth(SQUARE)]}, {"a": [claim(SQUARE, 0.4), *noise]}).ap == 0
    assert average_precision({"a": [truth(SQUARE)]}, {"a": [claim(SQUARE, 0.4), *noise[:99]]}).ap == 1
