"""A command nobody could conclude ends its task."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import aio_pika
import pytest

from contracts import topology
from contracts.commands import DetectImage, DetectVideo
from contracts.events import TaskEnded
from contracts.media import Medium, MediumKind
from contracts.storage import Layout, create_record, read_record
from contracts.wire import encode
from detections.rabbitmq import PrivateRabbit
from tests.edge_server import WAIT_S, Publisher, Stream, listening, publishing, serving
from tests.events import end, new_task

pytestmark = pytest.mark.broker

DEAD_VIDEO = Medium(root="storage", path="a/b", kind=MediumKind.VIDEO)


@asynccontextmanager
async def edge_with_listener(
    rabbit: PrivateRabbit, storage: Path, task_id: str
) -> AsyncGenerator[tuple[Publisher, Stream]]:
    async with (
        publishing(rabbit.url) as publisher,
        serving(rabbit.url, storage) as edge,
        listening(edge, taskId=task_id) as (stream, _),
    ):
        yield publisher, stream


async def bury(publisher: Publisher, body: bytes, **headers: str) -> None:
    exchange = await publisher.channel.get_exchange(topology.DEAD, ensure=False)
    await exchange.publish(aio_pika.Message(body, headers=dict(headers)), "")


@pytest.mark.parametrize(("said", "kept"), [("forbidden_path", "forbidden_path"), ("of_a_newer_consumer", "internal")])
async def test_a_reason_given_by_a_consumer_becomes_the_end_of_the_task(
    rabbit: PrivateRabbit, tmp_path: Path, said: str, kept: str
) -> None:
    task = new_task()
    headers = {topology.FAILURE_CODE_HEADER: said, topology.FAILURE_DETAIL_HEADER: "../../etc"}
    async with edge_with_listener(rabbit, tmp_path, task) as (publisher, stream):
        await bury(publisher, encode(DetectVideo(task_id=task, medium=DEAD_VIDEO)), **headers)
        event = await stream.event()
    written = read_record(Layout(tmp_path).end(task), TaskEnded)
    assert event.data is not None
    assert f'"code":"{kept}","detail":"../../etc"' in event.data
    assert written is not None
    assert written.failure is not None
    assert written.failure.code == kept


async def test_a_command_that_was_delivered_too_often_says_so(rabbit: PrivateRabbit, tmp_path: Path) -> None:
    task = new_task()
    async with edge_with_listener(rabbit, tmp_path, task) as (publisher, stream):
        commands = await publisher.channel.get_exchange(topology.COMMANDS, ensure=False)
        queue = await publisher.channel.get_queue(topology.VIDEO_COMMANDS, ensure=False)
        await queue.purge()
        await commands.publish(aio_pika.Message(encode(DetectVideo(task_id=task, medium=DEAD_VIDEO))), "video")
        for _ in range(topology.DELIVERY_LIMIT + 1):
            message = await queue.get(timeout=WAIT_S, fail=False)
            while message is None:
                message = await queue.get(timeout=WAIT_S, fail=False)
            await message.nack(requeue=True)
        event = await stream.event()
    assert '"code":"delivered_too_often"' in (event.data or "")


async def test_a_command_that_its_sender_gave_too_little_time_says_so(rabbit: PrivateRabbit, tmp_path: Path) -> None:
    task = new_task()
    async with edge_with_listener(rabbit, tmp_path, task) as (publisher, stream):
        commands = await publisher.channel.get_exchange(topology.COMMANDS, ensure=False)
        command = encode(DetectVideo(task_id=task, medium=DEAD_VIDEO))
        await commands.publish(aio_pika.Message(command, expiration=0.1), "video")
        event = await stream.event()
    assert '"code":"no_answer"' in (event.data or "")
    assert "expired" in (event.data or "")


async def test_a_letter_with_no_more_than_a_task_id_ends_that_task(rabbit: PrivateRabbit, tmp_path: Path) -> None:
    task = new_task()
    async with edge_with_listener(rabbit, tmp_path, task) as (publisher, stream):
        await bury(publisher, b"\xff\xfe")
        await bury(publisher, b'{"taskId":"../../etc"}')
        await bury(publisher, b'{"type":"DetectSmell","taskId":"%s"}' % task.encode())
        event = await stream.event()
    assert '"code":"unknown_type"' in (event.data or "")


async def test_a_task_that_has_ended_is_left_alone(rabbit: PrivateRabbit, tmp_path: Path) -> None:
    ended, other = new_task(), new_task()
    create_record(Layout(tmp_path).end(ended), end(ended, 3))
    async with edge_with_listener(rabbit, tmp_path, other) as (publisher, stream):
        for task in (ended, other):
            await bury(publisher, encode(DetectVideo(task_id=task, medium=DEAD_VIDEO)))
        await stream.event()
    assert read_record(Layout(tmp_path).end(ended), TaskEnded) == end(ended, 3)


async def test_a_synchronous_image_is_told_and_leaves_no_folder(rabbit: PrivateRabbit, tmp_path: Path) -> None:
    task = new_task()
    medium = Medium(root="storage", path="a/b", kind=MediumKind.IMAGE)
    async with edge_with_listener(rabbit, tmp_path, task) as (publisher, stream):
        await bury(publisher, encode(DetectImage(task_id=task, medium=medium, is_quiet=True)))
        assert '"mediaStatus":"Error"' in ((await stream.event()).data or "")
    assert not Layout(tmp_path).task(task).exists()


async def test_a_storage_that_is_away_delays_the_end_and_loses_nothing(rabbit: PrivateRabbit, tmp_path: Path) -> None:
    task, storage = new_task(), tmp_path / "storage"
    async with (
        publishing(rabbit.url) as publisher,
        serving(rabbit.url, storage, dead_letter_retry_s=0.2) as edge,
        listening(edge, taskId=task) as (stream, _),
    ):
        storage.rename(tmp_path / "elsewhere")
        storage.write_text("not a folder")
        await bury(publisher, encode(DetectVideo(task_id=task, medium=DEAD_VIDEO)))
        await asyncio.sleep(0.5)
        storage.unlink()
        await stream.event()
    assert Layout(storage).end(task).exists()
