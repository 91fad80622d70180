"""What was seen."""

import msgspec


class Detection(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One object; coordinates are fractions of the whole original picture as it is displayed (EXIF, display matrix)."""

    center_x: float
    center_y: float
    width: float
    height: float
    class_num: int
    label: str
    confidence: float


class TimedDetection(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A detection of a video in a synchronous answer: `video_time` is `HH:MM:SS.mmm` since the stream's first frame."""

    center_x: float
    center_y: float
    width: float
    height: float
    class_num: int
    label: str
    confidence: float
    video_time: str


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """Frames of a task: decoded >= sampled = inferred + failed, reported <= inferred; and its shots.

    Where only shots are asked for, every frame is sampled and none is reported for what it shows.
    """

    decoded: int = 0
    sampled: int = 0
    inferred: int = 0
    reported: int = 0
    failed: int = 0
    shots: int = 0


PICTURE_COUNTS = Counts(decoded=1, sampled=1, inferred=1, reported=1)
"""Of a picture that was looked at: always reported, also without detections."""


def video_time(seconds: float) -> str:
    """`HH:MM:SS.mmm`; hours take as many digits as they need."""
    milliseconds = round(seconds * 1000)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{milliseconds // 1000:02d}.{milliseconds % 1000:03d}"


def seconds_of(time: str) -> float:
    """The seconds of a `video_time`."""
    hours, minutes, seconds = time.split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
