"""The model that is shipped."""

from pathlib import Path

import pytest

from contracts.options import DetectionOptions
from engine.loading import load_detector
from engine.models import describe
from tests.conftest import REPOSITORY
from tests.pictures import ArrayPicture, corners, drawn, iou, read_photo

MODEL = REPOSITORY / "models" / "aerial-vehicle.onnx"


def test_the_shipped_model_is_described_by_its_side_file() -> None:
    card = describe(MODEL)

    assert (card.head, card.nms_iou, card.label(0)) == ("yolov8", 0.4, "vehicle")
    assert (card.input.resize, card.input.width, card.input.height, card.input.multiple) == ("native", 960, 960, 32)
    assert card.warnings == ()


def test_the_shipped_model_sees_nothing_on_an_empty_field() -> None:
    assert load_detector(MODEL).detect(drawn(200, 100), DetectionOptions(probability_threshold=0.5)) == []


def test_a_frame_of_the_demo_is_looked_at_at_once_and_4k_in_tiles() -> None:
    detector = load_detector(MODEL)

    assert len(detector.tiles(drawn(960, 544), DetectionOptions())) == 1
    tiles = detector.tiles(drawn(3840, 2160), DetectionOptions())
    assert len(tiles) == 15
    assert {(tile.width, tile.height) for tile in tiles} == {(960, 960)}


def labelled(path: Path, picture: ArrayPicture) -> list[tuple[float, ...]]:
    """x1, y1, x2, y2 of the vehicles in a label file of lines `class cx cy w h`."""
    boxes: list[tuple[float, ...]] = []
    for line in path.read_text().splitlines():
        _, x, y, width, height = (float(word) for word in line.split())
        sides = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        boxes.append(
            tuple(side * length for side, length in zip(sides, (picture.width, picture.height) * 2, strict=True))
        )
    return boxes


@pytest.mark.real_media
@pytest.mark.parametrize("tiling", ["auto", "off"])
@pytest.mark.parametrize("name", ["MOS74", "MOS155", "MOS170"])
def test_the_shipped_model_finds_nine_of_ten_vehicles(shared_data: Path, name: str, tiling: str) -> None:
    picture = read_photo(shared_data / "images" / "aerial" / f"{name}.png")
    truth = labelled(shared_data / "images" / "aerial" / f"{name}.txt", picture)

    found = load_detector(MODEL).detect(picture, DetectionOptions(probability_threshold=0.5, tiling=tiling))

    boxes = [corners(entry, picture) for entry in found]
    assert sum(any(iou(box, vehicle) >= 0.4 for box in boxes) for vehicle in truth) >= 0.9 * len(truth)
    assert sum(any(iou(box, vehicle) >= 0.4 for vehicle in truth) for box in boxes) >= 0.85 * len(boxes)
