"""Messages leave for good, or the caller is told in time."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any

import aio_pika
import pytest
import structlog
from aio_pika import Connection
from aio_pika.abc import AbstractChannel

from contracts import topology
from contracts.commands import DetectImage, DetectVideo
from contracts.events import TaskEnded
from contracts.failures import Failure, FailureCode
from contracts.media import Medium, MediumKind
from contracts.wire import decode_command, decode_control, encode
from detections.rabbitmq import PrivateRabbit, free_port
from edge.broker import keep_connected
from edge.outbox import Outbox
from edge.settings import EdgeSettings
from tests.edge_server import WAIT_S
from tests.events import new_task

pytestmark = pytest.mark.broker


@asynccontextmanager
async def outbox_on(amqp_url: str, *, publish_timeout_s: float = WAIT_S) -> AsyncGenerator[Outbox]:
    settings = EdgeSettings(amqp_url=amqp_url, publish_timeout_s=publish_timeout_s, broker_reconnect_s=0.2)
    outbox = Outbox(settings)
    keep = asyncio.create_task(keep_connected(settings, "publish", outbox.serve))
    try:
        yield outbox
    finally:
        keep.cancel()
        await asyncio.gather(keep, return_exceptions=True)


def video(task_id: str) -> DetectVideo:
    return DetectVideo(task_id=task_id, medium=Medium(root="storage", path="a/b", kind=MediumKind.VIDEO))


def image(task_id: str) -> DetectImage:
    return DetectImage(task_id=task_id, medium=Medium(root="storage", path="a/b", kind=MediumKind.IMAGE))


async def take(amqp_url: str, queue: str, task_id: str) -> aio_pika.abc.AbstractIncomingMessage:
    """The message of this task, out of its queue."""
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        waiting = await channel.get_queue(queue, ensure=False)
        while True:
            message = await waiting.get(timeout=WAIT_S)
            await message.ack()
            if message.headers.get(topology.TASK_ID_HEADER) == task_id:
                return message


async def test_a_command_waits_in_the_queue_of_its_kind_and_survives_a_broker(rabbit: PrivateRabbit) -> None:
    one, two = new_task(), new_task()
    async with outbox_on(rabbit.url) as outbox:
        await outbox.publish(video(one))
        await outbox.publish(image(two))
    message = await take(rabbit.url, topology.VIDEO_COMMANDS, one)
    assert decode_command(message.body) == video(one)
    assert message.delivery_mode == aio_pika.DeliveryMode.PERSISTENT
    assert (message.type, message.content_type) == ("DetectVideo", "application/json")
    assert decode_command((await take(rabbit.url, topology.IMAGE_COMMANDS, two)).body) == image(two)


async def test_a_cancel_reaches_every_consumer_and_needs_none(rabbit: PrivateRabbit) -> None:
    task = new_task()
    async with outbox_on(rabbit.url) as outbox:
        await outbox.cancel(new_task())  # nobody listens: no failure
        async with await aio_pika.connect(rabbit.url) as connection:
            channel = await connection.channel()
            queues = [await channel.declare_queue(exclusive=True) for _ in range(2)]
            for queue in queues:
                await queue.bind(topology.CONTROL)
            await outbox.cancel(task)
            assert [decode_control((await queue.get(timeout=WAIT_S)).body).task_id for queue in queues] == [task, task]


async def test_without_a_broker_a_publish_fails_in_time() -> None:
    async with outbox_on(f"amqp://guest:guest@127.0.0.1:{free_port()}/", publish_timeout_s=0.5) as outbox:
        async with asyncio.timeout(WAIT_S):
            with pytest.raises(Failure) as failed:
                await outbox.publish(video(new_task()))
        assert failed.value.code is FailureCode.BROKER_UNAVAILABLE
        assert not outbox.is_connected


async def test_a_broker_that_stays_away_is_worth_one_line() -> None:
    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tries.release()
        writer.close()

    tries = asyncio.Semaphore(0)
    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with structlog.testing.capture_logs() as lines:
        async with server, outbox_on(f"amqp://guest:secret@127.0.0.1:{port}/"), asyncio.timeout(WAIT_S):
            for _ in range(4):
                await tries.acquire()
    warnings = [line for line in lines if line["log_level"] == "warning"]
    assert len(warnings) == 1
    assert "secret" not in str(lines)


async def test_a_virtual_host_that_is_not_there_is_said_once_and_in_words(rabbit: PrivateRabbit) -> None:
    with structlog.testing.capture_logs() as lines:
        async with outbox_on(f"{rabbit.url}nowhere"), asyncio.timeout(WAIT_S):
            while not lines:
                await asyncio.sleep(0.1)
            await asyncio.sleep(1)  # for a second line
    (warning,) = (line for line in lines if line["log_level"] == "warning")
    assert "virtual host" in warning["reason"]


async def test_a_deleted_queue_is_declared_again_and_the_command_arrives(rabbit: PrivateRabbit) -> None:
    task = new_task()
    async with outbox_on(rabbit.url) as outbox:
        await outbox.publish(video(new_task()))
        await asyncio.to_thread(rabbit.ctl, "delete_queue", topology.VIDEO_COMMANDS)
        await outbox.publish(video(task))
    assert decode_command((await take(rabbit.url, topology.VIDEO_COMMANDS, task)).body) == video(task)


async def test_a_lost_connection_comes_back_within_the_deadline_of_a_publish(rabbit: PrivateRabbit) -> None:
    task = new_task()
    async with outbox_on(rabbit.url) as outbox:
        await outbox.publish(video(new_task()))
        await asyncio.to_thread(rabbit.ctl, "close_all_connections", "--vhost", "/", "test")
        await outbox.publish(video(task))
    assert decode_command((await take(rabbit.url, topology.VIDEO_COMMANDS, task)).body) == video(task)


async def test_a_broker_in_alarm_does_not_hold_a_publisher_for_longer_than_the_deadline(rabbit: PrivateRabbit) -> None:
    async with outbox_on(rabbit.url, publish_timeout_s=1.0) as outbox:
        await published(outbox, video(new_task()))
        await asyncio.to_thread(rabbit.ctl, "set_vm_memory_high_watermark", "absolute", "1MB")
        try:
            async with asyncio.timeout(WAIT_S):
                with pytest.raises(Failure) as failed:
                    await outbox.publish(video(new_task()))
            assert failed.value.code is FailureCode.BROKER_UNAVAILABLE
        finally:
            await asyncio.to_thread(rabbit.ctl, "set_vm_memory_high_watermark", "absolute", "512MB")
        await published(outbox, video(new_task()))


async def published(outbox: Outbox, command: DetectVideo) -> None:
    """Publish it, however often that takes."""
    async with asyncio.timeout(WAIT_S):
        while True:
            with suppress(Failure):
                return await outbox.publish(command)


async def test_an_end_lies_in_the_log(rabbit: PrivateRabbit) -> None:
    event = TaskEnded(task_id=new_task(), media_id="m", sequence=4)
    async with outbox_on(rabbit.url) as outbox, await aio_pika.connect(rabbit.url) as connection:
        channel = await connection.channel()
        while not outbox.is_connected:
            await asyncio.sleep(0.01)
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind(topology.EVENTS, "end.*")
        await outbox.publish_end(event)
        message = await queue.get(timeout=WAIT_S)
    assert message.body == encode(event)
    assert message.message_id == f"{event.task_id}:4"


async def test_probes_share_a_channel_until_one_is_refused(
    rabbit: PrivateRabbit, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[int | None] = []
    open_channel = Connection.channel

    def counted(connection: Connection, channel_number: int | None = None, **how: Any) -> AbstractChannel:
        opened.append(channel_number)
        return open_channel(connection, channel_number, **how)

    async with outbox_on(rabbit.url) as outbox:
        await outbox.publish(video(new_task()))
        monkeypatch.setattr(Connection, "channel", counted)
        for name in (topology.DEAD, topology.DEAD, "detections.nowhere", topology.DEAD, topology.DEAD):
            assert await outbox.has_exchange(name) == (name == topology.DEAD)
    assert len(opened) == 2


async def test_the_probe_tells_whether_the_dead_letter_exchange_exists(rabbit: PrivateRabbit) -> None:
    async with outbox_on(rabbit.url) as outbox:
        await outbox.publish(video(new_task()))
        assert await outbox.has_exchange(topology.DEAD)
        assert not await outbox.has_exchange("detections.nowhere")
        assert await outbox.has_exchange(topology.DEAD)
