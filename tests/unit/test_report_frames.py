"""The frame of a report that will be posted lies beside the results before anybody is told."""

import io
from collections.abc import Generator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from consumers.report_frames import SIDE_PX_MAX, ReportFrames
from contracts.commands import DetectImage
from contracts.media import Medium, MediumKind
from contracts.storage import Layout
from engine.account import FrameReport
from engine.images import StillPicture, jpeg

TASK_ID = "00000000-0000-4000-8000-000000000001"
COMMAND = DetectImage(task_id=TASK_ID, medium=Medium(root="images", path="a", kind=MediumKind.IMAGE), is_posted=True)


def picture(width: int, height: int) -> StillPicture:
    rgb = np.zeros((height, width, 3), np.uint8)
    rgb[..., 0] = 255
    return StillPicture(rgb)


def reported(shown: StillPicture | None, sequence: int = 1) -> FrameReport:
    return FrameReport(sequence=sequence, frame_index=0, at_s=0.0, detections=[], percent=0, picture=shown)


def watching(*seen: FrameReport) -> Generator[FrameReport, None, None]:
    yield from seen


@pytest.mark.parametrize(
    ("size", "posted"), [((160, 120), (160, 120)), ((3840, 2160), (1920, 1080)), ((100, 3840), (50, 1920))]
)
def test_a_picture_becomes_a_jpeg_that_is_not_too_large(size: tuple[int, int], posted: tuple[int, int]) -> None:
    image = Image.open(io.BytesIO(jpeg(picture(*size), side_px_max=SIDE_PX_MAX)))

    assert (image.format, image.size) == ("JPEG", posted)
    red, green, blue = image.convert("RGB").getpixel((10, 10))
    assert red > 240
    assert green < 15
    assert blue < 15


def test_the_frame_is_there_when_the_report_comes(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.task(TASK_ID).mkdir(parents=True)
    kept = ReportFrames(layout, COMMAND).kept(watching(reported(picture(32, 32), 1), reported(picture(32, 32), 2)))

    next(kept)
    assert layout.frame(TASK_ID, 1).read_bytes().startswith(b"\xff\xd8")
    assert not layout.frame(TASK_ID, 2).exists()
    next(kept)
    assert layout.frame(TASK_ID, 2).exists()
    kept.close()


def test_a_report_without_a_picture_has_no_frame(tmp_path: Path) -> None:
    layout = Layout(tmp_path)

    assert list(ReportFrames(layout, COMMAND).kept(watching(reported(None)))) == [reported(None)]
    assert not layout.task(TASK_ID).exists()


def test_a_disk_that_takes_no_frame_costs_no_report(tmp_path: Path) -> None:
    layout = Layout(tmp_path)  # the task's folder is missing, so nothing can be written
    shown = reported(picture(8, 8))

    assert list(ReportFrames(layout, COMMAND).kept(watching(shown))) == [msgspec.structs.replace(shown, picture=None)]
