"""What it costs to decode in a confined process: a video watched with the decoder in the sandbox and in a thread, in turns.

CPU seconds a frame (children and the process that forks them included) and frames per second, of the whole way to detections
and of decoding and shrinking alone. Goal: not more than 3 % slower. Then what a task costs before its first frame.
"""

import argparse
import os
import statistics
import threading
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import msgspec

from benchmarks.probes import print_head
from contracts.options import DetectionOptions
from detections.model_files import DEFAULT_MODEL, find_model
from engine.account import Progressed
from engine.batching import Workers
from engine.decode import open_video
from engine.decode_thread import Terms
from engine.detector import Detector
from engine.growing_file import GrowingFile, MediumFile
from engine.models import open_model
from engine.orientation import Size
from engine.sandbox import Sandbox
from engine.video import OpenVideo, VideoLimits, Wanted, Wish
from engine.watching import watch_video

CORES = len(os.sched_getaffinity(0))
OPTIONS = DetectionOptions(frame_period_recognition=1, tiling="off", probability_threshold=0.99)
SIDE_PX = 640
OPENINGS = 20


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """Frames of a video, and what they took."""

    frames: int
    wall_s: float
    cpu_s: float

    @property
    def per_second(self) -> float:
        return self.frames / self.wall_s

    @property
    def cpu_ms(self) -> float:
        return self.cpu_s / self.frames * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("videos", type=Path, nargs="+")
    parser.add_argument("--model", type=Path, default=None)
    parser.add_argument("--turns", type=int, default=5)
    arguments = parser.parse_args()
    model: Path = arguments.model or find_model(DEFAULT_MODEL)
    print_head(f"Decode sandbox, {model.name}")
    with closing(Sandbox()) as sandbox, closing(Workers(Detector(open_model(model)), count=CORES)) as workers:
        print(sandbox.confinement())
        for video in arguments.videos:
            ways = {"thread": open_video, "sandbox": sandbox.open_video}
            compare(f"{video.name}, detections", partial(watched, video=video, workers=workers), ways, arguments.turns)
            compare(f"{video.name}, {SIDE_PX} px", partial(shrunk, video=video), ways, arguments.turns)
        begun(ways, arguments.videos[0])


def compare(what: str, run: Callable[[OpenVideo], Run], ways: dict[str, OpenVideo], turns: int) -> None:
    """Print the medians of both ways and of their ratios in each turn."""
    for way in ways.values():
        run(way)  # warm
    pairs = list[tuple[Run, Run]]()
    for turn in range(turns):
        order = list(ways) if turn % 2 else list(ways)[::-1]
        done = {name: run(ways[name]) for name in order}
        pairs.append((done["thread"], done["sandbox"]))
    cpu = statistics.median(sandbox.cpu_ms / thread.cpu_ms for thread, sandbox in pairs)
    rate = statistics.median(sandbox.per_second / thread.per_second for thread, sandbox in pairs)
    thread_ms, sandbox_ms = (statistics.median(pair[at].cpu_ms for pair in pairs) for at in (0, 1))
    print(
        f"{what}: CPU a frame {thread_ms:.2f} ms in a thread, {sandbox_ms:.2f} ms in the sandbox: ratio {cpu:.3f} "
        f"({', '.join(f'{sandbox.cpu_ms / thread.cpu_ms:.3f}' for thread, sandbox in pairs)}); frames/s: ratio {rate:.3f}",
        flush=True,
    )


def watched(way: OpenVideo, video: Path, workers: Workers) -> Run:
    """The whole way to detections."""
    stop, seen = threading.Event(), 0
    wall, cpu = time.perf_counter(), cpu_seconds()
    steps = watch_video(
        MediumFile(path=video), workers=workers, options=OPTIONS, stop=stop, terms=Terms(open_video=way)
    )
    with closing(steps):
        for step in steps:
            seen = step.counts.inferred if not isinstance(step, Progressed) else seen
    return Run(frames=max(seen, 1), wall_s=time.perf_counter() - wall, cpu_s=cpu_seconds() - cpu)


def shrunk(way: OpenVideo, video: Path) -> Run:
    """Decoded and shrunk, and nothing more."""

    def size(picture: Size) -> Size:
        scale = min(1.0, SIDE_PX / max(picture.width, picture.height))
        return Size(round(picture.width * scale), round(picture.height * scale))

    seen = 0
    wall, cpu = time.perf_counter(), cpu_seconds()
    with (
        GrowingFile(MediumFile(path=video)) as source,
        way(source, limits=VideoLimits(), wanted=Wanted(wishes=(Wish(size=size),))) as opened,
    ):
        for frame in opened.frames():
            shown = size(Size(frame.width, frame.height))
            frame.scaled(width=shown.width, height=shown.height)
            seen += 1
    return Run(frames=seen, wall_s=time.perf_counter() - wall, cpu_s=cpu_seconds() - cpu)


def begun(ways: dict[str, OpenVideo], video: Path) -> None:
    """Print what it takes to have the first frame of a finished file and to let the rest be."""
    for name, way in ways.items():
        walls_s, before = list[float](), cpu_seconds()
        for _ in range(OPENINGS):
            wall = time.perf_counter()
            with GrowingFile(MediumFile(path=video)) as source, way(source, limits=VideoLimits()) as opened:
                next(iter(opened.frames()))
                walls_s.append(time.perf_counter() - wall)
        cpu_ms = (cpu_seconds() - before) / OPENINGS * 1e3
        print(
            f"the first frame of {video.name}, {name}: {statistics.median(walls_s) * 1e3:.1f} ms, CPU {cpu_ms:.1f} ms"
        )


def cpu_seconds() -> float:
    """CPU seconds of this process and of all that it started, once every decoder has ended."""
    while (nursery := nursery_pid()) and (Path("/proc") / f"{nursery}/task/{nursery}/children").read_text():
        time.sleep(0.005)
    fields = Path(f"/proc/{nursery}/stat").read_text().rpartition(")")[2].split() if nursery else ["0"] * 15
    return time.process_time() + sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")  # with children it waited for


def nursery_pid() -> str:
    """The process that forks decoders."""
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text().strip()


if __name__ == "__main__":
    main()
