"""Single frames of a video: where the first one ends in the order in which bytes are sent, and one as a picture."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from contracts.detections import Detection
from contracts.failures import Failure, FailureCode
from detections.boxes import tail_bytes
from detections.frames import first_frame_bytes, save_frame
from tests.media import Container, Square, write_video

SEEN = Detection(center_x=0.5, center_y=0.5, width=0.5, height=0.5, class_num=0, label="größe", confidence=0.5)


@pytest.mark.parametrize("container", [Container.MP4_FRONT, Container.MKV, Container.TS, Container.MP4_FRAGMENTED])
def test_the_first_frame_of_a_progressive_file_lies_near_its_start(container: Container, tmp_path: Path) -> None:
    clip = write_video(tmp_path / f"clip{container.suffix}", frames=100, noise=30, container=container)

    assert 0 < first_frame_bytes(clip) < clip.stat().st_size / 5


def test_the_tail_is_sent_before_the_first_frame(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4", frames=400, container=Container.MP4_END)  # an index larger than a frame
    with clip.open("rb") as file:
        tail = tail_bytes(file)

    assert tail is not None
    assert tail < first_frame_bytes(clip) < clip.stat().st_size / 2


def test_a_single_frame_needs_the_whole_file(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4", frames=1)

    assert first_frame_bytes(clip) == clip.stat().st_size


def test_a_saved_frame_shows_that_frame_and_its_boxes(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4", frames=10, squares=(Square(x=0, y=0, dx=10),))

    save_frame(clip, tmp_path / "frame.png", frame_index=5, detections=[SEEN])

    picture = np.asarray(Image.open(tmp_path / "frame.png")).astype(int)
    assert picture.shape == (128, 160, 3)
    assert picture[16, 50 + 16, 0] > 200  # the square, red, where it is by then
    assert np.abs(picture[96, 60:100] - picture[110, 60:100]).max(axis=1).min() > 60  # the box's lower edge


def test_a_frame_that_is_not_there_is_a_failure(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4", frames=3)

    with pytest.raises(Failure) as caught:
        save_frame(clip, tmp_path / "frame.png", frame_index=3, detections=[])
    assert caught.value.code is FailureCode.NO_FRAMES
