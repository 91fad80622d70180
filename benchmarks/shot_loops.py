"""One pass through a video that finds its cuts, or does a part of that: `python -m benchmarks.shot_loops NAME MODEL VIDEO`.

The answer on stdout is a line of JSON: frames, wall and CPU seconds without loading, peak memory, and the last frame before each
cut. PySceneDetect's passes run in a virtual environment of its own, so nothing is imported here that is not in the standard
library.
"""

import json
import os
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

BLOCK = 10_000


def main() -> None:
    name, model, video = sys.argv[1:]
    run = PASSES[name](Path(model))
    began_s, cpu_began_s = time.perf_counter(), time.process_time()
    frames, cuts = run(Path(video))
    done = {
        "frames": frames,
        "wall_s": time.perf_counter() - began_s,
        "cpu_s": time.process_time() - cpu_began_s,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "cuts": cuts,
    }
    print(json.dumps(done), flush=True)
    os._exit(0)  # not every library here ends its threads


Pass = Callable[[Path], tuple[int, list[int]]]


def ours(model: Path) -> Pass:
    """What `detections run --shots` and a consumer do."""
    from contracts.options import DetectionOptions
    from engine.decode_thread import Terms
    from engine.growing_file import MediumFile
    from engine.shot_model import open_shot_model
    from engine.shot_workers import ShotWorkers
    from engine.watching import Finished, FrameReport, watch_video

    opened = open_shot_model(model)

    def run(video: Path) -> tuple[int, list[int]]:
        cuts: list[int] = []
        frames = 0
        with closing(ShotWorkers(opened, count=len(os.sched_getaffinity(0)))) as shots:
            watched = watch_video(
                MediumFile(path=video),
                workers=None,
                options=DetectionOptions(),
                stop=threading.Event(),
                terms=Terms(shots=shots),
            )
            for seen in watched:
                if isinstance(seen, FrameReport):
                    cuts += [shot.end_frame for shot in seen.shots if shot.confidence is not None]
                if isinstance(seen, Finished):
                    frames = seen.counts.decoded
        return frames, cuts

    return run


def decode(_model: Path) -> Pass:
    """Nothing but frames."""
    return lambda video: (sum(1 for _ in _frames(video)), [])


def shrink(_model: Path) -> Pass:
    """Frames, and each made small."""
    return lambda video: (sum(1 for frame in _frames(video) if len(frame.scaled(width=48, height=27))), [])


def infer(model: Path) -> Pass:
    """Nothing but the model: a window of noise for every 50 frames of the video."""
    import numpy as np

    session = _session(model)
    window = np.random.default_rng(0).integers(0, 256, (1, 100, 27, 48, 3), np.uint8)
    [node] = session.get_inputs()
    session.run(None, {node.name: window})

    def run(video: Path) -> tuple[int, list[int]]:
        frames = _frame_count(video)
        for _ in range(-(-frames // 50)):
            session.run(None, {node.name: window})
        return frames, []

    return run


def plain(model: Path) -> Pass:
    """What one would write in ten minutes: all frames by OpenCV, then a loop over the windows."""
    import cv2
    import numpy as np
    import onnxruntime

    session = onnxruntime.InferenceSession(str(model))
    [node] = session.get_inputs()

    def run(video: Path) -> tuple[int, list[int]]:
        capture, small = cv2.VideoCapture(str(video)), []
        while (read := capture.read())[0]:
            small.append(cv2.cvtColor(cv2.resize(read[1], (48, 27), interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2RGB))
        count = len(small)
        padded = np.array([small[0]] * 25 + small + [small[-1]] * (75 - (count % 50 or 50)))
        windows = [padded[at : at + 100] for at in range(0, len(padded) - 99, 50)]
        answers = [session.run(None, {node.name: window[None]})[0][0, 25:75] for window in windows]
        over = np.concatenate(answers)[:count] > 0.5
        return count, [int(at) for at in np.flatnonzero(over[1:] & ~over[:-1]) + 1]

    return run


def content(_model: Path) -> Pass:
    """PySceneDetect's ContentDetector as it comes."""
    return _scenedetect("ContentDetector")


def adaptive(_model: Path) -> Pass:
    """PySceneDetect's AdaptiveDetector as it comes."""
    return _scenedetect("AdaptiveDetector")


def transnet(model: Path) -> Pass:
    """PySceneDetect's TransNetV2 detector on the same weights; `model` has the names that it wants."""
    return _scenedetect("TransnetV2Detector", model_path=str(model), onnx_providers=["CPUExecutionProvider"])


def _scenedetect(name: str, **options: Any) -> Pass:
    import scenedetect  # pyright: ignore[reportMissingImports]
    from scenedetect.detectors import transnet_v2  # pyright: ignore[reportMissingImports]

    detector = getattr(scenedetect, name, None) or getattr(transnet_v2, name)

    def run(video: Path) -> tuple[int, list[int]]:
        opened, manager = scenedetect.open_video(str(video)), scenedetect.SceneManager()
        manager.auto_downscale = name != "TransnetV2Detector"
        manager.add_detector(detector(**options))
        frames = manager.detect_scenes(opened)
        return frames, [start.frame_num - 1 for start, _ in manager.get_scene_list()[1:]]

    return run


def _frames(video: Path) -> Iterator[Any]:
    from detections.video_file import opened_video

    with opened_video(video) as opened:
        yield from opened.frames()


def _frame_count(video: Path) -> int:
    import av

    with av.open(str(video)) as container:
        return container.streams.video[0].frames or BLOCK


def _session(model: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(model), options)


PASSES: dict[str, Callable[[Path], Pass]] = {
    "ours": ours,
    "decode": decode,
    "shrink": shrink,
    "infer": infer,
    "plain": plain,
    "content": content,
    "adaptive": adaptive,
    "transnet": transnet,
}

if __name__ == "__main__":
    main()
