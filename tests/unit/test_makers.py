"""The makers of test media make what they say."""

from contextlib import closing
from pathlib import Path

import av
import numpy as np
import pytest

from contracts.options import DetectionOptions
from engine.batching import Workers
from engine.images import StillPicture
from tests.finders import RedFinder
from tests.media import INDEX_LAST, Container, Square, boxes, draw, write_video


@pytest.mark.parametrize("container", Container, ids=lambda each: each.name)
@pytest.mark.parametrize("audio", [False, True])
def test_a_clip_has_its_frames_and_its_sound(tmp_path: Path, container: Container, audio: bool) -> None:
    clip = write_video(tmp_path / "clip", frames=7, container=container, audio=audio)
    with av.open(str(clip)) as opened:
        assert len(opened.streams.audio) == audio
        assert sum(1 for _ in opened.decode(video=0)) == 7


@pytest.mark.parametrize("container", [Container.MP4_FRONT, *INDEX_LAST], ids=lambda each: each.name)
def test_the_index_lies_where_it_should(tmp_path: Path, container: Container) -> None:
    names = [box.type for box in boxes(write_video(tmp_path / "clip", frames=7, container=container).read_bytes())]
    assert (names.index("moov") > names.index("mdat")) == (container in INDEX_LAST)


def test_a_square_moves_appears_and_goes() -> None:
    square = Square(x=10, y=20, side=5, dx=2, from_frame=1, until_frame=3)
    reds = [np.argwhere((draw((60, 40), [square], index) == (255, 0, 0)).all(axis=2)) for index in range(4)]
    assert [len(each) for each in reds] == [0, 25, 25, 0]
    assert reds[2][0].tolist() == [20, 14]


def test_the_red_finder_finds_the_red_square() -> None:
    finder = RedFinder()
    with closing(Workers(finder, count=1)) as workers:
        square = StillPicture(draw((200, 100), [Square(x=40, y=20, side=20)]))
        (found,) = workers.detect_image(square, DetectionOptions())
        nothing = workers.detect_image(StillPicture(draw((200, 100), [])), DetectionOptions())
    assert (found.center_x, found.center_y) == pytest.approx((0.25, 0.3), abs=0.01)
    assert nothing == []
    assert finder.calls == 2
