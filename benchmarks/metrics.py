"""What counting costs, in CPU: a frame, a chunk of an upload, a request, and being read.

`python -m benchmarks.metrics`. The same detector looks at the same picture with and without somebody who wants to know how long
its stages take, in turns within one process.
"""

import statistics
import tempfile
import time
import timeit
from collections.abc import Callable
from pathlib import Path

from prometheus_client import generate_latest

import consumers.metrics
import edge.metrics
from contracts.detections import Counts
from contracts.options import DetectionOptions
from engine.loading import load_detector
from engine.stages import STOPWATCH, Stage, Stopwatch
from tests.pictures import drawn
from tests.scripted import write_model

TURNS = 40
FRAMES_PER_TURN = 50
CALLS = 20_000


def main() -> None:
    for what, call in CALLED.items():
        print(f"{what:<46} {_ns(call, calls=CALLS):>8.0f} ns")
    edge.metrics.begin_at_zero()
    consumers.metrics.begin_at_zero()
    for name, module in (("an edge", edge.metrics), ("a consumer", consumers.metrics)):
        read = _ns(lambda module=module: generate_latest(module.REGISTRY), calls=50)
        print(f"reading all of {name:<31} {read / 1e6:>8.1f} ms")
    unwatched, watched = _looks()
    print(f"a look of a scripted model, nobody asks        {unwatched * 1e6:>8.1f} us")
    print(f"the same, its stages counted                   {watched * 1e6:>8.1f} us ({watched / unwatched - 1:+.2%})")


def _stages() -> None:
    for stage in (Stage.PREPROCESS, Stage.INFER, Stage.POSTPROCESS):
        consumers.metrics.stage_took(stage, 0.01)


def _timed_for_nobody() -> None:
    for stage in (Stage.PREPROCESS, Stage.INFER, Stage.POSTPROCESS):
        started_s = time.perf_counter()
        STOPWATCH.took(stage, time.perf_counter() - started_s)


def _request() -> None:
    edge.metrics.HTTP_REQUESTS.labels("/detect", "POST", "200").inc()
    edge.metrics.HTTP_REQUEST_SECONDS.labels("/detect", "POST").observe(0.1)


_frames = consumers.metrics.FrameCounts(Counts())
CALLED: dict[str, Callable[[], object]] = {
    "a frame's stages, nobody asks": _timed_for_nobody,
    "a frame's stages, counted": _stages,
    "a task saying how far it is (once a second)": lambda: _frames.reach(Counts(decoded=1)),
    "a chunk of an upload (up to 64 KiB)": lambda: edge.metrics.UPLOAD_BYTES.inc(65_536),
    "a request": _request,
}


def _ns(call: Callable[[], object], *, calls: int) -> float:
    """CPU of one call: the least of several runs."""
    return min(timeit.repeat(call, number=calls, repeat=7, timer=time.process_time)) / calls * 1e9


def _looks() -> tuple[float, float]:
    """CPU seconds of a look, without and with: medians of turns, one after the other."""
    nobody = Stopwatch().took
    took: dict[bool, list[float]] = {False: [], True: []}
    with tempfile.TemporaryDirectory() as folder:
        detector = load_detector(write_model(Path(folder) / "model.json"))
        picture = drawn(160, 128, ((10, 10, 40, 40), (255, 0, 0)))
        for turn in range(2 * TURNS):
            is_watched = bool(turn % 2)
            STOPWATCH.took = consumers.metrics.stage_took if is_watched else nobody
            started_s = time.process_time()
            for _ in range(FRAMES_PER_TURN):
                detector.detect(picture, DetectionOptions())
            took[is_watched].append((time.process_time() - started_s) / FRAMES_PER_TURN)
        detector.close()
    return statistics.median(took[False]), statistics.median(took[True])


if __name__ == "__main__":
    main()
