"""A picture that costs every consumer its life, and those who were looked at beside it."""

from pathlib import Path

import pytest

from consumers.leases import ATTEMPTS_MAX
from contracts import crashpoints
from contracts.commands import DetectImage, DetectVideo
from contracts.failures import FailureCode
from contracts.media import Medium, MediumKind
from contracts.results import latest_epoch
from contracts.storage import upload_medium
from detections.rabbitmq import PrivateRabbit
from tests.broker.consumer_stage import Stage, new_task_id, scripted_model, stage, until
from tests.media import STATIC, write_image, write_video

pytestmark = pytest.mark.broker

FIRST_DEATH = "consumer.answer.begun:1"
LATER_DEATHS = "consumer.journal.begun:1"
"""Where the picture has just been looked at; of the video beside it nothing is written down yet."""


async def costs_its_consumer_its_life(on: Stage, picture: DetectImage, beside: DetectVideo, *, dies_at: str) -> bool:
    """Whether another consumer dies of the picture, having taken the video beside it; else the picture has ended."""
    claims = latest_epoch(on.layout, beside.task_id)
    model = scripted_model(on.folder)
    consumer = on.consumer(model=model, IMAGES_DIR=str(on.folder), **{crashpoints.VARIABLE: dies_at})
    await until(lambda: latest_epoch(on.layout, beside.task_id) > claims)
    if dies_at == FIRST_DEATH:
        await on.command(picture)
    await until(lambda: consumer.process.poll() is not None or bool(on.ends(picture.task_id)))
    if consumer.process.poll() is not None:
        return True
    await consumer.terminate()  # it would die of the first report of the video
    return False


async def test_a_picture_that_kills_consumers_is_given_up_before_it_costs_a_video(
    rabbit: PrivateRabbit, tmp_path: Path
) -> None:
    write_image(tmp_path / "a.png", squares=STATIC)
    medium = Medium(root="images", path="a.png", kind=MediumKind.IMAGE, media_id="m")
    picture = DetectImage(task_id=new_task_id(), medium=medium, is_quiet=True)
    clip = write_video(tmp_path / "clip.mkv", frames=10, squares=STATIC).read_bytes()
    task_id = new_task_id()
    growing = upload_medium(task_id, kind=MediumKind.VIDEO, name="a.mkv", is_growing=True)
    video = DetectVideo(task_id=task_id, medium=growing)
    async with stage(rabbit.url, tmp_path) as on:
        upload = on.upload(task_id)
        upload.write(clip[:100])
        await on.command(video)
        dies_at, killed = FIRST_DEATH, 0
        while await costs_its_consumer_its_life(on, picture, video, dies_at=dies_at):
            dies_at, killed = LATER_DEATHS, killed + 1
        await on.consumer(model=scripted_model(tmp_path)).until_ready()
        upload.write(clip[100:])
        upload.seal("abc")
        given_up, seen = await on.end_of(picture.task_id), await on.end_of(task_id)

    assert given_up.failure is not None
    assert given_up.failure.code is FailureCode.POISON
    assert killed == ATTEMPTS_MAX
    assert seen.failure is None
