"""A video with what was seen drawn on it."""

import itertools
import threading
from collections.abc import Callable
from pathlib import Path

from detections.looks import Looks
from detections.video_file import opened_video
from engine.drawing import draw_boxes
from engine.encode import Preset, VideoWriter

OnPercent = Callable[[int], None]


def annotate(
    source: Path,
    target: Path,
    looks: Looks,
    *,
    stop: threading.Event,
    on_percent: OnPercent | None = None,
    preset: Preset = "veryfast",
) -> None:
    """Write `source` again as an MP4 with the boxes drawn; what was written before `stop` was set can be played.

    Raises `Failure` as `opened_video`, `OSError` if `target` cannot be written.
    """
    size_bytes = source.stat().st_size
    with opened_video(source) as video:
        frames = video.frames()
        first = next(frames, None)
        if first is None:
            return
        width, height = (max(2, side // 2 * 2) for side in (first.width, first.height))  # H.264 wants even sides
        with VideoWriter(target, width=width, height=height, preset=preset) as writer:
            for frame in itertools.chain([first], frames):
                if stop.is_set():
                    return
                picture = draw_boxes(frame.scaled(width=width, height=height), looks.at(frame.index))
                writer.write(picture, at_s=frame.at_s)
                if on_percent is not None:
                    on_percent(100 * frame.position_bytes // size_bytes)
