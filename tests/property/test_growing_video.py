"""Whatever the pieces in which a video arrives, its frames are those of the finished file."""

import hashlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.decode import must_wait_for_index, open_video
from engine.growing_file import GrowingFile, MediumFile
from engine.video import VideoLimits
from tests.media import INDEX_LAST, Container, write_video
from tests.uploads import Upload, VirtualTime

FRAMES = 16


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[Container, Path]:
    """One clip with sound in every container."""
    folder = tmp_path_factory.mktemp("clips")
    return {
        container: write_video(
            folder / container.name, container=container, frames=FRAMES, gop=5, b_frames=0, audio=True, noise=4
        )
        for container in Container
    }


Frames = list[tuple[int, float, str]]


def _frames(source: GrowingFile) -> Frames:
    """Number, time and pixels of every frame."""
    with open_video(source, limits=VideoLimits()) as video:
        frames = [
            (frame.index, frame.at_s, hashlib.sha256(frame.scaled(width=40, height=32).tobytes()).hexdigest())
            for frame in video.frames()
        ]
        assert video.damaged == 0
        assert not video.is_partial()
        return frames


def _frames_of_finished(path: Path) -> Frames:
    with GrowingFile(MediumFile(path=path)) as source:
        return _frames(source)


chunks = st.lists(st.integers(1, 6000), min_size=1, max_size=6).filter(lambda pieces: sum(pieces) > 500)


@pytest.mark.parametrize("container", Container, ids=lambda each: each.name)
@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(pieces=chunks, is_total_known=st.booleans())
def test_any_chunking_gives_the_frames_of_the_finished_file(
    clips: dict[Container, Path], tmp_path: Path, container: Container, pieces: list[int], is_total_known: bool
) -> None:
    content = clips[container].read_bytes()
    upload = Upload(tmp_path, content, chunks=pieces, is_total_known=is_total_known)
    time = VirtualTime(upload.step)
    with GrowingFile(upload.medium, passing=time.passing()) as source:
        growing = _frames(source)
    assert growing == _frames_of_finished(clips[container])
    assert len(growing) == FRAMES


@pytest.mark.parametrize("container", INDEX_LAST, ids=lambda each: each.name)
@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(pieces=chunks, tail_bytes=st.integers(1, 8000))
def test_any_tail_sent_first_gives_the_frames_of_the_finished_file(
    clips: dict[Container, Path], tmp_path: Path, container: Container, pieces: list[int], tail_bytes: int
) -> None:
    content = clips[container].read_bytes()
    upload = Upload(tmp_path, content, chunks=pieces, tail_bytes=min(tail_bytes, len(content) - 1))
    time = VirtualTime(upload.step)
    with GrowingFile(upload.medium, passing=time.passing()) as source:
        assert must_wait_for_index(source)
        growing = _frames(source)
    assert growing == _frames_of_finished(clips[container])


@pytest.mark.parametrize("container", INDEX_LAST, ids=lambda each: each.name)
def test_with_the_tail_first_a_frame_is_there_long_before_the_rest(tmp_path: Path, container: Container) -> None:
    content = write_video(tmp_path / "clip", container=container, frames=60, size=(320, 256), noise=25).read_bytes()
    upload = Upload(tmp_path, content, chunks=(4096,), tail_bytes=8192)
    time = VirtualTime(upload.step)
    with (
        GrowingFile(upload.medium, passing=time.passing()) as source,
        open_video(source, limits=VideoLimits()) as video,
    ):
        next(video.frames())
    assert upload.sent_bytes < len(content) / 4


PROGRESSIVE = [each for each in Container if each not in INDEX_LAST]


@pytest.mark.parametrize("container", PROGRESSIVE, ids=lambda each: each.name)
def test_a_progressive_file_shows_its_first_frame_after_its_first_bytes(tmp_path: Path, container: Container) -> None:
    content = write_video(tmp_path / "clip", container=container, frames=100, size=(320, 256), noise=25, gop=10)
    upload = Upload(tmp_path, content.read_bytes(), chunks=(4096,))
    time = VirtualTime(upload.step)
    with (
        GrowingFile(upload.medium, passing=time.passing()) as source,
        open_video(source, limits=VideoLimits()) as video,
    ):
        next(video.frames())
    sent = upload.sent_bytes
    assert sent < 160_000, f"{sent} of {content.stat().st_size} bytes before the first frame"
