"""Many videos: four at once on one consumer beside one alone, every frame inferred, and a still image that comes meanwhile.

In one process (`Workers` and `watch_video`), in turns: frames per second of one video and of four copies at once, by CPU
seconds and by the wall (goal: four at least 0.95 of one; shares within 10 %). Meanwhile single images are asked for one after the
other (goal: at most 2 inference times of the busy machine, which is what a worker takes for a frame while all are at work).
Then the same through the whole system.
"""

import argparse
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import httpx
import msgspec

from benchmarks.clips import make_clip, write_photo
from benchmarks.probes import cpu_seconds, print_head, summary_ms
from contracts.options import DetectionOptions
from detections.local import LocalStack
from detections.model_files import DEFAULT_MODEL, find_model
from detections.video_file import opened_video
from engine.account import FrameReport
from engine.batching import Workers
from engine.detector import Detector
from engine.growing_file import MediumFile
from engine.models import OpenModel, open_model
from engine.picture import Picture
from engine.postprocess import Boxes
from engine.preprocess import View
from engine.watching import watch_video

CORES = os.cpu_count() or 1
VIDEOS = 4
OPTIONS = DetectionOptions(frame_period_recognition=1, tiling="off")
IMAGE_PAUSE_S = 0.25
END_TIMEOUT_S = 300.0
END_POLL_S = 1.0
"""Each look at a running task costs the edge a read of its results, on the cores that are measured."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=None)
    parser.add_argument("--video", type=Path, default=None)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement in this process")
    parser.add_argument("--turns", type=int, default=3)
    arguments = parser.parse_args()
    model: Path = arguments.model or find_model(DEFAULT_MODEL)
    with tempfile.TemporaryDirectory() as folder:
        video = arguments.video or make_clip(Path(folder), "faststart.mp4").path
        print_head(f"Many videos, {model.name}, {video.name}")
        look_s = in_process(model, video, arguments.seconds, arguments.turns)
        with LocalStack(Path(folder) / "storage", model=model) as stack:
            through_the_system(stack, video, write_photo(Path(folder) / "street.jpg"), look_s=look_s)


class Timed(Detector):
    """A detector that remembers how long each look took."""

    def __init__(self, opened: OpenModel) -> None:
        super().__init__(opened)
        self.looks_s: list[float] = []

    def look(self, views: Sequence[View], *, score_min: float) -> list[Boxes]:
        began_s = time.perf_counter()
        seen = super().look(views, score_min=score_min)
        self.looks_s.append(time.perf_counter() - began_s)
        return seen


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """What came of videos that ran side by side for a while."""

    frames: list[int]
    """Of each video."""
    wall_s: float
    cpu_s: float

    @property
    def per_second(self) -> float:
        return sum(self.frames) / self.wall_s

    @property
    def per_cpu_second(self) -> float:
        return sum(self.frames) / self.cpu_s

    @property
    def unfairness(self) -> float:
        """How far the share of a video is from the mean at most."""
        mean = statistics.mean(self.frames)
        return max(abs(frames - mean) / mean for frames in self.frames)


def in_process(model: Path, video: Path, seconds: float, turns: int) -> float:
    """Print one video and four side by side, and four with single images. Returns the seconds of an inference then."""
    detector = Timed(open_model(model))
    with closing(Workers(detector, count=CORES)) as workers, opened_video(video) as opened:
        still = next(iter(opened.frames()))
        side_by_side(workers, video, count=1, seconds=1.0)  # warm
        wall, cpu, unfair = list[float](), list[float](), list[float]()
        for _ in range(turns):
            one = side_by_side(workers, video, count=1, seconds=seconds)
            many = side_by_side(workers, video, count=VIDEOS, seconds=seconds)
            wall.append(many.per_second / one.per_second)
            cpu.append(many.per_cpu_second / one.per_cpu_second)
            unfair.append(many.unfairness)
            print(
                f"one video {one.per_second:.1f} frames/s, {VIDEOS} videos {many.per_second:.1f}: ratio {wall[-1]:.3f}, "
                f"by CPU seconds {cpu[-1]:.3f}; frames of each {many.frames}, farthest from the mean {unfair[-1]:.1%}",
                flush=True,
            )
        detector.looks_s.clear()
        waits_s = list[float]()
        side_by_side(workers, video, count=VIDEOS, seconds=seconds, meanwhile=lambda: ask(workers, still, waits_s))
        look_s = statistics.median(detector.looks_s)
    print(
        f"median of {turns} turns: ratio {statistics.median(wall):.3f}, by CPU seconds {statistics.median(cpu):.3f}, "
        f"farthest from the mean {max(unfair):.1%}\n"
        f"an image beside {VIDEOS} videos: {summary_ms(waits_s)}; an inference then {look_s * 1e3:.1f} ms: "
        f"p50 {statistics.median(waits_s) / look_s:.2f} inference times",
        flush=True,
    )
    return look_s


def side_by_side(
    workers: Workers, video: Path, *, count: int, seconds: float, meanwhile: Callable[[], None] = lambda: None
) -> Run:
    """Copies of a video, each from its start, until the time is over or one has ended; `meanwhile` is done over and over."""
    stop = threading.Event()
    with ThreadPoolExecutor(count) as pool:
        wall, cpu = time.perf_counter(), time.process_time()
        videos = [pool.submit(frames_until, workers, video, stop) for _ in range(count)]
        while time.perf_counter() - wall < seconds and not any(each.done() for each in videos):
            meanwhile()
            stop.wait(IMAGE_PAUSE_S)
        wall_s, cpu_s = time.perf_counter() - wall, time.process_time() - cpu
        stop.set()
        return Run(frames=[each.result() for each in videos], wall_s=wall_s, cpu_s=cpu_s)


def frames_until(workers: Workers, video: Path, stop: threading.Event) -> int:
    """Frames of a video that were looked at before `stop` was set."""
    seen = 0
    with closing(watch_video(MediumFile(path=video), workers=workers, options=OPTIONS, stop=stop)) as steps:
        for step in steps:
            if not isinstance(step, FrameReport):
                seen = step.counts.inferred
    return seen


def ask(workers: Workers, picture: Picture, waits_s: list[float]) -> None:
    """One single image."""
    began_s = time.perf_counter()
    workers.detect_image(picture, OPTIONS)
    waits_s.append(time.perf_counter() - began_s)


def through_the_system(stack: LocalStack, video: Path, photo: Path, *, look_s: float) -> None:
    """Print one video and four side by side, with images, as a client sees them; an image counts as a frame."""
    watch_over(stack, video)  # warm
    began_s = consumer_cpu_s(stack)
    one = watch_over(stack, video)
    rate_one = one.frames / (consumer_cpu_s(stack) - began_s)
    began_s, waits_s = consumer_cpu_s(stack), list[float]()
    with ThreadPoolExecutor(VIDEOS) as pool, httpx.Client(base_url=stack.url, timeout=END_TIMEOUT_S) as client:
        videos = [pool.submit(watch_over, stack, video) for _ in range(VIDEOS)]
        while not any(each.done() for each in videos):
            waits_s.append(post(client, photo))
            time.sleep(IMAGE_PAUSE_S)
        many = [each.result() for each in videos]
    rate_many = (sum(each.frames for each in many) + len(waits_s)) / (consumer_cpu_s(stack) - began_s)
    print(
        f"whole system: one video {rate_one:.2f} frames per CPU second of the consumer, {VIDEOS} videos and the images "
        f"{rate_many:.2f}, ratio {rate_many / rate_one:.3f}; they took {', '.join(f'{each.took_s:.1f}' for each in many)} s; "
        f"POST /detect meanwhile: {summary_ms(waits_s)}, p50 {statistics.median(waits_s) / look_s:.2f} inference times",
        flush=True,
    )


class Watched(msgspec.Struct, frozen=True):
    """One video through the whole system."""

    frames: int
    took_s: float


def watch_over(stack: LocalStack, video: Path) -> Watched:
    """Upload a video and wait for its end."""
    began_s = time.perf_counter()
    headers = {"X-Filename": video.name, "X-Config": msgspec.json.encode(OPTIONS).decode()}
    with httpx.Client(base_url=stack.url, timeout=END_TIMEOUT_S) as client:
        answer = client.post("/detect/video", content=video.read_bytes(), headers=headers).raise_for_status()
        task_id = answer.json()["taskId"]
        while (task := client.get(f"/tasks/{task_id}").json())["status"] in ("Queued", "Running"):
            time.sleep(END_POLL_S)
    return Watched(task["counts"]["inferred"], time.perf_counter() - began_s)


def post(client: httpx.Client, photo: Path) -> float:
    """Seconds until a picture was answered. A new client would cost more CPU than the edge: it reads certificates."""
    said = {"config": msgspec.json.encode(OPTIONS).decode()}
    began_s = time.perf_counter()
    client.post("/detect", data=said, files={"file": (photo.name, photo.read_bytes())}).raise_for_status()
    return time.perf_counter() - began_s


def consumer_cpu_s(stack: LocalStack) -> float:
    return sum(map(cpu_seconds, stack.pids("consumer-1")))


if __name__ == "__main__":
    main()
