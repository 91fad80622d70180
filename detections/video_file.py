"""A video that lies there whole, opened to be read once more."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from engine.decode import Video, open_video
from engine.growing_file import GrowingFile, MediumFile
from engine.video import VideoLimits


@contextmanager
def opened_video(path: Path) -> Generator[Video]:
    """The engine's decoder on a finished file. Raises `Failure` as `engine.decode.open_video`."""
    with GrowingFile(MediumFile(path=path)) as source, open_video(source, limits=VideoLimits()) as video:
        yield video
