"""Pipeline: frames per second of `detections run` and of the whole system, every frame inferred.

The yardstick is the honest bound: as many processes as there are cores, each of which decodes, preprocesses, infers and
postprocesses one frame after the other, with no thread, queue or message in between. It runs for a few seconds before and
after every turn of everything else: the engine alone (bare inference, one caller per core), a plain script (cv2.VideoCapture,
letterbox, onnxruntime, NMS in a loop), and two fixed runs, with reports every 2 s (goal: 0.95 of the bound, 1.25 of the script)
and with a report for every frame.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import httpx

from benchmarks.clips import make_clip, shortened
from benchmarks.loops import EVERY_FRAME
from benchmarks.probes import REPOSITORY, cpu_seconds, print_head, tree_cpu_seconds
from benchmarks.turns import ENVIRON, Beside, Loop, Slice, spread, take_turns
from detections.local import LocalStack
from detections.video_file import opened_video

CORES = os.cpu_count() or 1
END_TIMEOUT_S = 600.0
ENDS = ('"mediaStatus":"AIProcessed"', '"mediaStatus":"Error"')
PARTS = ("consumer-1", "edge", "broker")
EVERY_2_S, EACH_FRAME = (EVERY_FRAME | {"frame_recognition_seconds": seconds} for seconds in (2, 0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--video", type=Path, default=None)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--slice-seconds", type=float, default=3.0, help="of every loop in a turn")
    parser.add_argument("--clip-seconds", type=float, default=30.0, help="of the video, looked at in a turn")
    arguments = parser.parse_args()
    print_head(f"Pipeline, {arguments.model.name}, {arguments.video.name if arguments.video else 'the street'}")
    with tempfile.TemporaryDirectory() as folder:
        video = (
            arguments.video or make_clip(Path(folder), "faststart.mp4", seconds=math.ceil(arguments.clip_seconds)).path
        )
        video = shortened(video, Path(folder) / "clip.mp4", seconds=arguments.clip_seconds)
        _compare(arguments.model.absolute(), video, folder=Path(folder), arguments=arguments)


def _compare(model: Path, video: Path, *, folder: Path, arguments: argparse.Namespace) -> None:
    seconds = arguments.slice_seconds
    parts: list[dict[str, float]] = []
    with (
        Loop("serial", model, video, count=CORES) as bound,
        Loop("engine", model, video, count=CORES) as engine,
        Loop("script", model, video) as script,
        LocalStack(folder / "storage", model=model) as stack,
    ):
        system = WholeSystem(stack, video, parts)
        contenders: dict[str, Callable[[], Slice]] = {
            "engine alone": partial(engine, seconds),
            "plain script": partial(script, seconds),
            "run, reports every 2 s": partial(run_command, model, video, EVERY_2_S),
            "run, a report every frame": partial(run_command, model, video, EACH_FRAME),
            "whole system, reports every 2 s": partial(system, EVERY_2_S),
            "whole system, a report every frame": partial(system, EACH_FRAME),
        }
        system(EVERY_2_S)  # the first command loads the model
        print_table(take_turns(contenders, partial(bound, seconds), turns=arguments.turns), over="plain script")
        _print_parts(parts[1:], frame_count(video))


def print_table(taken: dict[str, list[Beside]], *, over: str) -> None:
    """Every contender in a row. over: the contender whose frames per second the last column is in."""
    steps = [step for each in taken.values() for step in each]
    bound_ms = median(each.cpu_ms for step in steps for each in step.yardstick)
    print(
        f"\nhonest bound: {CORES / bound_ms * 1e3:.1f} fps if all cores were ours ({bound_ms:.1f} ms of CPU a frame)\n"
    )
    print(
        f"| | fps | of the bound's fps | CPU ms a frame | of the bound, by CPU | fps, of {over} |\n|---|---|---|---|---|---|"
    )
    beaten = [each.speed for each in taken[over]]
    for name, each in taken.items():
        ratios = [step.speed / other for step, other in zip(each, beaten, strict=True)]
        print(
            f"| {name} | {median(step.turn.fps for step in each):.1f} | {spread([step.speed for step in each])} "
            f"| {median(step.turn.cpu_ms for step in each):.1f} | {spread([step.thrift for step in each])} | {spread(ratios)} |"
        )


def run_command(model: Path, video: Path, config: dict[str, object], *more: str) -> Slice:
    """`detections run` from its first report, which is of the first frame that shows something, to its summary."""
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
        *more,
    ]
    with subprocess.Popen(
        command, cwd=REPOSITORY, env=ENVIRON, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        first = json.loads(process.stdout.readline())
        began, cpu_began = time.perf_counter(), cpu_seconds(process.pid)
        drain = threading.Thread(target=process.stdout.read)
        drain.start()
        process.stderr.readline()
        wall_s, cpu_s = time.perf_counter() - began, cpu_seconds(process.pid) - cpu_began
        drain.join()
        _, _, usage = os.wait4(process.pid, 0)
        process.returncode = 0
    frames = frame_count(video) - first["frameIndex"] - 1
    return Slice(frames=frames, wall_s=wall_s, cpu_s=cpu_s, peak_bytes=usage.ru_maxrss * 1024)


_counted: dict[Path, int] = {}


def frame_count(video: Path) -> int:
    """All frames of the video."""
    if video not in _counted:
        with opened_video(video) as opened:
            _counted[video] = sum(1 for _ in opened.frames())
    return _counted[video]


class WholeSystem:
    """From the upload to the end of the task, as a listener hears of it; `parts` gets the CPU seconds of each part."""

    def __init__(self, stack: LocalStack, video: Path, parts: list[dict[str, float]]) -> None:
        self._stack = stack
        self._video = video
        self._parts = parts

    def __call__(self, config: dict[str, object]) -> Slice:
        task_id = str(uuid.uuid4())
        headers = {"X-Filename": self._video.name, "X-Config": json.dumps(config), "X-Task-Id": task_id}
        with (
            httpx.Client(base_url=self._stack.url, timeout=END_TIMEOUT_S) as client,
            client.stream("GET", "/detect/stream", params={"taskId": task_id}) as events,
        ):
            lines = events.iter_lines()
            next(lines)  # it listens
            before, began = self._cpu(), time.perf_counter()
            client.post("/detect/video", content=self._video.read_bytes(), headers=headers).raise_for_status()
            next(line for line in lines if any(end in line for end in ENDS))
            wall_s = time.perf_counter() - began
            task = client.get(f"/tasks/{task_id}").json()
        self._parts.append({name: cpu_s - before[name] for name, cpu_s in self._cpu().items()})
        return Slice(frames=task["counts"]["inferred"], wall_s=wall_s, cpu_s=sum(self._parts[-1].values()))

    def _cpu(self) -> dict[str, float]:
        return {name: sum(map(tree_cpu_seconds, self._stack.pids(name))) for name in PARTS}


def _print_parts(parts: list[dict[str, float]], frames: int) -> None:
    for title, some in (("reports every 2 s", parts[::2]), ("a report every frame", parts[1::2])):
        each = ", ".join(f"{name} {median(part[name] for part in some) / frames * 1e3:.2f}" for name in PARTS)
        print(f"\nwhole system, {title}, CPU ms a frame: {each}")


if __name__ == "__main__":
    main()
