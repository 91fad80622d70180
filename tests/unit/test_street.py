"""The rendered street: the same from the same seed, true to what it says was drawn, and a clip that can be streamed."""

from pathlib import Path

import av
import numpy as np
import pytest

from detections.street import Street, write_clip
from detections.traffic import FRAMES_PER_S, HEIGHT, WIDTH, Drawn
from tests.media import boxes


@pytest.fixture(scope="module")
def street() -> Street:
    return Street()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("street") / "street.mp4"
    write_clip(path, seconds=1)
    return path


def overlapping(cars: list[Drawn]) -> list[tuple[Drawn, Drawn]]:
    return [
        (one, other)
        for index, one in enumerate(cars)
        for other in cars[index + 1 :]
        if min(one.x2, other.x2) > max(one.x1, other.x1) and min(one.y2, other.y2) > max(one.y1, other.y1)
    ]


def test_a_seed_always_gives_the_same_frames(street: Street) -> None:
    again = Street()

    assert np.array_equal(street.frame(33), again.frame(33))
    assert street.drawn(33) == again.drawn(33)


def test_another_seed_gives_another_street(street: Street) -> None:
    assert Street(seed=8).drawn(0) != street.drawn(0)


def test_what_moves_between_two_frames_lies_where_cars_were_drawn(street: Street) -> None:
    moved = np.abs(street.picture(0).astype(int) - street.picture(1).astype(int)).max(axis=2) > 16
    for car in street.drawn(0) + street.drawn(1):
        shadow = 5
        moved[int(car.y1) - 2 : int(car.y2) + 2 + shadow, max(0, int(car.x1) - 2) : int(car.x2) + 2 + shadow] = False

    assert not moved.any()


def test_every_drawn_car_moves(street: Street) -> None:
    moved = np.abs(street.picture(0).astype(int) - street.picture(3).astype(int)).max(axis=2) > 16

    assert all(moved[int(car.y1) : int(car.y2), int(car.x1) : int(car.x2)].any() for car in street.drawn(0))


def test_cars_never_run_into_each_other(street: Street) -> None:
    assert [overlapping(street.drawn(frame_index)) for frame_index in range(0, 2000, 25)] == [[]] * 80


def test_a_car_cut_by_the_edge_says_so(street: Street) -> None:
    cars = [car for frame_index in range(0, 200, 5) for car in street.drawn(frame_index)]

    assert {car.is_whole for car in cars} == {True, False}
    assert all(car.is_whole or car.x1 == 0 or car.x2 == WIDTH for car in cars)
    assert all(0 <= car.x1 < car.x2 <= WIDTH and 0 <= car.y1 < car.y2 <= HEIGHT for car in cars)


def test_the_clip_has_its_index_before_its_frames(clip: Path) -> None:
    types = [box.type for box in boxes(clip.read_bytes())]

    assert types.index("moov") < types.index("mdat")


def test_the_clip_shows_the_street_frame_by_frame(clip: Path, street: Street) -> None:
    with av.open(str(clip)) as container:
        frames = list(container.decode(video=0))

    assert [round(frame.time * FRAMES_PER_S) for frame in frames] == list(range(FRAMES_PER_S))
    shown = frames[10].to_ndarray(format="bgr24").astype(int)
    differences = [np.abs(shown - street.picture(index).astype(int)).mean() for index in (8, 10, 12)]
    assert differences.index(min(differences)) == 1
    assert min(differences) < 6


def test_a_clip_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    clip = tmp_path / "nowhere" / "street.mp4"

    with pytest.raises(FileNotFoundError, match=str(clip)):
        write_clip(clip, seconds=1)
