"""The overlap rules against their plain definition."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.postprocess import Boxes, without_contained, without_repeats

coordinate = st.integers(0, 40)
rows = st.lists(
    st.tuples(coordinate, coordinate, st.integers(1, 20), st.integers(1, 20), st.integers(1, 1000), st.integers(0, 2)),
    max_size=40,
)


def as_boxes(drawn: list[tuple[int, ...]]) -> Boxes:
    table = np.array(drawn, np.float32).reshape(-1, 6)
    return Boxes(
        corners=np.concatenate([table[:, :2], table[:, :2] + table[:, 2:4]], axis=1),
        scores=table[:, 4] / np.float32(1000),
        classes=table[:, 5].astype(np.int32),
    )


def ratios(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """IoU and containment of two boxes."""
    shared = max(0.0, min(one[2], other[2]) - max(one[0], other[0])) * max(
        0.0, min(one[3], other[3]) - max(one[1], other[1])
    )
    areas = [float((box[2] - box[0]) * (box[3] - box[1])) for box in (one, other)]
    return shared / (sum(areas) - shared), shared / min(areas)


def plainly(boxes: Boxes, threshold: float, which: int) -> list[int]:
    """The definition: from the best on, a box stays if no staying one of its class overlaps it too much."""
    staying: list[int] = []
    for at in np.argsort(-boxes.scores, kind="stable"):
        rivals = (other for other in staying if boxes.classes[other] == boxes.classes[at])
        if all(ratios(boxes.corners[at], boxes.corners[rival])[which] <= threshold for rival in rivals):
            staying.append(int(at))
    return staying


@settings(max_examples=150)
@given(drawn=rows, percent=st.integers(1, 99))
def test_what_stays_is_what_the_definition_says(drawn: list[tuple[int, ...]], percent: int) -> None:
    boxes = as_boxes(drawn)
    threshold = percent / 100 + 0.0003  # no ratio of small integers lies on it, where rounding decides

    by_iou = without_repeats(boxes, iou_max=threshold)
    by_containment = without_contained(boxes, containment_max=threshold)

    assert by_iou.corners.tolist() == boxes.corners[plainly(boxes, threshold, 0)].tolist()
    assert by_containment.corners.tolist() == boxes.corners[plainly(boxes, threshold, 1)].tolist()


@given(drawn=rows, percent=st.integers(0, 99))
def test_no_pair_of_a_class_is_left_above_the_threshold(drawn: list[tuple[int, ...]], percent: int) -> None:
    left = without_contained(as_boxes(drawn), containment_max=percent / 100)

    for at in range(len(left)):
        for other in range(at):
            if left.classes[at] == left.classes[other]:
                assert ratios(left.corners[at], left.corners[other])[1] <= percent / 100 + 1e-6


@given(drawn=rows)
def test_the_most_confident_box_of_a_class_always_stays(drawn: list[tuple[int, ...]]) -> None:
    boxes = as_boxes(drawn)

    left = without_contained(boxes, containment_max=0.0)

    for number in set(boxes.classes.tolist()):
        assert boxes.scores[boxes.classes == number].max() == left.scores[left.classes == number].max()
