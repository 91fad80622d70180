"""Shots through real consumer processes and a real broker, also when one is killed on the way."""

from pathlib import Path

import pytest

from contracts import topology
from contracts.commands import FindShots
from contracts.events import EngineStatus, FrameDetected
from contracts.media import MediumKind
from contracts.results import reports
from contracts.storage import upload_medium
from detections.rabbitmq import PrivateRabbit
from tests.broker.consumer_stage import Upload, new_task_id, scripted_model, stage, until
from tests.cut_finder import write_scenes
from tests.media import Container
from tests.shots_here import shots_here

pytestmark = pytest.mark.broker


def frames(told: list[FrameDetected]) -> list[tuple[int, int]]:
    """The shots in the reports, each number once."""
    by_number = {report.sequence: report.shots for report in told}
    return [(shot.start_frame, shot.end_frame) for _, shots in sorted(by_number.items()) for shot in shots]


async def test_a_killed_consumer_is_replaced_and_the_shots_are_those_of_an_undisturbed_run(
    rabbit: PrivateRabbit, tmp_path: Path
) -> None:
    path = write_scenes(tmp_path / "a.mp4", 60, 130, 175, frames=240, container=Container.MP4_FRAGMENTED)
    video, expected = path.read_bytes(), shots_here(path)
    model = scripted_model(tmp_path)
    task_id = new_task_id()
    medium = upload_medium(task_id, kind=MediumKind.VIDEO, name="a.mp4", is_growing=True)
    async with stage(rabbit.url, tmp_path) as on:
        seen = await on.listen_to_presence()
        first = on.consumer(model=model)
        await first.until_ready()
        upload = Upload(on.layout, task_id)
        upload.write(video[: len(video) * 3 // 4])
        await on.command(FindShots(task_id=task_id, medium=medium))
        await until(lambda: bool(on.reports(task_id)))
        before = frames(on.reports(task_id))
        first.kill()
        await on.consumer(model=model).until_ready()
        upload.write(video[len(video) * 3 // 4 :])
        upload.seal("abc")
        end = await on.end_of(task_id)
        assert await on.ready_messages(topology.SHOTS_COMMANDS) == 0

    assert before == expected[: len(before)]
    assert len(before) < len(expected), "it was killed in the middle"
    assert frames(on.reports(task_id)) == frames(list(reports(on.layout, task_id))) == expected
    assert (end.epoch, end.failure, end.media_id, end.counts.shots, end.counts.decoded) == (2, None, "abc", 4, 240)
    engines = [consumer.shots for consumer in seen if consumer.shots is not None]
    assert engines[0].status is EngineStatus.NONE
    assert (engines[-1].status, engines[-1].engine_type) == (EngineStatus.ENABLED, "onnx")
