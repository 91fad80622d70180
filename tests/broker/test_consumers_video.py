"""A video's way through a real consumer process and a real broker."""

from pathlib import Path

import pytest

from contracts.commands import DetectVideo
from contracts.detections import Counts
from contracts.events import TaskEnded
from contracts.media import MediumKind
from contracts.options import DetectionOptions
from contracts.storage import read_record, upload_medium
from detections.rabbitmq import PrivateRabbit
from tests.broker.consumer_stage import Upload, new_task_id, scripted_model, stage, until
from tests.media import Container, write_video

pytestmark = pytest.mark.broker


def red_clip(folder: Path, *, frames: int = 40) -> bytes:
    """A clip in which a red square moves: every sampled frame is worth a report."""
    return write_video(folder / "clip", frames=frames, container=Container.MP4_FRAGMENTED).read_bytes()


EVERY_FRAME = DetectionOptions(frame_period_recognition=1, frame_recognition_seconds=0)


def growing(task_id: str) -> DetectVideo:
    medium = upload_medium(task_id, kind=MediumKind.VIDEO, name="a.mp4", is_growing=True)
    return DetectVideo(task_id=task_id, medium=medium, options=EVERY_FRAME)


async def test_a_video_is_reported_while_it_is_still_being_uploaded(rabbit: PrivateRabbit, tmp_path: Path) -> None:
    clip = red_clip(tmp_path)
    async with stage(rabbit.url, tmp_path) as on:
        await on.consumer(model=scripted_model(tmp_path)).until_ready()
        task_id = new_task_id()
        upload = Upload(on.layout, task_id)
        upload.write(clip[: len(clip) // 2])
        await on.command(growing(task_id))
        await until(lambda: len(on.reports(task_id)) >= 3)
        upload.write(clip[len(clip) // 2 :])
        upload.seal("abc")
        end = await on.end_of(task_id)

    assert [report.sequence for report in on.reports(task_id)] == list(range(1, 41))
    assert [report.frame_index for report in on.reports(task_id)] == list(range(40))
    assert (end.sequence, end.media_id, end.failure, end.percent) == (41, "abc", None, 100)
    assert end.counts == Counts(decoded=40, sampled=40, inferred=40, reported=40)
    assert read_record(on.layout.end(task_id), TaskEnded) == end
