"""Request over user over defaults."""

import json
import sys
from typing import Any

import pytest

from contracts.failures import Failure, FailureCode
from contracts.options import CameraConfig, DetectionOptions
from edge.user_settings import merged


def options(request: dict[str, Any] | None, user: dict[str, Any]) -> DetectionOptions:
    return merged(json.dumps(request).encode() if request is not None else None, user).options


def test_without_a_word_from_anybody_the_defaults_hold() -> None:
    assert options(None, {}) == DetectionOptions()


def test_a_request_goes_over_the_user_who_goes_over_the_defaults() -> None:
    seen = options({"model_batch_size": 2}, {"model_batch_size": 4, "probability_threshold": 0.5})

    assert seen == DetectionOptions(model_batch_size=2, probability_threshold=0.5)


def test_the_default_said_aloud_goes_over_the_user() -> None:
    assert options({"probability_threshold": 0.25}, {"probability_threshold": 0.9}).probability_threshold == 0.25


def test_groups_are_opened_and_camel_case_is_understood() -> None:
    user = {"video": {"framePeriodRecognition": 7, "more": {"tracking_distance_confidence": 0.1}}, "ui": {"theme": "x"}}

    assert options(None, user) == DetectionOptions(frame_period_recognition=7, tracking_distance_confidence=0.1)


@pytest.mark.parametrize("wrong", [0, 5000, "many", None, [], 1.5])
def test_what_a_user_has_set_wrong_is_passed_over(wrong: object) -> None:
    seen = options(None, {"frame_period_recognition": wrong, "model_batch_size": 3})

    assert seen == DetectionOptions(model_batch_size=3)


def test_what_a_request_says_wrong_is_refused() -> None:
    with pytest.raises(Failure) as caught:
        merged(b'{"frame_period_recognition": 0}', {})

    assert caught.value.code is FailureCode.OPTIONS_OUT_OF_RANGE


@pytest.mark.parametrize("value", [b"1e400", b"-1e400", b'{"a": [1e400]}', b"1" * 5000])
def test_an_unknown_field_may_hold_what_no_number_is(value: bytes) -> None:
    read = merged(b'{"altitude": 7, "strange": %s, "camera_config": {"odd": %s}}' % (value, value), {"tiling": "off"})

    assert (read.options.tiling, read.unknown_fields) == ("off", ("strange", "camera_config.odd"))
    assert read.options.camera() == CameraConfig(current_height=7)


def test_unknown_fields_of_the_request_are_told_and_those_of_the_user_are_not() -> None:
    assert merged(b'{"colour": 1}', {"theme": 2}).unknown_fields == ("colour",)


@pytest.mark.parametrize(
    ("request_", "user", "camera"),
    [
        ({}, {"camera_config": {"currentHeight": 100}}, CameraConfig(current_height=100)),
        ({"altitude": 50}, {"camera_config": {"current_height": 100, "focal_length": 9}}, CameraConfig(current_height=50, focal_length=9)),
        ({"camera_config": {"focal_length": 12}}, {"altitude": 80}, CameraConfig(current_height=80, focal_length=12)),
        ({"focal_length": 5}, {"focal_length": 6, "sensor_width": 7}, CameraConfig(focal_length=5, sensor_width=7)),
        ({}, {}, None),
    ],
)  # fmt: skip
def test_of_a_camera_each_field_has_its_own_precedence(
    request_: dict[str, Any], user: dict[str, Any], camera: CameraConfig | None
) -> None:
    assert options(request_, user).camera() == camera


def test_what_is_nested_too_deeply_is_refused_however_deep_it_is() -> None:
    refused: set[FailureCode] = set()
    for depth in range(1, sys.getrecursionlimit() + 10):
        try:
            merged(b'{"x": %b%b}' % (b"[" * depth, b"]" * depth), {})
        except Failure as failure:
            refused.add(failure.code)

    assert refused == {FailureCode.MALFORMED_OPTIONS}
