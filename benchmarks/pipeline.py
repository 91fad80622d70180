"""Pipeline: frames per second of `detections run` and of the whole system, every frame inferred.

Against three yardsticks of the same run: the engine alone (bare session.run on ready tensors, same threads), a plain script
(cv2.VideoCapture, letterbox, onnxruntime, NMS in a loop), and the honest bound: cores / summed CPU seconds of decode,
preprocess, inference and postprocess per frame. Two fixed runs: reports every 2 s (goal: 0.9 of the bound, 1.15 of the script),
and a report for every frame, with the broker's and the edge's CPU beside it.
"""

import argparse
import functools
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import httpx
import numpy as np

from benchmarks.clips import make_clip, opened_video
from benchmarks.plain_script import frames_per_second as plain_script
from benchmarks.probes import REPOSITORY, cpu_seconds, print_head
from detections.local import LocalStack

CORES = os.cpu_count() or 1
EVERY_FRAME = {"frame_period_recognition": 1, "tiling": "off"}
END_TIMEOUT_S = 600.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--video", type=Path, default=None)
    parser.add_argument("--turns", type=int, default=3)
    arguments = parser.parse_args()
    print_head(f"Pipeline, {arguments.model.name}, {arguments.video.name if arguments.video else 'the street'}")
    with tempfile.TemporaryDirectory() as folder:
        video = arguments.video or make_clip(Path(folder), "faststart.mp4").path
        with LocalStack(Path(folder) / "storage", model=arguments.model) as stack:
            for turn in range(arguments.turns):
                print(f"turn {turn + 1}", flush=True)
                _turn(stack, arguments.model, video)


def _turn(stack: LocalStack, model: Path, video: Path) -> None:
    engine = engine_alone(model, video)
    bound = honest_bound(model, video)
    script = plain_script(model, video)
    print(f"  engine alone {engine:.1f} fps, honest bound {bound:.1f} fps, plain script {script:.1f} fps")
    for name, seconds in (("a report every 2 s", 2), ("a report every frame", 0)):
        config = EVERY_FRAME | {"frame_recognition_seconds": seconds}
        run = run_command(model, video, config)
        whole, cpu = whole_system(stack, video, config)
        print(
            f"  {name}: run {run:.1f} fps ({run / bound:.2f} of the bound, {run / script:.2f} of the script), "
            f"whole system {whole:.1f} fps ({whole / bound:.2f}, {whole / script:.2f}); CPU s: {cpu}",
            flush=True,
        )


def engine_alone(model: Path, video: Path, *, seconds: float = 5.0) -> float:
    """Frames per second of bare session.run on a ready tensor of the video's first frame, one thread per core."""
    from engine.models import open_model
    from engine.picture import Crop
    from engine.preprocess import Preprocessor, View, place

    opened = open_model(model, threads=1)
    with opened_video(video) as clip:
        frame = next(iter(clip.frames()))
        rule = opened.card.input
        whole = Crop(x=0, y=0, width=frame.width, height=frame.height)
        tensors = {rule.tensor: Preprocessor(rule).batch([View(picture=frame, placement=place(rule, whole))])}
    if rule.size_tensor is not None:
        tensors[rule.size_tensor] = np.array([[rule.width, rule.height]], np.int64)
    done = [0] * CORES
    deadline = time.perf_counter() + seconds

    def work(index: int) -> None:
        while time.perf_counter() < deadline:
            opened.runtime.infer(tensors)
            done[index] += 1

    threads = [threading.Thread(target=work, args=(index,)) for index in range(CORES)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(done) / seconds


def honest_bound(model: Path, video: Path, *, frames_max: int = 150) -> float:
    """Cores / CPU seconds per frame of everything that must happen to it, one after the other in one thread."""
    from contracts.options import read_options
    from engine.loading import load_detector

    detector = load_detector(model)
    options = read_options(json.dumps(EVERY_FRAME)).options
    with opened_video(video) as opened:
        frames = opened.frames()
        detector.detect(next(frames), options)
        began, count = time.process_time(), 0
        for count, frame in enumerate(frames, start=1):
            detector.detect(frame, options)
            if count == frames_max:
                break
    return CORES * count / (time.process_time() - began)


def run_command(model: Path, video: Path, config: dict[str, object]) -> float:
    """Frames per second of `detections run` from its first report, which is of the first frame, to its end."""
    command = [
        sys.executable,
        "-m",
        "detections",
        "run",
        str(video),
        "--model",
        str(model),
        "--config",
        json.dumps(config),
    ]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    first = json.loads(process.stdout.readline())
    began = time.perf_counter()
    process.stdout.read()
    process.wait()
    return (frame_count(video) - first["frameIndex"] - 1) / (time.perf_counter() - began)


@functools.cache
def frame_count(video: Path) -> int:
    """All frames of the video."""
    with opened_video(video) as opened:
        return sum(1 for _ in opened.frames())


def whole_system(stack: LocalStack, video: Path, config: dict[str, object]) -> tuple[float, str]:
    """Frames per second from the upload to the end of the task, and the CPU seconds of each part."""
    names = ("consumer-1", "edge", "broker")
    before = {name: sum(map(cpu_seconds, stack.pids(name))) for name in names}
    began = time.perf_counter()
    with httpx.Client(base_url=stack.url, timeout=END_TIMEOUT_S) as client:
        headers = {"X-Filename": video.name, "X-Config": json.dumps(config)}
        task_id = (
            client.post("/detect/video", content=video.read_bytes(), headers=headers)
            .raise_for_status()
            .json()["taskId"]
        )
        task = client.get(f"/tasks/{task_id}").json()
        while task["status"] in ("Queued", "Running"):
            time.sleep(0.05)
            task = client.get(f"/tasks/{task_id}").json()
    took = time.perf_counter() - began
    cpu = {name: sum(map(cpu_seconds, stack.pids(name))) - before[name] for name in names}
    return task["counts"]["inferred"] / took, ", ".join(f"{name} {value:.2f}" for name, value in cpu.items())


if __name__ == "__main__":
    main()
