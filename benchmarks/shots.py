"""Shots: how many cuts are found, what a frame costs, and whether the memory depends on the video's length.

Quality on the shared videos, beside PySceneDetect's ContentDetector and AdaptiveDetector as they come; a boundary counts if it
lies within 2 frames of a true transition that no better one took. Cost in turns, each pass in its own process: against decoding
alone plus the bare model alone (goal: 0.9 of that bound), the plain loop, and PySceneDetect with its own TransNetV2 detector on
the same weights. Memory of 10 minutes and 2 hours of tiny frames. PySceneDetect needs a virtual environment of its own
(`scenedetect`, OpenCV, onnxruntime): one that is not named with `--scenedetect PYTHON` is said to be missing.
"""

import argparse
import gzip
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import msgspec
import numpy as np

from benchmarks.clips import write_tiny_clip
from benchmarks.probes import REPOSITORY, SHARED_DATA, print_head
from benchmarks.turns import spread

SMALL = REPOSITORY / "models" / "shots-small.onnx"
FULL = "transnetv2_fullsize_standin.onnx"
TOLERANCE_FRAMES = 2
PASS_TIMEOUT_S = 3600.0


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """What one pass did."""

    frames: int
    wall_s: float
    cpu_s: float
    peak_bytes: float
    cuts: list[int]

    @property
    def cpu_ms(self) -> float:
        return self.cpu_s / self.frames * 1e3

    @property
    def fps(self) -> float:
        return self.frames / self.wall_s


class Score(msgspec.Struct, kw_only=True):
    """Boundaries, of one video or of several."""

    found: int = 0
    right: int = 0
    true: int = 0

    def __str__(self) -> str:
        precision = self.right / self.found if self.found else 0.0
        recall = self.right / self.true if self.true else 0.0
        f1 = 2 * precision * recall / (precision + recall) if self.right else 0.0
        return (
            f"{precision:.3f} | {recall:.3f} | {f1:.3f} | {self.right} of {self.true}, {self.found - self.right} false"
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=SHARED_DATA, help="the folder of the shared models and videos")
    parser.add_argument("--scenedetect", type=Path, default=None, help="the python of its environment")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--minutes", type=float, nargs="*", default=[10, 120], help="lengths of the tiny videos")
    arguments = parser.parse_args()
    print_head("Shots")
    if not arguments.data.is_dir():
        print("no shared models and videos here: nothing measured")
        return 0
    if arguments.scenedetect is None:
        print("PySceneDetect is missing: no environment was named")
    with tempfile.TemporaryDirectory() as folder:
        full = _unpacked(arguments.data / "models" / f"{FULL}.gz", Path(folder) / FULL)
        _print_quality(arguments.data / "videos" / "shots", arguments.scenedetect)
        video = arguments.data / "videos" / "shots" / "edited_gt.mp4"
        for model in (SMALL, full):
            _print_cost(model, video, arguments.scenedetect, turns=arguments.turns, folder=Path(folder))
        _print_memory(Path(folder), arguments.minutes)
    return 0


def _print_quality(folder: Path, scenedetect: Path | None) -> None:
    truth = true_transitions(folder)
    passes = ["ours"] + (["content", "adaptive"] if scenedetect else [])
    totals = {name: Score() for name in passes}
    print("\n| video | detector | precision | recall | F1 | boundaries |\n|---|---|---|---|---|---|")
    for video, transitions in truth.items():
        for name in passes:
            done = _pass(name, SMALL, folder / video, scenedetect)
            score = compare(done.cuts, transitions)
            totals[name].found += score.found
            totals[name].right += score.right
            totals[name].true += score.true
            print(f"| {video} | {name} | {score} |", flush=True)
    for name, score in totals.items():
        print(f"| all | {name} | {score} |")


def true_transitions(folder: Path) -> dict[str, list[range]]:
    """The frames of each transition of each video: for a cut the last one before it."""
    truth = json.loads((folder / "ground_truth.json").read_bytes())["files"]
    edited = json.loads((folder / "edited_gt.json").read_bytes())
    found = {name: [range(last, last + 1) for last in about["hard_cuts"]] for name, about in truth.items()}
    found[edited["file"]] = [
        range(each["last_frame_of_prev"], each["last_frame_of_prev"] + 1)
        if each["type"] == "cut"
        else range(each["start"], each["end"] + 1)
        for each in edited["transitions"]
    ]
    return found


def compare(cuts: Sequence[int], transitions: Sequence[range]) -> Score:
    """Each transition is found by one cut at most, each cut finds one at most."""
    free = list(transitions)
    right = 0
    for cut in cuts:
        hit = next((each for each in free if each[0] - TOLERANCE_FRAMES <= cut <= each[-1] + TOLERANCE_FRAMES), None)
        if hit is not None:
            free.remove(hit)
            right += 1
    return Score(found=len(cuts), right=right, true=len(transitions))


def _print_cost(model: Path, video: Path, scenedetect: Path | None, *, turns: int, folder: Path) -> None:
    names = ["decode", "shrink", "infer", "ours", "plain", *(["transnet"] if scenedetect else [])]
    renamed = _renamed(model, folder / f"renamed-{model.name}")
    taken: dict[str, list[Done]] = {name: [] for name in names}
    for turn in range(turns):
        for name in names if turn % 2 == 0 else reversed(names):
            taken[name].append(_pass(name, renamed if name == "transnet" else model, video, scenedetect))
    print(f"\n{model.name}, {video.name}, {taken['ours'][0].frames} frames, {turns} turns")
    print("\n| pass | CPU ms a frame | frames/s | peak MB |\n|---|---|---|---|")
    for name, done in taken.items():
        cpu, fps = spread([each.cpu_ms for each in done]), median(each.fps for each in done)
        print(f"| {name} | {cpu} | {fps:.0f} | {max(each.peak_bytes for each in done) / 1e6:.0f} |")
    needed = [one.cpu_ms + other.cpu_ms for one, other in zip(taken["decode"], taken["infer"], strict=True)]
    bounds = [bound / own.cpu_ms for bound, own in zip(needed, taken["ours"], strict=True)]
    print(f"\nby CPU: of the bound (decode + model) {spread(bounds)}", end="")
    for name in names[4:]:
        ratios = [other.cpu_ms / own.cpu_ms for other, own in zip(taken[name], taken["ours"], strict=True)]
        speeds = [own.fps / other.fps for other, own in zip(taken[name], taken["ours"], strict=True)]
        print(f"; of {name} {spread(ratios)}, by the wall {spread(speeds)}", end="")
    print(flush=True)


def _print_memory(folder: Path, minutes: Sequence[float]) -> None:
    """Of a model that costs nothing: what a real one holds does not depend on the video."""
    model = _write_cheap_model(folder / "cheap.onnx")
    print("\n| video | frames | CPU s | peak MB |\n|---|---|---|---|")
    for each in minutes:
        done = _pass("ours", model, write_tiny_clip(folder / f"{each:g}.mkv", minutes=each), None)
        print(f"| {each:g} minutes | {done.frames} | {done.cpu_s:.0f} | {done.peak_bytes / 1e6:.1f} |", flush=True)


def _write_cheap_model(path: Path) -> Path:
    """TransNet V2's input, and for each frame the red of its middle pixel, 0..1."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    stated = {
        "starts": np.array([13, 24, 0]),
        "ends": np.array([14, 25, 1]),
        "axes": np.array([2, 3, 4]),
        "whole": np.array(255, np.float32),
    }
    nodes = [
        helper.make_node("Slice", ["frames", "starts", "ends", "axes"], ["middles"]),
        helper.make_node("Squeeze", ["middles", "axes"], ["bytes"]),
        helper.make_node("Cast", ["bytes"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["floats", "whole"], ["single_frame"]),
    ]
    given = helper.make_tensor_value_info("frames", TensorProto.UINT8, ["N", 100, 27, 48, 3])
    told = helper.make_tensor_value_info("single_frame", TensorProto.FLOAT, ["N", 100])
    initializers = [numpy_helper.from_array(array, name) for name, array in stated.items()]
    graph = helper.make_graph(nodes, "cheap", [given], [told], initializers)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def _pass(name: str, model: Path, video: Path, scenedetect: Path | None) -> Done:
    is_theirs = name in ("content", "adaptive", "transnet")
    python = str(scenedetect.absolute() if is_theirs and scenedetect else sys.executable)
    command = [python, "-m", "benchmarks.shot_loops", name, str(model), str(video)]
    ran = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=PASS_TIMEOUT_S)
    if ran.returncode:
        raise SystemExit(f"{name}: {ran.stderr[-2000:]}")
    return msgspec.json.decode(ran.stdout.splitlines()[-1], type=Done)


def _unpacked(source: Path, target: Path) -> Path:
    with gzip.open(source) as packed, target.open("wb") as out:
        shutil.copyfileobj(packed, out)
    return target


def _renamed(model: Path, target: Path) -> Path:
    """The same weights with one input `input` and one output `output` [N, 100, 1], as PySceneDetect asks for them."""
    import onnx

    graph = onnx.load(str(model))
    [given] = graph.graph.input
    first = graph.graph.output[0]
    for node in graph.graph.node:
        node.input[:] = ["input" if name == given.name else name for name in node.input]
    given.name = "input"
    axes = onnx.numpy_helper.from_array(np.array([2]), "last_axis")
    graph.graph.initializer.append(axes)
    graph.graph.node.append(onnx.helper.make_node("Unsqueeze", [first.name, "last_axis"], ["output"]))
    del graph.graph.output[:]
    graph.graph.output.append(onnx.helper.make_tensor_value_info("output", onnx.TensorProto.FLOAT, None))
    onnx.save(graph, str(target))
    return target


if __name__ == "__main__":
    sys.exit(main())
