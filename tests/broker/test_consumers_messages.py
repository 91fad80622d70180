"""What consumers do with messages that lead to nothing, with pictures, and with a broker or a model that is not there."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from contracts import topology
from contracts.commands import DetectImage, DetectVideo
from contracts.events import EngineStatus
from contracts.failures import FailureCode
from contracts.media import Medium, MediumKind
from detections.rabbitmq import PrivateRabbit, free_port
from tests.broker.consumer_stage import WAIT_S, ConsumerProcess, new_task_id, scripted_model, stage, until
from tests.media import STATIC, write_image

pytestmark = pytest.mark.broker


def quiet_picture(folder: Path) -> DetectImage:
    write_image(folder / "a.png", squares=STATIC)
    medium = Medium(root="images", path="a.png", kind=MediumKind.IMAGE, media_id="m")
    return DetectImage(task_id=new_task_id(), medium=medium, is_quiet=True)


async def test_what_leads_to_nothing_is_dead_lettered_with_the_reason_and_the_next_message_works(
    rabbit: PrivateRabbit, tmp_path: Path
) -> None:
    good = quiet_picture(tmp_path)
    forbidden = DetectImage(
        task_id=new_task_id(), medium=Medium(root="images", path="../../etc/passwd", kind=MediumKind.IMAGE)
    )
    bodies = {
        b"no json": "malformed_message",
        b'{"type":"DetectImage","version":1,"taskId":"x"}': "malformed_message",
        b'{"type":"Guess","version":1}': "unknown_type",
        b'{"type":"DetectImage","version":7}': "unknown_version",
        msgspec.json.encode(forbidden): "forbidden_path",
    }
    async with stage(rabbit.url, tmp_path) as on:
        await on.consumer(model=scripted_model(tmp_path), IMAGES_DIR=str(tmp_path)).until_ready()
        for body in bodies:
            await on.raw_command(body, key="image")
        await on.command(good)
        end = await on.end_of(good.task_id)
        await until(lambda: len(on.dead_letters) == len(bodies))
        await asyncio.sleep(0.2)

    reasons = {letter.body: letter.headers[topology.FAILURE_CODE_HEADER] for letter in on.dead_letters}
    assert reasons == bodies
    assert len(on.dead_letters) == len(bodies), "each once"
    assert all(letter.headers[topology.FAILURE_DETAIL_HEADER] for letter in on.dead_letters)
    assert end.failure is None
    forbidden_end = await on.end_of(forbidden.task_id)
    assert forbidden_end.failure is not None
    assert forbidden_end.failure.code is FailureCode.FORBIDDEN_PATH


async def test_a_quiet_picture_is_a_report_and_an_end(rabbit: PrivateRabbit, tmp_path: Path) -> None:
    command = quiet_picture(tmp_path)
    async with stage(rabbit.url, tmp_path) as on:
        await on.consumer(model=scripted_model(tmp_path), IMAGES_DIR=str(tmp_path)).until_ready()
        await on.command(command)
        end = await on.end_of(command.task_id)

    (report,) = on.reports(command.task_id)
    assert [detection.label for detection in report.annotations] == ["red"]
    assert (report.sequence, end.sequence) == (1, 2)
    assert [message.message_id for message in on.messages] == [f"{command.task_id}:1", f"{command.task_id}:2"]
    assert {message.headers[topology.TASK_ID_HEADER] for message in on.messages} == {command.task_id}
    assert {message.content_type for message in on.messages} == {"application/json"}
    assert [message.type for message in on.messages] == ["FrameDetected", "TaskEnded"]


async def test_a_consumer_says_where_its_engine_stands(rabbit: PrivateRabbit, tmp_path: Path) -> None:
    async with stage(rabbit.url, tmp_path) as on:
        seen = await on.listen_to_presence()
        await on.consumer(model=scripted_model(tmp_path), IMAGES_DIR=str(tmp_path)).until_ready()
        await until(lambda: len(seen) >= 2)
        assert {heartbeat.status for heartbeat in seen} == {EngineStatus.NONE}
        command = quiet_picture(tmp_path)
        await on.command(command)
        await on.end_of(command.task_id)
        await until(lambda: seen[-1].status is EngineStatus.ENABLED)

    assert EngineStatus.DOWNLOADING in {heartbeat.status for heartbeat in seen}
    assert (seen[-1].engine_type, seen[-1].model) == ("scripted", "red")
    assert len({heartbeat.id for heartbeat in seen}) == 1


async def test_a_consumer_warms_up_when_it_is_told_to(rabbit: PrivateRabbit, tmp_path: Path) -> None:
    async with stage(rabbit.url, tmp_path) as on:
        seen = await on.listen_to_presence()
        await on.consumer(model=scripted_model(tmp_path), CONSUMER_WARM_UP="true").until_ready()
        await until(lambda: bool(seen) and seen[-1].status is EngineStatus.ENABLED)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (None, FailureCode.MODEL_MISSING),
        (b"not a model", FailureCode.MODEL_CORRUPT),
    ],
)
async def test_a_model_that_cannot_be_loaded_fails_the_task_and_the_next_command_tries_again(
    rabbit: PrivateRabbit, tmp_path: Path, content: bytes | None, code: FailureCode
) -> None:
    model = tmp_path / "later.json"
    if content is not None:
        model.write_bytes(content)
    first, second = quiet_picture(tmp_path), quiet_picture(tmp_path)
    async with stage(rabbit.url, tmp_path) as on:
        seen = await on.listen_to_presence()
        await on.consumer(model=model, IMAGES_DIR=str(tmp_path)).until_ready()
        await on.command(first)
        end = await on.end_of(first.task_id)
        assert end.failure is not None
        assert end.failure.code is code
        await until(lambda: seen[-1].status is EngineStatus.ERROR)
        assert code.value in (seen[-1].error_message or "")
        scripted_model(tmp_path).rename(model)
        await on.command(second)
        assert (await on.end_of(second.task_id)).failure is None
        await until(lambda: seen[-1].status is EngineStatus.ENABLED)


async def test_a_consumer_waits_for_a_broker_and_leaves_in_good_order_without_one(tmp_path: Path) -> None:
    url = f"amqp://guest:secret@127.0.0.1:{free_port()}/"
    consumer = ConsumerProcess(url, tmp_path, model=tmp_path / "m.json", log=tmp_path / "log", settings={})
    try:
        await until(lambda: '"starting"' in consumer.output)
        await asyncio.sleep(1)
        assert consumer.process.poll() is None, consumer.output
        assert await consumer.terminate() == 0, consumer.output
        assert "secret" not in consumer.output
        assert '"ready"' not in consumer.output
    finally:
        consumer.end()


async def test_a_consumer_with_nothing_to_do_leaves_at_once(rabbit: PrivateRabbit, tmp_path: Path) -> None:
    async with stage(rabbit.url, tmp_path) as on:
        seen = await on.listen_to_presence()
        consumer = on.consumer(model=scripted_model(tmp_path))
        await consumer.until_ready()
        assert await consumer.terminate() == 0, consumer.output
        await until(lambda: bool(seen) and seen[-1].is_stopping)


def test_a_setting_out_of_range_stops_the_start_by_name(tmp_path: Path) -> None:
    consumer = ConsumerProcess(
        "amqp://x", tmp_path, model=tmp_path, log=tmp_path / "log", settings={"CONSUMER_VIDEOS_MAX": "0"}
    )
    assert consumer.process.wait(WAIT_S) != 0
    assert "CONSUMER_VIDEOS_MAX" in consumer.output
    assert "Traceback" not in consumer.output


async def test_a_video_that_nobody_can_open_ends_with_a_reason(rabbit: PrivateRabbit, tmp_path: Path) -> None:
    (tmp_path / "list.mp4").write_text("ffconcat version 1.0\nfile 'other.ts'\n")
    medium = Medium(root="videos", path="list.mp4", kind=MediumKind.VIDEO)
    command = DetectVideo(task_id=new_task_id(), medium=medium)
    async with stage(rabbit.url, tmp_path) as on:
        await on.consumer(model=scripted_model(tmp_path), VIDEOS_DIR=str(tmp_path)).until_ready()
        await on.command(command)
        end = await on.end_of(command.task_id)

    assert end.failure is not None
    assert end.failure.code in {FailureCode.UNSUPPORTED_MEDIA, FailureCode.UNREADABLE_MEDIA}
    assert on.dead_letters == []
