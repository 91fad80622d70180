"""What one would write in ten minutes: OpenCV reads a frame, letterboxes it, onnxruntime runs, NMS, next frame.

The yardstick of `pipeline.py`. It knows two kinds of model: YOLOX (raw grid outputs) and the YOLOv8 layout.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime

CONFIDENCE, OVERLAP = 0.25, 0.45


def looks(model: Path, video: Path) -> Iterator[None]:
    """Something after each frame, over and over."""
    onnxruntime.set_default_logger_severity(3)  # what it removes from a graph is no news here
    session = onnxruntime.InferenceSession(str(model))
    while True:
        capture = cv2.VideoCapture(str(video))
        while (read := capture.read())[0]:
            detect(session, read[1])
            yield


def detect(session: Any, frame: np.ndarray) -> list[Any]:
    """Boxes x, y, w, h in model pixels with scores; only here to be timed."""
    (input_,) = session.get_inputs()
    sides = [side if isinstance(side, int) else None for side in input_.shape[2:]]
    height, width = sides[0] or -(-frame.shape[0] // 32) * 32, sides[1] or -(-frame.shape[1] // 32) * 32
    scale = min(width / frame.shape[1], height / frame.shape[0])
    small = cv2.resize(frame, (round(frame.shape[1] * scale), round(frame.shape[0] * scale)))
    canvas = np.full((height, width, 3), 114, np.uint8)
    canvas[: small.shape[0], : small.shape[1]] = small
    tensor = np.ascontiguousarray(canvas.transpose(2, 0, 1)[None], dtype=np.float32)
    is_yolox = session.get_outputs()[0].shape[-1] == 85
    output = session.run(None, {input_.name: tensor if is_yolox else tensor / 255})[0][0]
    boxes, scores = _yolox(output, width, height) if is_yolox else (output[:4].T, output[4:].max(axis=0))
    keep = scores > CONFIDENCE
    corners = np.concatenate([boxes[keep, :2] - boxes[keep, 2:] / 2, boxes[keep, 2:]], axis=1)
    return list(cv2.dnn.NMSBoxes(corners.tolist(), scores[keep].tolist(), CONFIDENCE, OVERLAP))


def _yolox(output: np.ndarray, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    grids, strides = [], []
    for stride in (8, 16, 32):
        ys, xs = np.mgrid[: height // stride, : width // stride]
        grids.append(np.stack([xs, ys], axis=-1).reshape(-1, 2))
        strides.append(np.full((grids[-1].shape[0], 1), stride))
    grid, stride = np.concatenate(grids), np.concatenate(strides)
    boxes = np.concatenate([(output[:, :2] + grid) * stride, np.exp(output[:, 2:4]) * stride], axis=1)
    return boxes, output[:, 4] * output[:, 5:].max(axis=1)
