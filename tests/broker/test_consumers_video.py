"""A video's way through a real consumer process and a real broker."""

from pathlib import Path

import pytest

from contracts.commands import DetectVideo
from contracts.media import MediumKind
from contracts.storage import upload_medium
from detections.rabbitmq import PrivateRabbit
from tests.broker.consumer_stage import Upload, new_task_id, scripted_model, stage, until

pytestmark = pytest.mark.broker


async def test_a_video_is_reported_while_it_is_still_being_uploaded(rabbit: PrivateRabbit, tmp_path: Path) -> None:
    async with stage(rabbit.url, tmp_path) as on:
        await on.consumer(model=scripted_model(tmp_path)).until_ready()
        task_id = new_task_id()
        upload = Upload(on.layout, task_id)
        upload.write(b"x" * 3000)
        medium = upload_medium(task_id, kind=MediumKind.VIDEO, name="a.mp4", is_growing=True)
        await on.command(DetectVideo(task_id=task_id, medium=medium))
        await until(lambda: len(on.of(task_id)) >= 3)
        upload.write(b"x" * 3000)
        upload.seal("abc")
        end = await on.end_of(task_id)

    assert [report.sequence for report in on.reports(task_id)] == [1, 2, 3, 4, 5, 6]
    assert (end.sequence, end.media_id, end.failure, end.percent) == (7, "abc", None, 100)
    assert on.layout.end(task_id).exists()
