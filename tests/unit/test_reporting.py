"""The reporting rule of CONTRACT section 2, clause by clause."""

from typing import NamedTuple

import pytest

from contracts.detections import Detection
from contracts.options import DetectionOptions
from contracts.results import LastReport
from engine.orientation import Size
from engine.reporting import report
from engine.sampling import is_sampled

SQUARE = Size(100, 100)
WIDE = Size(200, 100)


def _seen(x: float = 0.5, y: float = 0.5, *, confidence: float = 0.5, class_num: int = 0) -> Detection:
    return Detection(
        center_x=x, center_y=y, width=0.1, height=0.1, class_num=class_num, label="thing", confidence=confidence
    )


LAST = LastReport(at_s=10, annotations=[_seen()])
OTHER_CLASS = _seen(class_num=1)
STILL = DetectionOptions(tracking_distance_confidence=0.1, tracking_probability_increase=0.1)
ONLY_DISTANCE = DetectionOptions(tracking_distance_confidence=0.25, tracking_probability_increase=1)
ONLY_GAIN = DetectionOptions(tracking_distance_confidence=1, tracking_probability_increase=0.25)


class Case(NamedTuple):
    name: str
    detections: list[Detection]
    last: LastReport | None
    at_s: float
    options: DetectionOptions
    is_reported: bool


CASES = (
    Case("no detections, nothing before", [], None, 0, STILL, False),
    Case("no detections, long after", [], LAST, 100, STILL, False),
    Case("no detections, every frame asked for", [], LAST, 100, DetectionOptions(frame_recognition_seconds=0), False),
    Case("the first detections", [_seen()], None, 0, STILL, True),
    Case("news too early", [_seen(), _seen()], LAST, 11.99, STILL, False),
    Case("news exactly in time", [_seen(), _seen()], LAST, 12, STILL, True),
    Case("news in time but for the error of floats", [_seen(), _seen()], LAST, 12 - 1e-9, STILL, True),
    Case("the same again", [_seen()], LAST, 100, STILL, False),
    Case(
        "the same again, every frame asked for",
        [_seen()],
        LAST,
        10,
        DetectionOptions(frame_recognition_seconds=0),
        True,
    ),
    Case("one more of a class", [_seen(), _seen()], LAST, 20, STILL, True),
    Case("one of a new class", [_seen(), OTHER_CLASS], LAST, 20, STILL, True),
    Case("another class instead", [OTHER_CLASS], LAST, 20, STILL, True),
    Case("one fewer", [_seen()], LastReport(at_s=10, annotations=[_seen(), OTHER_CLASS]), 20, STILL, False),
    Case("moved just as far as allowed", [_seen(0.75)], LAST, 20, ONLY_DISTANCE, False),
    Case("moved farther", [_seen(0.61)], LAST, 20, STILL, True),
    Case("moved, any movement is news", [_seen(0.5001)], LAST, 20, DetectionOptions(), True),
    Case("gained just as much as allowed", [_seen(confidence=0.75)], LAST, 20, ONLY_GAIN, False),
    Case("gained more", [_seen(confidence=0.61)], LAST, 20, STILL, True),
    Case("lost confidence", [_seen(confidence=0.1)], LAST, 20, STILL, False),
    Case("nothing moved, any movement is news", [_seen()], LAST, 20, DetectionOptions(), False),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_rule(case: Case) -> None:
    remembered = report(case.detections, at_s=case.at_s, last=case.last, options=case.options, size=SQUARE)
    expected = LastReport(at_s=case.at_s, annotations=case.detections) if case.is_reported else None
    assert remembered == expected


def test_a_detection_is_compared_with_the_nearest_of_its_class() -> None:
    last = LastReport(at_s=0, annotations=[_seen(0.1), _seen(0.9), _seen(0.5, class_num=1)])
    assert report([_seen(0.15), _seen(0.88)], at_s=10, last=last, options=STILL, size=SQUARE) is None
    assert report([_seen(0.15), _seen(0.5)], at_s=10, last=last, options=STILL, size=SQUARE) is not None


def test_distances_are_fractions_of_the_longer_side() -> None:
    """The longer side fills the model's width: a tenth of the height of a wide picture is a twentieth of that."""
    up = [_seen(0.5, 0.6)]
    tolerant, strict = (
        DetectionOptions(tracking_distance_confidence=distance, tracking_probability_increase=1)
        for distance in (0.06, 0.04)
    )
    assert report(up, at_s=20, last=LAST, options=tolerant, size=WIDE) is None
    assert report(up, at_s=20, last=LAST, options=strict, size=WIDE) is not None


def test_every_nth_frame_is_sampled_from_the_first_on() -> None:
    assert [index for index in range(13) if is_sampled(index, period=4)] == [0, 4, 8, 12]
    assert all(is_sampled(index, period=1) for index in range(5))
