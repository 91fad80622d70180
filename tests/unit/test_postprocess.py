"""Overlap, confidence and soundness of boxes (CONTRACT section 2)."""

import numpy as np
import pytest

from engine.postprocess import (
    Boxes,
    clipped,
    most_confident,
    no_boxes,
    sound,
    without_contained,
    without_repeats,
)


def boxes(*rows: tuple[float, ...]) -> Boxes:
    """Rows x1, y1, x2, y2, score and, if it is not 0, the class."""
    return Boxes(
        corners=np.array([row[:4] for row in rows], np.float32).reshape(-1, 4),
        scores=np.array([row[4] for row in rows], np.float32),
        classes=np.array([row[5] if len(row) > 5 else 0 for row in rows], np.int32),
    )


def scores(left: Boxes) -> list[float]:
    return [round(float(score), 3) for score in left.scores]


def test_a_box_inside_another_goes_even_if_their_iou_is_small() -> None:
    small_in_large = boxes((0, 0, 100, 100, 0.9), (10, 10, 20, 20, 0.5))

    assert scores(without_contained(small_in_large, containment_max=0.6)) == [0.9]
    assert scores(without_repeats(small_in_large, iou_max=0.6)) == [0.9, 0.5]


def test_the_more_confident_of_two_stays_even_if_it_is_the_smaller() -> None:
    assert scores(without_contained(boxes((0, 0, 100, 100, 0.5), (10, 10, 20, 20, 0.9)), containment_max=0.6)) == [0.9]


@pytest.mark.parametrize(("threshold", "left"), [(0.49, [0.9]), (0.5, [0.9, 0.8]), (0.51, [0.9, 0.8])])
def test_a_pair_goes_only_above_the_threshold(threshold: float, left: list[float]) -> None:
    half_shared = boxes((0, 0, 10, 10, 0.9), (5, 0, 15, 10, 0.8))

    assert scores(without_contained(half_shared, containment_max=threshold)) == left


def test_boxes_of_different_classes_do_not_remove_each_other() -> None:
    same_place = boxes((0, 0, 10, 10, 0.9, 1), (0, 0, 10, 10, 0.8, 2))

    assert scores(without_contained(same_place, containment_max=0.6)) == [0.9, 0.8]
    assert scores(without_repeats(same_place, iou_max=0.45)) == [0.9, 0.8]


def test_a_box_that_was_removed_removes_no_other() -> None:
    chain = boxes((0, 0, 10, 10, 0.9), (4, 0, 14, 10, 0.8), (8, 0, 18, 10, 0.7))

    assert scores(without_contained(chain, containment_max=0.5)) == [0.9, 0.7]


def test_a_threshold_of_one_switches_containment_off() -> None:
    equal = boxes((0.1, 0.1, 0.3, 0.3, 0.8), (0.1, 0.1, 0.3, 0.3, 0.9))

    assert scores(without_contained(equal, containment_max=1.0)) == [0.9, 0.8]


def test_boxes_in_different_blocks_are_compared_too() -> None:
    spread = [(i * 20.0, 0.0, i * 20.0 + 10, 10.0, 0.9 - i / 10000) for i in range(300)]
    repeats = [(x1 + 1, y1, x2 + 1, y2, score - 0.2) for x1, y1, x2, y2, score in spread]

    left = without_repeats(boxes(*spread, *repeats), iou_max=0.45)

    assert len(left) == 300
    assert float(left.scores.min()) > 0.8


@pytest.mark.parametrize(
    "broken",
    [
        (float("nan"), 0, 10, 10, 0.9),
        (0, 0, float("inf"), 10, 0.9),
        (-3e38, 0, 3e38, 10, 0.9),
        (5, 0, 5, 10, 0.9),
        (6, 0, 5, 10, 0.9),
        (0, 3, 10, 3, 0.9),
        (0, 0, 10, 10, float("nan")),
        (0, 0, 10, 10, float("inf")),
        (0, 0, 10, 10, 0),
        (0, 0, 10, 10, -1),
        (0, 0, 10, 10, 0.9, -1),
    ],
)
def test_a_box_that_cannot_be_real_goes(broken: tuple[float, ...]) -> None:
    with np.errstate(over="ignore"):
        assert scores(sound(boxes(broken, (0, 0, 1, 1, 0.5)))) == [0.5]


def test_a_score_above_one_counts_as_one() -> None:
    assert scores(sound(boxes((0, 0, 1, 1, 1.7)))) == [1.0]


def test_the_best_come_first_and_equal_scores_keep_their_order() -> None:
    rows = boxes((1, 0, 2, 1, 0.5), (2, 0, 3, 1, 0.9), (3, 0, 4, 1, 0.5), (4, 0, 5, 1, 0.1))

    assert most_confident(rows, at_most=3).corners[:, 0].tolist() == [2, 1, 3]


def test_a_box_is_clipped_to_the_picture_and_one_outside_goes() -> None:
    left = clipped(boxes((-5, -5, 5, 5, 0.9), (20, 20, 30, 30, 0.8), (8, 8, 99, 99, 0.7)), width=10, height=10)

    assert left.corners.tolist() == [[0, 0, 5, 5], [8, 8, 10, 10]]


def test_no_boxes_pass_through_every_step() -> None:
    nothing = no_boxes()

    assert len(without_contained(without_repeats(sound(nothing), iou_max=0.5), containment_max=0.5)) == 0
    assert len(clipped(nothing, width=1, height=1)) == 0
