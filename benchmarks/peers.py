"""Peers: `detections run` beside others on the same ONNX and the same video, every frame inferred, each in its own process.

They take turns with the plain script as the yardstick between them. Each peer needs a virtual environment of its own (it must
not be this one); one that is not named with `--ultralytics PYTHON` or `--roboflow PYTHON`, or does not start, is said to be
missing. Ours runs as it is, with the OpenVINO option, and with the quantised model if one is given; for these two, what they
see is compared with what the model itself sees. Goals: 1.05 of ultralytics at less than 0.7 of its memory, 2.0 with OpenVINO or
INT8, 1.5 of Roboflow's local inference.

The environments these figures were taken with: `ultralytics` without its dependencies' extras, and `inference-models[onnx-cpu]`,
both on a CPU build of torch, with a stand-in for torchvision (non-maximum suppression by OpenCV), whose wheel did not fit it.
"""

import argparse
import contextlib
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.clips import shortened
from benchmarks.pipeline import EVERY_2_S, run_command
from benchmarks.probes import print_head
from benchmarks.turns import Beside, Loop, Slice, spread, take_turns
from detections.video_file import opened_video
from engine.agreement import Agreement, AgreementLimits, compare
from engine.loading import load_detector

COMPARED_FRAMES_MAX = 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="YOLOv8 layout: all of them know it")
    parser.add_argument("--video", type=Path, required=True)
    parser.add_argument("--quantised", type=Path, default=None, help="of `detections models quantise`")
    parser.add_argument("--ultralytics", type=Path, default=None, help="the python of its environment")
    parser.add_argument("--roboflow", type=Path, default=None, help="the python of its environment")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--slice-seconds", type=float, default=4.0)
    parser.add_argument("--clip-seconds", type=float, default=15.0)
    arguments = parser.parse_args()
    print_head(f"Peers, {arguments.model.name}, {arguments.video.name}")
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        video = shortened(arguments.video, Path(folder) / "clip.mp4", seconds=arguments.clip_seconds)
        contenders = _contenders(arguments, video, stack)
        script = stack.enter_context(Loop("script", arguments.model.absolute(), video))
        taken = take_turns(contenders, partial(script, arguments.slice_seconds), turns=arguments.turns)
        _print_table(taken)
        _print_agreements(arguments, video)


def _contenders(
    arguments: argparse.Namespace, video: Path, stack: contextlib.ExitStack
) -> dict[str, Callable[[], Slice]]:
    model = arguments.model.absolute()
    found: dict[str, Callable[[], Slice]] = {"detections run": partial(run_command, model, video, EVERY_2_S)}
    found["detections run, OpenVINO"] = partial(run_command, model, video, EVERY_2_S, "--provider", "openvino")
    if arguments.quantised is not None:
        found["detections run, INT8"] = partial(run_command, arguments.quantised.absolute(), video, EVERY_2_S)
    for name in ("ultralytics", "roboflow"):
        python = getattr(arguments, name)
        if python is None:
            print(f"{name} is missing: no environment was named")
            continue
        try:
            loop = stack.enter_context(Loop(name, model, video, python=python.absolute()))
        except (SystemExit, OSError) as error:
            print(f"{name} is missing: {error}")
        else:
            found[name] = partial(loop, arguments.slice_seconds)
    return found


def _print_table(taken: dict[str, list[Beside]]) -> None:
    peers = [name for name in ("ultralytics", "roboflow") if name in taken]
    print("\n| | fps | CPU ms a frame | peak MB | of the plain script | " + "".join(f"of {peer} | " for peer in peers))
    print("|---|---|---|---|---|" + "---|" * len(peers))
    for name, turns in taken.items():
        ratios = "".join(f"{spread(_ratios(turns, taken[peer]))} | " for peer in peers)
        print(
            f"| {name} | {median(each.turn.fps for each in turns):.1f} | {median(each.turn.cpu_ms for each in turns):.1f} "
            f"| {max(each.turn.peak_bytes for each in turns) / 1e6:.0f} | {spread([each.speed for each in turns])} | {ratios}"
        )
    print("\nCPU: frames per CPU second, in those of the peer: ", end="")
    for peer in peers:
        for name, turns in taken.items():
            thrifts = [one.thrift / other.thrift for one, other in zip(turns, taken[peer], strict=True)]
            print(f"{name} / {peer} {spread(thrifts)}", end="; ")
    print()


def _ratios(turns: list[Beside], others: list[Beside]) -> list[float]:
    """Each speed beside the yardstick of its own seconds, turn by turn."""
    return [one.speed / other.speed for one, other in zip(turns, others, strict=True)]


def _print_agreements(arguments: argparse.Namespace, video: Path) -> None:
    print(f"OpenVINO against the model: {_agreement(arguments.model, arguments.model, video, 'openvino')}")
    if arguments.quantised is not None:
        print(f"INT8 against the model: {_agreement(arguments.model, arguments.quantised, video, 'cpu')}")


def _agreement(model: Path, candidate: Path, video: Path, provider: str) -> Agreement:
    reference, other = load_detector(model, provider="cpu"), load_detector(candidate, provider=provider)
    with opened_video(video) as opened:
        frames = [frame for frame in opened.frames() if frame.index % 4 == 0][:COMPARED_FRAMES_MAX]
    return compare(reference, other, frames, limits=AgreementLimits(iou_min=0.5))


if __name__ == "__main__":
    main()
