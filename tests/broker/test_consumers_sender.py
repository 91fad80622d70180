"""What a consumer sends arrives in the order in which it was sent, from the first message of a connection on."""

import asyncio

import aio_pika
import pytest
from faststream.rabbit import Channel, RabbitBroker

from consumers.lane import Lane
from consumers.outgoing import RabbitSender, event_message
from contracts import topology, wire
from contracts.events import FrameDetected
from detections.rabbitmq import PrivateRabbit
from tests.broker.consumer_stage import new_task_id, until

pytestmark = pytest.mark.broker

MESSAGES = 40


async def test_the_first_messages_of_a_connection_do_not_overtake_each_other(rabbit: PrivateRabbit) -> None:
    arrived: list[int] = []
    task_id = new_task_id()

    async def remember(message: aio_pika.abc.AbstractIncomingMessage) -> None:
        event = wire.decode_event(message.body)
        if isinstance(event, FrameDetected) and event.task_id == task_id:
            arrived.append(event.sequence)

    async with await aio_pika.connect(rabbit.url) as connection:
        channel = await connection.channel()
        await topology.declare(channel)
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind(topology.EVENTS, "#")
        await queue.consume(remember, no_ack=True)
        broker = RabbitBroker(
            rabbit.url, default_channel=Channel(on_return_raises=True), apply_types=False, logger=None
        )
        await broker.start()
        sender = RabbitSender(broker)
        await sender.prepare()
        async with Lane(sender) as lane:
            for sequence in range(1, MESSAGES + 1):
                await lane.send(event_message(FrameDetected(task_id=task_id, media_id="m", sequence=sequence)))
                await asyncio.sleep(0)  # some come while the first is on its way, as frames do
            await lane.flush()
        await until(lambda: len(arrived) >= MESSAGES)
        await broker.stop()

    assert arrived == list(range(1, MESSAGES + 1))
