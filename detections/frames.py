"""Single frames of a finished video: where in the file the first one ends, and one of them as a picture."""

from pathlib import Path

from contracts.detections import Detection
from contracts.failures import Failure, FailureCode
from detections.boxes import tail_bytes
from detections.video_file import opened_video
from engine.drawing import draw_boxes, write_picture


def first_frame_bytes(path: Path) -> int:
    """How many bytes of the file, in the order in which the client sends them, hold its first frame.

    Raises `Failure` as `engine.decode.open_video`.
    """
    with path.open("rb") as file:
        tail = tail_bytes(file) or 0
    with opened_video(path) as video:
        frames = video.frames()
        next(frames, None)
        second = next(frames, None)  # its packet begins where those of the first end
    return path.stat().st_size if second is None else tail + second.position_bytes


def save_frame(source: Path, target: Path, *, frame_index: int, detections: list[Detection]) -> None:
    """Write one frame with its boxes drawn. Raises `Failure(no_frames)` if there is no such frame."""
    with opened_video(source) as video:
        for frame in video.frames():
            if frame.index == frame_index:
                picture = frame.scaled(width=frame.width, height=frame.height)
                write_picture(target, draw_boxes(picture, detections))
                return
    raise Failure(FailureCode.NO_FRAMES, f"{source} has no frame {frame_index}")
