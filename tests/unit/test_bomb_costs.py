"""A bomb is refused before it costs anything: no CPU time and no memory to speak of."""

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from tests.bomb_costs import Cost
from tests.conftest import REPOSITORY
from tests.hostile_media import picture_bombs, video_bombs
from tests.media import Container, write_image, write_video

CPU_MAX_S = 0.1
MEMORY_MAX_BYTES = 100_000_000
BAD_ONES = (
    "gen_jpeg_sof_65500x65500.jpg",
    "gen_png_bomb_12000x12000_rgb.png",
    "gen_png_bomb_20000x20000_1bit.png",
    "gen_png_ztxt_64MB.png",
    "gen_tiff_g4_30000x20000.tif",
    "gen_webp_16383x16383.webp",
)


def costs(folder: Path, *bombs: Path) -> list[Cost]:
    """Of each bomb, in a process that has looked at a good picture and a good video before."""
    good = [
        *(write_image(folder / f"good.{suffix}") for suffix in ("png", "jpg", "webp", "tif", "bmp")),
        write_video(folder / "good.avi", frames=3, container=Container.AVI_MJPEG),
    ]
    command = [sys.executable, "-m", "tests.bomb_costs", *map(str, (*good, *bombs))]
    told = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, check=True, timeout=300).stdout
    each = msgspec.json.decode(told, type=list[Cost])
    assert {one.told for one in each[: len(good)]} == {"seen"}
    return each[len(good) :]


def assert_cheap(each: list[Cost]) -> None:
    for one in each:
        assert one.told in ("too_many_pixels", "unreadable_media"), one
        assert one.cpu_s < CPU_MAX_S, one
        assert one.memory_bytes < MEMORY_MAX_BYTES, one


def test_a_made_bomb_is_refused_for_nothing(tmp_path: Path) -> None:
    bombs = []
    for bomb in (*picture_bombs(), *video_bombs(tmp_path)):
        bombs.append(tmp_path / bomb.name)
        bombs[-1].write_bytes(bomb.content)

    assert_cheap(costs(tmp_path, *bombs))


@pytest.mark.real_media
def test_a_bomb_of_the_test_data_is_refused_for_nothing(tmp_path: Path, shared_data: Path) -> None:
    assert_cheap(costs(tmp_path, *(shared_data / "images" / "bad" / name for name in BAD_ONES)))
