"""A detector is shown pictures; every step between the pixels and the detections is the real one."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from contracts.failures import Failure, FailureCode
from contracts.options import CameraConfig, DetectionOptions
from engine.loading import load_detector
from engine.picture import Crop
from tests.pictures import BLUE, GREEN, RED, ArrayPicture, corners, drawn, iou
from tests.tiny_models import write_colour_model, write_constant_model, write_script, write_two_faced_model


def rows(*boxes: tuple[float, ...]) -> dict[str, np.ndarray]:
    output = np.zeros((1, 400, 6), np.float32)
    output[0, : len(boxes)] = np.array(boxes, np.float32)
    return {"output": output}


def test_squares_are_found_where_they_were_drawn(tmp_path: Path) -> None:
    detector = load_detector(write_script(tmp_path / "model.json"))
    picture = drawn(160, 96, ((30, 20, 60, 40), RED), ((100, 50, 140, 60), BLUE))

    red, blue = detector.detect(picture, DetectionOptions())

    assert (red.label, red.class_num, red.confidence) == ("red", 0, 0.9)
    assert (blue.label, blue.class_num, blue.confidence) == ("blue", 2, 0.6)
    assert iou(corners(red, picture), (30, 20, 60, 40)) > 0.9
    assert iou(corners(blue, picture), (100, 50, 140, 60)) > 0.9


def test_a_large_picture_is_looked_at_in_tiles_and_nothing_is_found_twice_or_in_pieces(tmp_path: Path) -> None:
    detector = load_detector(write_script(tmp_path / "model.json"))
    squares = [(5, 5, 25, 25), (100, 100, 300, 160), (310, 20, 330, 40), (590, 430, 640, 480)]
    picture = drawn(640, 480, *[(square, RED) for square in squares])

    found = detector.detect(picture, DetectionOptions(tracking_intersection_threshold=1.0))

    assert len(detector.tiles(picture, DetectionOptions())) > 20
    assert len(found) == len(squares)
    for square in squares:
        assert max(iou(corners(entry, picture), square) for entry in found) > 0.95


def test_without_tiling_a_large_picture_is_shrunk_and_small_things_are_lost(tmp_path: Path) -> None:
    detector = load_detector(write_script(tmp_path / "model.json"))
    picture = drawn(1280, 960, ((5, 5, 25, 25), RED))

    assert detector.detect(picture, DetectionOptions(tiling="off")) == []
    assert len(detector.detect(picture, DetectionOptions())) == 1


def test_nothing_below_the_threshold_is_detected(tmp_path: Path) -> None:
    detector = load_detector(write_script(tmp_path / "model.json"))
    picture = drawn(128, 128, ((5, 5, 25, 25), RED), ((50, 5, 75, 25), GREEN), ((5, 50, 25, 75), BLUE))

    labels = {
        threshold: [
            found.label for found in detector.detect(picture, DetectionOptions(probability_threshold=threshold))
        ]
        for threshold in (0.0, 0.6, 0.61, 0.8, 0.9, 1.0)
    }

    assert labels == {
        0.0: ["red", "green", "blue"],
        0.6: ["red", "green", "blue"],
        0.61: ["red", "green"],
        0.8: ["red", "green"],
        0.9: ["red"],
        1.0: [],
    }


def test_at_most_300_detections_leave_the_engine_and_they_are_the_best(tmp_path: Path) -> None:
    boxes = [
        (x * 3.0, y * 3.0, x * 3.0 + 2, y * 3.0 + 2, 0.3 + (x + 20 * y) / 1000, 0) for x in range(20) for y in range(20)
    ]
    detector = load_detector(write_constant_model(tmp_path / "model.onnx", rows(*boxes)))

    found = detector.detect(drawn(64, 64), DetectionOptions())

    assert len(found) == 300
    assert found[-1].confidence == pytest.approx(0.4)
    assert found == sorted(found, key=lambda entry: -entry.confidence)


def test_hostile_numbers_never_leave_the_engine(tmp_path: Path) -> None:
    nan, inf = float("nan"), float("inf")
    boxes = [
        (nan, 0, 10, 10, 0.9, 0),
        (0, 0, inf, 10, 0.9, 0),
        (0, 0, 10, 10, nan, 0),
        (0, 0, 10, 10, inf, 0),
        (0, 0, 10, 10, 0.9, nan),
        (5, 5, 5, 9, 0.9, 0),
        (9, 9, 5, 5, 0.9, 0),
        (20, 20, 20.0000001, 30, 0.9, 0),
        (-50, -50, -10, -10, 0.9, 0),
        (-1e30, 10, 30, 40, 0.8, 1),
        (10, 10, 20, 20, 7.0, 2),
    ]
    hostile = rows(*boxes)["output"][0]
    harmless = np.zeros_like(hostile)
    model = write_two_faced_model(
        tmp_path / "model.onnx",
        {"output": harmless},
        {"output": hostile},
        shape=("N", 3, 64, 64),
        level=0.9,
        metadata={"end2end": "True"},
    )
    detector = load_detector(model)  # shows its other face only to a white picture

    found = detector.detect(drawn(64, 64, ((0, 0, 64, 64), (255, 255, 255))), DetectionOptions())

    assert [(entry.class_num, entry.confidence) for entry in found] == [(2, 1.0), (1, 0.8)]
    for entry in found:
        x1, y1, x2, y2 = corners(entry, drawn(1, 1))
        assert 0 <= x1 < x2 <= 1
        assert 0 <= y1 < y2 <= 1


def test_what_is_larger_on_the_ground_than_its_class_can_be_goes(tmp_path: Path) -> None:
    path = write_script(tmp_path / "model.json")
    classes = [{"Id": 0, "Name": "Car", "MaxSizeM": 3.0}, {"Id": 1, "Name": "Field"}]
    (tmp_path / "classes.json").write_text(json.dumps(classes))
    detector = load_detector(path)
    picture = drawn(128, 128, ((5, 5, 25, 15), RED), ((50, 50, 90, 60), RED), ((5, 80, 125, 120), GREEN))
    # 128 px are 12.8 m wide
    camera = CameraConfig(current_height=12.8, focal_length=10, sensor_width=10)

    labels = [found.label for found in detector.detect(picture, DetectionOptions(camera_config=camera))]
    everything = detector.detect(picture, DetectionOptions())

    assert labels == ["Car", "Field"]
    assert len(everything) == 3


@pytest.mark.filterwarnings("error")
def test_a_camera_that_no_one_can_build_is_reckoned_with_and_not_warned_of(tmp_path: Path) -> None:
    path = write_script(tmp_path / "model.json")
    (tmp_path / "classes.json").write_text('[{"Id": 0, "Name": "Car", "MaxSizeM": 3.0}, {"Id": 1, "Name": "Field"}]')
    picture = drawn(128, 128, ((5, 5, 25, 15), RED), ((5, 80, 125, 120), GREEN))
    camera = CameraConfig(current_height=1, focal_length=1e-300)  # 1e298 m a pixel

    found = load_detector(path).detect(picture, DetectionOptions(camera_config=camera))

    assert [entry.label for entry in found] == ["Field"]


def test_contained_boxes_of_a_class_are_removed_unless_the_threshold_is_one(tmp_path: Path) -> None:
    boxes = [(0, 0, 40, 40, 0.9, 0), (10, 10, 20, 20, 0.8, 0), (10, 10, 20, 20, 0.7, 1)]
    detector = load_detector(write_constant_model(tmp_path / "model.onnx", rows(*boxes)))

    default = detector.detect(drawn(64, 64), DetectionOptions())
    off = detector.detect(drawn(64, 64), DetectionOptions(tracking_intersection_threshold=1.0))

    assert [entry.confidence for entry in default] == [0.9, 0.7]
    assert len(off) == 3


def test_views_of_several_pictures_in_a_batch_are_seen_as_each_alone(tmp_path: Path) -> None:
    detector = load_detector(write_colour_model(tmp_path / "model.onnx"))
    pictures = [drawn(64, 64, ((0, 0, 64, 64), colour)) for colour in ((255, 100, 200), (30, 250, 150), (90, 90, 255))]
    views = [detector.view(picture, Crop(x=0, y=0, width=64, height=64)) for picture in pictures]

    together = detector.look(views, score_min=0.1)
    alone = [detector.look([view], score_min=0.1)[0] for view in views]

    assert [seen.corners.tolist() for seen in together] == [seen.corners.tolist() for seen in alone]
    assert len({float(seen.corners[0, 2]) for seen in together}) == 3


@pytest.mark.parametrize("batch", [1, 2, 8])
def test_a_model_with_a_fixed_batch_is_shown_any_number_of_views(tmp_path: Path, batch: int) -> None:
    detector = load_detector(write_colour_model(tmp_path / "model.onnx", batch=batch))
    reference = load_detector(write_colour_model(tmp_path / "free.onnx"))
    pictures = [drawn(64, 64, ((0, 0, 64, 64), (50 * at, 100, 200))) for at in range(1, 6)]
    whole = Crop(x=0, y=0, width=64, height=64)

    seen = detector.look([detector.view(picture, whole) for picture in pictures], score_min=0.1)
    expected = reference.look([reference.view(picture, whole) for picture in pictures], score_min=0.1)

    assert [one.corners.tolist() for one in seen] == [one.corners.tolist() for one in expected]


def test_threads_share_a_detector_without_seeing_each_others_pictures(tmp_path: Path) -> None:
    detector = load_detector(write_script(tmp_path / "model.json"))
    pictures = [drawn(128, 128, ((at, at, at + 20, at + 20), RED)) for at in range(0, 100, 10)]
    expected = [detector.detect(picture, DetectionOptions()) for picture in pictures]

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda at: detector.detect(pictures[at % 10], DetectionOptions()), range(100)))

    assert found == expected * 10


def test_a_picture_with_the_stop_set_is_cancelled_between_tiles(tmp_path: Path) -> None:
    detector = load_detector(write_script(tmp_path / "model.json"))
    stop = threading.Event()

    class StopsWhenSeen(ArrayPicture):
        shown = 0

        def scaled(self, *, width: int, height: int, crop: Crop | None = None) -> np.ndarray:
            self.shown += 1
            stop.set()
            return super().scaled(width=width, height=height, crop=crop)

    picture = StopsWhenSeen(drawn(640, 480).pixels)

    with pytest.raises(Failure) as caught:
        detector.detect(picture, DetectionOptions(), stop=stop)

    assert caught.value.code is FailureCode.CANCELLED
    assert picture.shown == 1


def test_a_failed_inference_fails_its_picture_and_no_other(tmp_path: Path) -> None:
    detector = load_detector(write_script(tmp_path / "model.json", fail_every=2))
    picture = drawn(128, 128, ((5, 5, 25, 25), RED))

    assert len(detector.detect(picture, DetectionOptions())) == 1
    with pytest.raises(Failure) as caught:
        detector.detect(picture, DetectionOptions())
    assert len(detector.detect(picture, DetectionOptions())) == 1

    assert caught.value.code is FailureCode.INFERENCE_FAILED


def test_a_detr_model_is_asked_for_boxes_in_the_size_of_its_input(tmp_path: Path) -> None:
    outputs = {
        "labels": np.array([[1]], np.int64),
        "boxes": np.array([[[16, 16, 48, 32]]], np.float32),
        "scores": np.array([[0.9]], np.float32),
    }
    path = write_constant_model(tmp_path / "model.onnx", outputs, shape=(1, 3, 64, 64), size_tensor="orig_target_sizes")
    picture = drawn(80, 40)

    [found] = load_detector(path).detect(picture, DetectionOptions())

    assert corners(found, picture) == pytest.approx([20, 10, 60, 20], abs=0.01)


@pytest.mark.parametrize(("width", "height"), [(1, 1), (8000, 2), (1, 500), (63, 65)])
def test_a_picture_of_any_shape_can_be_looked_at(tmp_path: Path, width: int, height: int) -> None:
    detector = load_detector(write_script(tmp_path / "model.json"))

    for tiling in ("auto", "off"):
        assert detector.detect(drawn(width, height), DetectionOptions(tiling=tiling)) == []


@pytest.mark.real_media
def test_a_real_models_batch_equals_its_single_results(shared_data: Path) -> None:
    detector = load_detector(shared_data / "models" / "yolox_nano_dynbatch.onnx")
    rng = np.random.default_rng(5)
    pictures = [ArrayPicture(rng.integers(0, 255, (300, 400, 3), np.uint8)) for _ in range(3)]
    whole = Crop(x=0, y=0, width=400, height=300)
    views = [detector.view(picture, whole) for picture in pictures]

    together = detector.look(views, score_min=0.0)
    alone = [detector.look([view], score_min=0.0)[0] for view in views]

    for one, other in zip(together, alone, strict=True):
        assert len(one) == len(other) > 0
        assert one.corners == pytest.approx(other.corners, abs=1e-2)
        assert one.scores == pytest.approx(other.scores, abs=1e-5)
