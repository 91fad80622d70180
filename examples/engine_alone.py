"""The engine as a library: no broker, no edge, no network.

python examples/engine_alone.py photo.jpg [model.onnx]
"""

import sys
from contextlib import closing
from pathlib import Path

from contracts.options import DetectionOptions
from detections.model_files import DEFAULT_MODEL, find_model
from engine.images import read_picture
from engine.loading import load_detector


def main(photo: str, model: str = DEFAULT_MODEL) -> None:
    with closing(load_detector(find_model(model), threads=2)) as detector:
        for seen in detector.detect(read_picture(Path(photo)), DetectionOptions(probability_threshold=0.4)):
            print(f"{seen.label} {seen.confidence:.2f} at {seen.center_x:.3f}, {seen.center_y:.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
