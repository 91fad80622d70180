"""A picture of each shot of a video: its middle frame."""

import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from contracts.shots import Shot
from detections.video_file import opened_video
from engine.drawing import write_picture

OnPercent = Callable[[int], None]


def write_thumbnails(
    source: Path, folder: Path, shots: Iterable[Shot], *, stop: threading.Event, on_percent: OnPercent
) -> int:
    """Write `<source>-Scene-001.jpg` and so on, in one more pass through the video; how many there are.

    The middle of a shot is known only when the shot is, so the frames are decoded again.
    Raises `Failure` as `opened_video`, `OSError` if a picture cannot be written.
    """
    names = {
        (shot.start_frame + shot.end_frame) // 2: f"{source.stem}-Scene-{number:03d}.jpg"
        for number, shot in enumerate(shots, start=1)
    }
    written, last, size_bytes = 0, max(names, default=-1), source.stat().st_size
    folder.mkdir(exist_ok=True)
    with opened_video(source) as video:
        for frame in video.frames():
            if stop.is_set() or frame.index > last:
                break
            if frame.index in names:
                write_picture(folder / names[frame.index], frame.scaled(width=frame.width, height=frame.height))
                written += 1
                on_percent(100 * frame.position_bytes // size_bytes)
    return written
