"""Every option has a range, and a value outside it is refused by name."""

import json
import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.failures import Failure, FailureCode
from contracts.options import CameraConfig, DetectionOptions, read_options

RANGES = {
    "frame_period_recognition": (1, 1000),
    "frame_recognition_seconds": (0, 3600),
    "probability_threshold": (0, 1),
    "tracking_distance_confidence": (0, 1),
    "tracking_probability_increase": (0, 1),
    "tracking_intersection_threshold": (0, 1),
    "model_batch_size": (1, 64),
    "big_image_tile_overlap_percent": (0, 90),
}


@pytest.mark.parametrize("text", [None, "", "{}"])
def test_nothing_said_gives_the_defaults_of_the_contract(text: str | None) -> None:
    options = read_options(text).options

    assert options == DetectionOptions()
    assert (options.frame_period_recognition, options.frame_recognition_seconds, options.model_batch_size) == (4, 2, 8)
    assert (options.probability_threshold, options.tracking_intersection_threshold) == (0.25, 0.6)
    assert options.big_image_tile_overlap_percent == 20


@pytest.mark.parametrize("field", RANGES)
def test_both_ends_of_a_range_are_let_in(field: str) -> None:
    for value in RANGES[field]:
        assert getattr(read_options(json.dumps({field: value})).options, field) == value


@pytest.mark.parametrize("field", RANGES)
@pytest.mark.parametrize("step", [-1, 1])
def test_a_value_outside_its_range_is_refused_naming_field_and_range(field: str, step: int) -> None:
    low, high = RANGES[field]

    with pytest.raises(Failure) as caught:
        read_options(json.dumps({field: low - 1 if step < 0 else high + 1}))

    assert caught.value.code is FailureCode.OPTIONS_OUT_OF_RANGE
    assert field in caught.value.detail
    assert re.search(rf"{low}(\.0)?\.\.{high}(\.0)?", caught.value.detail)


@pytest.mark.parametrize("text", ["{", "[]", "1", '"x"', "null", '{"probability_threshold": NaN}', "\x00"])
def test_what_is_no_json_object_is_malformed(text: str) -> None:
    with pytest.raises(Failure) as caught:
        read_options(text)

    assert caught.value.code is FailureCode.MALFORMED_OPTIONS


def test_a_wrong_type_is_refused_by_name() -> None:
    with pytest.raises(Failure, match="model_batch_size"):
        read_options('{"model_batch_size": "8"}')


def test_a_field_inside_the_camera_is_named_with_its_path() -> None:
    with pytest.raises(Failure, match=r"camera_config\.current_angle"):
        read_options('{"camera_config": {"current_angle": 0}}')


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ('{"tiling": "on"}', r"tiling: .*\(auto, off\)"),
        ('{"tiling": 1}', r"tiling: .*\(auto, off\)"),
        ('{"altitude": 0}', r"altitude: .*\(above 0\.\.1000000\)"),
    ],
)
def test_choices_and_large_ranges_are_told_in_full(text: str, allowed: str) -> None:
    with pytest.raises(Failure, match=allowed):
        read_options(text)


def test_unknown_fields_are_named_and_ignored() -> None:
    read = read_options('{"colour": "red", "model_batch_size": 4}')

    assert read.unknown_fields == ("colour",)
    assert read.options.model_batch_size == 4


def test_unknown_fields_of_the_camera_are_named_with_their_path() -> None:
    read = read_options('{"camera_config": {"height": 400, "current_zoom": 2}, "zoom": 2}')

    assert read.unknown_fields == ("zoom", "camera_config.height")
    assert read.options.camera_config == CameraConfig(current_zoom=2)


def test_the_flat_aliases_make_a_camera() -> None:
    camera = read_options('{"altitude": 400, "sensor_width": 23.5}').options.camera()

    assert camera == CameraConfig(current_height=400, sensor_width=23.5)


def test_a_stated_camera_wins_over_the_flat_aliases() -> None:
    camera = read_options('{"altitude": 400, "camera_config": {"current_height": 100}}').options.camera()

    assert camera is not None
    assert camera.current_height == 100


@pytest.mark.parametrize(
    ("text", "camera"),
    [
        ('{"altitude": 400, "camera_config": {}}', CameraConfig(current_height=400)),
        ('{"altitude": 400, "camera_config": null}', CameraConfig(current_height=400)),
        ('{"altitude": 400, "camera_config": {"current_zoom": 2}}', CameraConfig(current_height=400, current_zoom=2)),
        ('{"focal_length": 50, "camera_config": {"focal_length": 35}}', CameraConfig(focal_length=35)),
        ('{"altitude": 400, "camera_config": {"current_height": null}}', CameraConfig(current_height=400)),
    ],
)
def test_the_flat_aliases_fill_in_what_a_stated_camera_leaves_open(text: str, camera: CameraConfig) -> None:
    assert read_options(text).options.camera() == camera
    assert msgspec.json.decode(text, type=DetectionOptions).camera() == camera  # as a command states them


def test_without_a_word_about_it_there_is_no_camera() -> None:
    assert read_options("{}").options.camera() is None


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=8,
    )
)
def test_any_json_is_read_or_refused_by_a_named_failure(value: object) -> None:
    codes: list[FailureCode] = []
    try:
        read_options(msgspec.json.encode(value))
    except Failure as failure:
        codes.append(failure.code)

    assert set(codes) <= {FailureCode.MALFORMED_OPTIONS, FailureCode.OPTIONS_OUT_OF_RANGE}


def test_what_is_nested_without_end_is_malformed() -> None:
    deep = b'{"new": ' + b"[" * 30_000 + b"]" * 30_000 + b"}"
    with pytest.raises(Failure) as caught:
        read_options(deep)
    assert caught.value.code is FailureCode.MALFORMED_OPTIONS
