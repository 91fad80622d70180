"""Loops over the frames of a video that run for as long as they are told: `python -m benchmarks.loops NAME MODEL VIDEO`.

Each line on stdin is a number of seconds; each answer on stdout is a line of JSON with the frames, the wall and CPU seconds and
the peak memory. `benchmarks.turns` speaks to it. A peer's loop runs in a virtual environment of its own, so nothing is imported
here that is not in the standard library.
"""

import json
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

EVERY_FRAME = {"frame_period_recognition": 1, "tiling": "off"}


def main() -> None:
    name, model, video = sys.argv[1:]
    looks = LOOPS[name](Path(model), Path(video))
    next(looks)  # what is loaded and warmed with the first frame is not counted
    print(json.dumps({"ready": name}), flush=True)
    for line in sys.stdin:
        print(json.dumps(_slice(looks, float(line))), flush=True)


def _slice(looks: Iterator[None], seconds: float) -> dict[str, float]:
    began, cpu_began, frames = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - began < seconds:
        next(looks)
        frames += 1
    wall_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu_began
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"frames": frames, "wall_s": wall_s, "cpu_s": cpu_s, "peak_bytes": peak_bytes}


def serial(model: Path, video: Path) -> Iterator[None]:
    """Everything that must happen to a frame, one thing after the other: decode, preprocess, infer, postprocess."""
    from contracts.options import read_options
    from detections.video_file import opened_video
    from engine.loading import load_detector

    detector = load_detector(model)
    options = read_options(json.dumps(EVERY_FRAME)).options
    while True:
        with opened_video(video) as opened:
            for frame in opened.frames():
                detector.detect(frame, options)
                yield


def engine(model: Path, video: Path) -> Iterator[None]:
    """Bare inference, on the tensor of the video's first frame."""
    import numpy as np

    from detections.video_file import opened_video
    from engine.models import open_model
    from engine.picture import Crop
    from engine.preprocess import Preprocessor, View, place

    opened = open_model(model, threads=1)
    rule = opened.card.input
    with opened_video(video) as clip:
        frame = next(iter(clip.frames()))
        whole = Crop(x=0, y=0, width=frame.width, height=frame.height)
        tensors = {rule.tensor: Preprocessor(rule).batch([View(picture=frame, placement=place(rule, whole))])}
    if rule.size_tensor is not None:
        tensors[rule.size_tensor] = np.array([[rule.width, rule.height]], np.int64)
    while True:
        opened.runtime.infer(tensors)
        yield


def script(model: Path, video: Path) -> Iterator[None]:
    """What one would write in ten minutes."""
    from benchmarks.plain_script import looks

    return looks(model, video)


def ultralytics(model: Path, video: Path) -> Iterator[None]:
    """`predict(stream=True)`, in the model's fixed square."""
    from ultralytics import YOLO  # pyright: ignore[reportMissingImports]

    yolo = YOLO(str(model), task="detect")
    while True:
        for _ in yolo.predict(str(video), stream=True, rect=False, conf=0.25, verbose=False):
            yield


def roboflow(model: Path, video: Path) -> Iterator[None]:
    """The model class of `inference-models` for YOLOv8 on a package made here, frames by OpenCV."""
    import cv2
    from inference_models.models.yolov8 import yolov8_object_detection_onnx  # pyright: ignore[reportMissingImports]

    with tempfile.TemporaryDirectory() as folder:
        _package(Path(folder), model)
        detector = yolov8_object_detection_onnx.YOLOv8ForObjectDetectionOnnx.from_pretrained(
            folder, onnx_execution_providers=["CPUExecutionProvider"]
        )
    while True:
        capture = cv2.VideoCapture(str(video))
        while (read := capture.read())[0]:
            detector(read[1])
            yield


def _package(folder: Path, model: Path) -> None:
    side, classes = 640, 80
    (folder / "weights.onnx").symlink_to(model)
    (folder / "class_names.txt").write_text("\n".join(f"class_{number}" for number in range(classes)))
    network_input = {
        "training_input_size": {"height": side, "width": side},
        "dynamic_spatial_size_supported": False,
        "color_mode": "rgb",
        "resize_mode": "letterbox",
        "padding_value": 114,
        "input_channels": 3,
        "scaling_factor": 255,
    }
    config = {"network_input": network_input, "post_processing": {"type": "nms", "fused": False}}
    (folder / "inference_config.json").write_text(json.dumps(config))


LOOPS = {"serial": serial, "engine": engine, "script": script, "ultralytics": ultralytics, "roboflow": roboflow}

if __name__ == "__main__":
    main()
