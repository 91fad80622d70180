"""Preprocess: CPU milliseconds from a decoded 1080p frame to the tensor of a 640 x 640 model (goal: 1.3), and of its parts.

Beside it, in the same turns, what one would write: the frame to RGB by PyAV, then OpenCV's resize, border and blobFromImage.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import av
import cv2
import numpy as np

from benchmarks.probes import print_head
from engine.orientation import UPRIGHT
from engine.picture import Crop
from engine.preprocess import InputRule, Preprocessor, View, place
from engine.video_frame import DecodedFrame

WIDTH, HEIGHT, SIDE = 1920, 1080, 640


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=200)
    turns = parser.parse_args().turns
    print_head(f"Preprocess, {WIDTH}x{HEIGHT} 4:2:0 to {SIDE}x{SIDE}")
    rule = InputRule(tensor="images", dtype="float32", layout="NCHW", batch=None, width=SIDE, height=SIDE)
    placement = place(rule, Crop(x=0, y=0, width=WIDTH, height=HEIGHT))
    preprocessor = Preprocessor(rule)
    stored = [_stored(seed) for seed in range(4)]
    frames = [DecodedFrame(each, turn=UPRIGHT, index=0, at_s=0.0, position_bytes=0) for each in stored]
    cv2.setNumThreads(1)
    steps: dict[str, Callable[[int], object]] = {
        "frame to tensor": lambda at: preprocessor.batch([View(picture=frames[at], placement=placement)]),
        "of it: scaled and converted": lambda at: frames[at].scaled(width=placement.width, height=placement.height),
        "to_ndarray, cv2.resize, copyMakeBorder, blobFromImage": lambda at: _plain(stored[at]),
    }
    spent: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(turns):
        for name, step in steps.items():
            began = time.thread_time()
            step(turn % len(frames))
            spent[name].append((time.thread_time() - began) * 1e3)
    print("| | CPU ms, median | least |\n|---|---|---|")
    for name, each in spent.items():
        print(f"| {name} | {statistics.median(each):.2f} | {min(each):.2f} |")


def _stored(seed: int) -> av.VideoFrame:
    """Smooth noise as a decoder gives it."""
    small = np.random.default_rng(seed).integers(16, 235, (HEIGHT * 3 // 2 // 20, WIDTH // 20), np.uint8)
    planes = cv2.resize(small, (WIDTH, HEIGHT * 3 // 2), interpolation=cv2.INTER_LINEAR)
    return av.VideoFrame.from_ndarray(planes, format="yuv420p")


def _plain(frame: av.VideoFrame) -> np.ndarray:
    small = cv2.resize(frame.to_ndarray(format="rgb24"), (SIDE, HEIGHT * SIDE // WIDTH))
    border = (SIDE - small.shape[0]) // 2
    square = cv2.copyMakeBorder(small, border, border, 0, 0, cv2.BORDER_CONSTANT, value=(114, 114, 114))
    return cv2.dnn.blobFromImage(square, 1 / 255)


if __name__ == "__main__":
    main()
