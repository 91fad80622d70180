"""Accuracy: every model's average precision on the 64 labelled photos, beside the figure of its reference run.

Goal: within 0.01 for each. Settings of the reference: confidence 0.01 and above, 100 boxes a photo, no tiling.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from benchmarks.average_precision import Claim, Precision, Truth, average_precision
from benchmarks.probes import SHARED_DATA, print_head
from contracts.options import DetectionOptions
from engine.detector import Detector
from engine.images import read_picture
from engine.loading import load_detector

OFF_MAX = 0.01
REFERENCE = {
    "deimv2_femto": Precision(ap=0.401, ap50=0.535),
    "deimv2_atto": Precision(ap=0.324, ap50=0.453),
    "yolox_nano_dynbatch": Precision(ap=0.334, ap50=0.513),
    "agpl_yolov8n_f32_dynbatch": Precision(ap=0.436, ap50=0.598),
    "agpl_yolov8n_int8": Precision(ap=0.436, ap50=0.597),
    "agpl_yolo26n_e2e_f32_dynbatch": Precision(ap=0.444, ap50=0.624),
}
"""On the same 64 photos, from the models' manifest."""
OF_ALL_CLASSES = ("agpl_yolov8n_f32_dynbatch", "agpl_yolov8n_int8")
"""Their reference counts a box for each of its classes; the engine, unless a side file says so, for the surest only."""
OPTIONS = DetectionOptions(probability_threshold=0.01, tiling="off", tracking_intersection_threshold=1.0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=SHARED_DATA, help="the folder of the shared models and images")
    parser.add_argument("models", nargs="*", default=list(REFERENCE))
    arguments = parser.parse_args()
    print_head("Accuracy")
    if not arguments.data.is_dir():
        print("no shared models and photos here: nothing measured")
        return 0
    labels = _truths(arguments.data / "images" / "coco_val128_gt.json")
    print(f"{'model':30} {'AP':>6} {'AP50':>6}   {'AP, all':>7} {'AP50':>6}   {'reference':>13}   difference of AP")
    is_near = [_measure(arguments.data, name, labels) for name in arguments.models]
    print("all: a box counts for every class that is sure enough, as the reference of the YOLOv8 types was taken")
    print(f"goal: every difference within {OFF_MAX}: {'reached' if all(is_near) else 'MISSED'}")
    return 0 if all(is_near) else 1


def _measure(data: Path, name: str, labels: dict[str, list[Truth]]) -> bool:
    """Print the figures of a model; whether they are the reference's, taken in the reference's way."""
    stated = REFERENCE[name]
    found = _precision(data, name, labels, "{}")
    every = found
    if name in OF_ALL_CLASSES:
        every = _precision(data, name, labels, '{"output": {"classes_per_box": "all"}}')
    off = every.ap - stated.ap
    shown = f"{every.ap:7.3f} {every.ap50:6.3f}" if name in OF_ALL_CLASSES else f"{'-':>7} {'-':>6}"
    print(f"{name:30} {found.ap:6.3f} {found.ap50:6.3f}   {shown}   {stated.ap:.3f} / {stated.ap50:.3f}   {off:+.4f}")
    return abs(off) <= OFF_MAX


def _precision(data: Path, name: str, labels: dict[str, list[Truth]], side_file: str) -> Precision:
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / f"{name}.onnx"
        model.symlink_to(data / "models" / model.name)
        model.with_suffix(".json").write_text(side_file)
        detector = load_detector(model)
    claims = {photo: _claims(detector, data / "images" / "coco_val128" / photo) for photo in labels}
    detector.close()
    return average_precision(labels, claims)


def _truths(path: Path) -> dict[str, list[Truth]]:
    """The labelled boxes of each photo, in pixels."""
    labels = json.loads(path.read_text())
    names = {entry["id"]: entry["file_name"] for entry in labels["images"]}
    truths: dict[str, list[Truth]] = {name: [] for name in names.values()}
    for entry in labels["annotations"]:
        x, y, width, height = entry["bbox"]
        corners = (x, y, x + width, y + height)
        truth = Truth(class_num=entry["category_id"], corners=corners, is_crowd=bool(entry["iscrowd"]))
        truths[names[entry["image_id"]]].append(truth)
    return truths


def _claims(detector: Detector, photo: Path) -> list[Claim]:
    picture = read_picture(photo)
    claims: list[Claim] = []
    for found in detector.detect(picture, OPTIONS):
        x, y = found.center_x * picture.width, found.center_y * picture.height
        half_width, half_height = found.width * picture.width / 2, found.height * picture.height / 2
        corners = (x - half_width, y - half_height, x + half_width, y + half_height)
        claims.append(Claim(class_num=found.class_num, corners=corners, score=found.confidence))
    return claims


if __name__ == "__main__":
    sys.exit(main())
