"""`python -m tests.bomb_costs FILE…`: each is refused here; what that cost is printed as JSON."""

import resource
import sys
import time
from pathlib import Path

import msgspec

from contracts.failures import Failure
from engine.decode import open_video
from engine.growing_file import GrowingFile, MediumFile
from engine.images import read_picture
from engine.video import VideoLimits

VIDEO_SUFFIXES = (".avi", ".mp4")


class Cost(msgspec.Struct, frozen=True):
    """Of one file."""

    name: str
    told: str
    """The code of its refusal."""
    cpu_s: float
    """Of all threads."""
    memory_bytes: int
    """By how much more this process ever held than before."""


def look(path: Path) -> None:
    """Raises `Failure`."""
    if path.suffix not in VIDEO_SUFFIXES:
        read_picture(path)
        return
    with GrowingFile(MediumFile(path=path)) as source, open_video(source, limits=VideoLimits()) as video:
        for _ in video.frames():
            pass


def cost(path: Path) -> Cost:
    held, started_s, told = _high_water_bytes(), time.process_time(), "seen"
    try:
        look(path)
    except Failure as failure:
        told = failure.code.value
    return Cost(path.name, told, time.process_time() - started_s, _high_water_bytes() - held)


def _high_water_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def main() -> None:
    """The first file of each kind is a good one: what is loaded for it is no cost of a bomb."""
    costs = [cost(Path(name)) for name in sys.argv[1:]]
    sys.stdout.buffer.write(msgspec.json.encode(costs))


if __name__ == "__main__":
    main()
