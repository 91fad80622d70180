"""The gate before a faster engine: what it lost is seen, in numbers."""

from pathlib import Path

import pytest

from contracts.detections import Detection
from engine.agreement import Agreement, AgreementLimits, agreement_of, compare
from engine.loading import load_detector
from tests.pictures import GREEN, RED, drawn, read_photo
from tests.tiny_models import write_script


def box(x: float = 0.5, *, width: float = 0.2, class_num: int = 0, confidence: float = 0.9) -> Detection:
    return Detection(
        center_x=x, center_y=0.5, width=width, height=0.2, class_num=class_num, label="a", confidence=confidence
    )


def judged(expected: list[Detection], found: list[Detection]) -> Agreement:
    return agreement_of([expected], [found], limits=AgreementLimits(expected_min=1))


def test_the_same_boxes_agree_wholly() -> None:
    agreement = judged([box(0.2), box(0.7)], [box(0.7), box(0.2)])

    assert (agreement.recall, agreement.precision, agreement.mean_iou) == (1.0, 1.0, pytest.approx(1.0))
    assert agreement.is_enough


def test_an_engine_that_never_detects_is_refused_with_numbers() -> None:
    agreement = judged([box(0.2), box(0.7)], [])

    assert not agreement.is_enough
    assert "recall 0.000 (0 of 2, least 0.95)" in str(agreement)


def test_boxes_that_the_reference_does_not_have_are_counted_against_precision() -> None:
    agreement = judged([box(0.2)], [box(0.2), box(0.7)])

    assert (agreement.recall, agreement.precision) == (1.0, 0.5)
    assert not agreement.is_enough


def test_two_boxes_on_one_object_find_it_once() -> None:
    agreement = judged([box(0.5), box(0.9)], [box(0.5), box(0.501)])

    assert (agreement.recalled, agreement.found, agreement.confirmed) == (1, 2, 1)


def test_a_box_of_another_class_is_another_object() -> None:
    assert judged([box(class_num=0)], [box(class_num=1)]).recalled == 0


def test_a_displaced_box_is_a_pair_but_not_found() -> None:
    agreement = judged([box(0.5)], [box(0.52)])  # IoU 0.18 / 0.22

    assert agreement.recalled == 0
    assert agreement.mean_iou == pytest.approx(0.18 / 0.22)


def test_a_confidence_that_flickers_about_the_threshold_is_no_loss() -> None:
    agreement = judged([box(0.2, confidence=0.51), box(0.7, confidence=0.49)], [
        box(0.2, confidence=0.49), box(0.7, confidence=0.51),
    ])  # fmt: skip

    assert (agreement.recall, agreement.precision) == (1.0, 1.0)


def test_a_confidence_that_fell_to_less_than_half_is_a_loss() -> None:
    assert judged([box(confidence=0.6)], [box(confidence=0.2)]).recalled == 0


def test_less_sure_boxes_are_compared_where_there_are_too_few_sure_ones() -> None:
    expected = [box(0.1 * at, width=0.05, confidence=0.12) for at in range(1, 6)]

    agreement = agreement_of([expected], [expected[:4]], limits=AgreementLimits(expected_min=5))

    assert (agreement.confidence, agreement.expected, agreement.recalled) == (0.1, 5, 4)


def test_nothing_to_compare_is_not_enough() -> None:
    agreement = agreement_of([[], []], [[], []])

    assert not agreement.is_enough
    assert str(agreement) == "nothing to compare: the reference sees nothing in 2 pictures"


def test_two_detectors_are_shown_the_same_pictures(tmp_path: Path) -> None:
    both = load_detector(write_script(tmp_path / "both.json"))
    colour_blind = load_detector(
        write_script(tmp_path / "one.json", objects=[{"class": 0, "name": "red", "rgb": RED, "confidence": 0.9}])
    )
    pictures = [drawn(256, 256, ((20, 20, 80, 80), RED), ((150, 150, 220, 220), GREEN)) for _ in range(5)]

    assert compare(both, both, pictures).is_enough
    agreement = compare(both, colour_blind, pictures)
    assert (agreement.pictures, agreement.expected, agreement.recalled, agreement.precision) == (5, 10, 5, 1.0)


@pytest.mark.real_media
def test_a_dead_quantised_model_is_refused(shared_data: Path) -> None:
    living = load_detector(shared_data / "models" / "agpl_yolov8n_f32_dynbatch.onnx")
    dead = load_detector(shared_data / "models" / "agpl_NEGATIVE_dead_scores_qdq.onnx")
    photos = sorted((shared_data / "images" / "photos").glob("*.jpg"))[:1]

    agreement = compare(living, dead, [read_photo(path) for path in photos])

    assert agreement.expected > 0
    assert (agreement.found, agreement.recall, agreement.is_enough) == (0, 0.0, False)
