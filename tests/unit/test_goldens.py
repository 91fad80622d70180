"""Every shared model finds on every shared photo what its reference run found."""

import json
from functools import lru_cache
from pathlib import Path

import pytest

from contracts.detections import Detection
from contracts.options import DetectionOptions
from engine.detector import Detector
from engine.loading import load_detector
from tests.conftest import REPOSITORY, SHARED_DATA
from tests.pictures import corners, iou, read_photo

IOU_MIN, SCORE_OFF_MAX = 0.9, 0.03
SHIPPED = {"aerial_vehicle_tiny_dyn.onnx": REPOSITORY / "models" / "aerial-vehicle.onnx"}
"""Free sides need a side file: this one is tested as it is shipped, the same weights."""
GOLDENS = SHARED_DATA / "models" / "goldens.json"

pytestmark = pytest.mark.real_media


def cases() -> list[tuple[str, str]]:
    if not GOLDENS.is_file():
        return [("none", "none")]
    models = json.loads(GOLDENS.read_text())["models"]
    return [(model, photo) for model, entry in models.items() for photo in entry["images"]]


@lru_cache(maxsize=1)  # the cases of a model follow each other
def detector(model: str) -> Detector:
    return load_detector(SHIPPED.get(model, SHARED_DATA / "models" / model))


@lru_cache
def golden(model: str) -> dict[str, dict[str, list[list[float]]]]:
    return json.loads(GOLDENS.read_text())["models"][model]


@pytest.mark.parametrize(("model", "photo"), cases())
def test_the_confident_reference_boxes_are_found(model: str, photo: str, shared_data: Path) -> None:
    threshold = golden(model)["params"]["conf"]
    picture = read_photo(shared_data / "images" / photo)
    options = DetectionOptions(probability_threshold=threshold, tiling="off", tracking_intersection_threshold=1.0)

    found = detector(model).detect(picture, options)

    def agrees(entry: Detection, box: list[float]) -> bool:
        inside = [max(0, box[0]), max(0, box[1]), min(picture.width, box[2]), min(picture.height, box[3])]
        is_alike = entry.class_num == box[5] and abs(entry.confidence - box[4]) <= SCORE_OFF_MAX
        return is_alike and iou(corners(entry, picture), inside) >= IOU_MIN

    for box in golden(model)["images"][photo]:
        if box[4] >= max(0.5, threshold + 0.1):
            assert any(agrees(entry, box) for entry in found), box
    for entry in found:  # and nothing confident beside them
        if entry.confidence >= max(0.5, threshold + 0.1) + SCORE_OFF_MAX:
            assert any(agrees(entry, box) for box in golden(model)["images"][photo]), entry


def test_the_reference_boxes_are_many_enough_to_mean_something() -> None:
    confident = [
        box
        for entry in json.loads(GOLDENS.read_text())["models"].values()
        for boxes in entry["images"].values()
        for box in boxes
        if box[4] >= max(0.5, entry["params"]["conf"] + 0.1)
    ]

    assert len(confident) > 200


def test_the_model_with_the_nms_in_its_graph_finds_what_the_one_without_finds(shared_data: Path) -> None:
    picture = read_photo(shared_data / "images" / "photos" / "bus.jpg")
    options = DetectionOptions(probability_threshold=0.3, tiling="off", tracking_intersection_threshold=1.0)

    inside = load_detector(shared_data / "models" / "yolox_nano_e2e_dynbatch.onnx").detect(picture, options)
    outside = load_detector(shared_data / "models" / "yolox_nano_dynbatch.onnx").detect(picture, options)

    assert len(inside) == len(outside) > 0
    for one, other in zip(inside, outside, strict=True):
        assert (one.class_num, one.confidence) == (other.class_num, pytest.approx(other.confidence, abs=1e-3))
        assert iou(corners(one, picture), corners(other, picture)) > 0.99


def test_the_int8_model_finds_nearly_what_its_float_model_finds(shared_data: Path) -> None:
    picture = read_photo(shared_data / "images" / "photos" / "bus.jpg")

    found = load_detector(shared_data / "models" / "agpl_yolov8n_int8.onnx").detect(
        picture, DetectionOptions(probability_threshold=0.5, tiling="off")
    )

    assert sorted(entry.label for entry in found) == ["bus", "person", "person", "person"]
