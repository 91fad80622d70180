"""Tiles: what a tile of a 6252x4168 image costs beside its bare inference, and what tiling finds.

Time: the image, full of vehicles, is looked at by workers, one per core, in turns with bare session.run on a ready tensor of
a tile, as many and by as many threads; goal: a tile costs at most 1.1 of its bare inference. Found: recall and precision of
tiled and of whole-image inference on the labelled aerial images, each alone and each twice in one mosaic of that size. A box
is right if it has an IoU of at least 0.4 with a vehicle that no more confident box has taken; boxes on cyclists do not count.
"""

import argparse
import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import numpy as np

from benchmarks.probes import SHARED_DATA, print_head
from contracts.detections import Detection
from contracts.options import DetectionOptions
from detections.model_files import DEFAULT_MODEL, find_model
from engine.batching import Workers
from engine.detector import Detector
from engine.images import StillPicture, read_picture
from engine.loading import load_detector
from engine.models import open_model
from engine.preprocess import Preprocessor

CORES = os.cpu_count() or 1
SIZE = (6252, 4168)
RIGHT_IOU_MIN = 0.4
VEHICLES = {"vehicle", "car", "truck", "bus"}
CYCLIST = 4
COPIES_MAX = 1000
Corners = tuple[float, float, float, float]


class Labelled(msgspec.Struct, frozen=True):
    """A picture and what is in it, in pixels."""

    name: str
    picture: StillPicture
    vehicles: list[Corners]
    ignored: list[Corners]


class Score(msgspec.Struct, frozen=True):
    """How a list of boxes compares with the labels."""

    right: int
    wrong: int
    missed: int

    def __str__(self) -> str:
        recall = self.right / max(self.right + self.missed, 1)
        precision = self.right / max(self.right + self.wrong, 1)
        return f"recall {recall:.3f}, precision {precision:.3f} ({self.right} right, {self.wrong} wrong)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, action="append", help="default: the shipped one, and two COCO models")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threshold", type=float, default=0.5)
    arguments = parser.parse_args()
    coco = [SHARED_DATA / "models" / name for name in ("yolox_nano_dynbatch.onnx", "agpl_yolov8n_f32_dynbatch.onnx")]
    models = arguments.model or [find_model(DEFAULT_MODEL), *(path for path in coco if path.exists())]
    labelled = list(read_labelled(SHARED_DATA / "images" / "aerial"))
    full = mosaic(labelled, copies=COPIES_MAX)
    sparse = mosaic(labelled, copies=2)  # fewer vehicles than the 300 detections that a picture may have
    print_head("Tiles of a 6252x4168 image")
    for model in models:
        cost(model, full.picture, arguments.turns)
    for model in models:
        with closing(load_detector(model)) as detector:
            for each in (*labelled, sparse):
                found(detector, each, arguments.threshold)


def cost(model: Path, picture: StillPicture, turns: int) -> None:
    """Print what a tile costs, by the processor's and by the wall's time, as the median of the turns' ratios."""
    options = DetectionOptions()
    detector = load_detector(model)
    tiles = len(detector.tiles(picture, options))
    with closing(Workers(detector, count=CORES)) as workers:
        bare = bare_inference(model, detector, picture)
        workers.detect_image(picture, options)
        cpu_ratios, wall_ratios, tile_ms = list[float](), list[float](), list[float]()
        for _ in range(turns):
            bare_wall, bare_cpu = timed(lambda: bare(tiles))
            wall, cpu = timed(lambda: workers.detect_image(picture, options))
            cpu_ratios.append(cpu / bare_cpu)
            wall_ratios.append(wall / bare_wall)
            tile_ms.append(cpu / tiles * 1e3)
    print(
        f"{model.name}: {tiles} tiles of {detector.size.width} px, {statistics.median(tile_ms):.1f} ms CPU a tile; "
        f"of its bare inference: CPU {statistics.median(cpu_ratios):.3f} ({spread(cpu_ratios)}), "
        f"wall {statistics.median(wall_ratios):.3f} ({spread(wall_ratios)})",
        flush=True,
    )


def bare_inference(model: Path, detector: Detector, picture: StillPicture) -> Callable[[int], None]:
    """What runs the model so many times on a ready tensor of a tile from the middle, by one thread per core."""
    opened = open_model(model)
    rule = opened.card.input
    tiles = detector.tiles(picture, DetectionOptions())
    tensor = Preprocessor(rule).batch([detector.view(picture, tiles[len(tiles) // 2])])
    tensors = {rule.tensor: tensor}
    if rule.size_tensor is not None:
        tensors[rule.size_tensor] = np.array([[rule.width, rule.height]], np.int64)

    def infer(count: int) -> None:
        for _ in range(count):
            opened.runtime.infer(tensors)

    def run(count: int) -> None:
        shares = [count // CORES + (index < count % CORES) for index in range(CORES)]
        threads = [threading.Thread(target=infer, args=(share,)) for share in shares]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return run


def timed(call: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds of a call."""
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - cpu


def spread(values: list[float]) -> str:
    return f"{min(values):.2f} to {max(values):.2f}"


def found(detector: Detector, labelled: Labelled, threshold: float) -> None:
    """Print what the detector finds in tiles and at once."""
    scores: list[str] = []
    for tiling in ("auto", "off"):
        options = DetectionOptions(probability_threshold=threshold, tiling=tiling)
        detections = detector.detect(labelled.picture, options)
        count = len(detector.tiles(labelled.picture, options))
        scores.append(
            f"{count} tiles {score(detections, labelled)}" if tiling == "auto" else str(score(detections, labelled))
        )
    size = f"{labelled.picture.width}x{labelled.picture.height}"
    print(f"{detector.model.name}, {labelled.name} {size}: {scores[0]}; whole {scores[1]}", flush=True)


def score(detections: list[Detection], labelled: Labelled) -> Score:
    """Greedy by confidence: each box takes the free vehicle that it overlaps most."""
    free = list(labelled.vehicles)
    right = wrong = 0
    for seen in detections:
        if seen.label not in VEHICLES:
            continue
        box = corners(seen, labelled.picture)
        best = max(free, key=lambda vehicle: iou(box, vehicle), default=None)
        if best is not None and iou(box, best) >= RIGHT_IOU_MIN:
            free.remove(best)
            right += 1
        elif all(iou(box, ignored) < RIGHT_IOU_MIN for ignored in labelled.ignored):
            wrong += 1
    return Score(right, wrong, len(free))


def read_labelled(folder: Path) -> Iterator[Labelled]:
    """The labelled pictures in a folder: `NAME.png` and YOLO labels in `NAME.txt`."""
    for path in sorted(folder.glob("*.png")):
        picture = read_picture(path)
        vehicles: list[Corners] = []
        ignored: list[Corners] = []
        for line in path.with_suffix(".txt").read_text().splitlines():
            number, x, y, width, height = map(float, line.split())
            box = (
                (x - width / 2) * picture.width,
                (y - height / 2) * picture.height,
                (x + width / 2) * picture.width,
                (y + height / 2) * picture.height,
            )
            (ignored if number == CYCLIST else vehicles).append(box)
        yield Labelled(path.stem, picture, vehicles, ignored)


def mosaic(parts: list[Labelled], *, copies: int) -> Labelled:
    """One picture of `SIZE` on which the others lie side by side, so often each or as often as they fit, the last cut off."""
    width, height = SIZE
    canvas = np.full((height, width, 3), 114, np.uint8)
    vehicles: list[Corners] = []
    ignored: list[Corners] = []
    x = y = row_height = number = 0
    while y < height and number < copies * len(parts):
        part = parts[number % len(parts)]
        pixels = part.picture.rgb[: height - y, : width - x]
        canvas[y : y + pixels.shape[0], x : x + pixels.shape[1]] = pixels
        for to, boxes in ((vehicles, part.vehicles), (ignored, part.ignored)):
            to += [
                box for each in boxes if (box := cut((x + each[0], y + each[1], x + each[2], y + each[3]))) is not None
            ]
        x, row_height, number = x + part.picture.width, max(row_height, part.picture.height), number + 1
        if x >= width:
            x, y, row_height = 0, y + row_height, 0
    return Labelled("mosaic", StillPicture(canvas), vehicles, ignored)


def cut(box: Corners) -> Corners | None:
    """The part of a box on the canvas, if half of it is there."""
    inside = (box[0], box[1], min(box[2], SIZE[0]), min(box[3], SIZE[1]))
    return inside if inside[2] > inside[0] and inside[3] > inside[1] and area(inside) > area(box) / 2 else None


def corners(seen: Detection, picture: StillPicture) -> Corners:
    return (
        (seen.center_x - seen.width / 2) * picture.width,
        (seen.center_y - seen.height / 2) * picture.height,
        (seen.center_x + seen.width / 2) * picture.width,
        (seen.center_y + seen.height / 2) * picture.height,
    )


def area(box: Corners) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def iou(one: Corners, other: Corners) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(width, 0.0) * max(height, 0.0)
    return shared / (area(one) + area(other) - shared)


if __name__ == "__main__":
    main()
