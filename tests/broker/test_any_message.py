"""Whatever somebody publishes: consumers go on, and what is no command lies among the dead letters with the reason."""

import random
from collections import Counter
from pathlib import Path

import aio_pika
import pytest

from contracts import topology
from contracts.commands import COMMANDS
from contracts.events import TaskEnded
from contracts.failures import Failure, FailureCode
from contracts.wire import decode_command
from detections.rabbitmq import PrivateRabbit
from tests.broker.consumer_stage import Stage, scripted_model, stage, until
from tests.broker.test_consumers_messages import quiet_picture
from tests.hostile_messages import commands, controls, monsters, properties

pytestmark = pytest.mark.broker

SEED = 20261122
MUTATED = 150
NOT_UNDERSTOOD = {FailureCode.MALFORMED_MESSAGE, FailureCode.UNKNOWN_TYPE, FailureCode.UNKNOWN_VERSION}


def reason(body: bytes) -> FailureCode | None:
    """Why it is no command, None if it is one."""
    try:
        decode_command(body)
    except Failure as failure:
        return failure.code
    return None


async def publish(on: Stage, chance: random.Random, exchange: str, key: str, body: bytes) -> None:
    into = await on._channel.get_exchange(exchange, ensure=False)
    said = properties(chance)
    message = aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT, **said)
    await into.publish(message, routing_key=key)


async def test_a_consumer_outlives_every_message_and_says_why_it_is_none(rabbit: PrivateRabbit, tmp_path: Path) -> None:
    chance = random.Random(SEED)
    bodies = [*dict.fromkeys([*monsters(), *commands(chance, count=MUTATED)])]
    wrong = {body: code for body in bodies if (code := reason(body)) is not None}
    right = {decode_command(body).task_id for body in bodies if body not in wrong}
    good = quiet_picture(tmp_path)
    async with stage(rabbit.url, tmp_path) as on:
        consumer = on.consumer(model=scripted_model(tmp_path), IMAGES_DIR=str(tmp_path), VIDEOS_DIR=str(tmp_path))
        await consumer.until_ready()
        for body in bodies:
            await publish(on, chance, topology.COMMANDS, chance.choice(list(COMMANDS)).value, body)
        for body in (*monsters(), *controls(chance, count=MUTATED)):
            await publish(on, chance, topology.CONTROL, "", body)
        await on.command(good)
        assert (await on.end_of(good.task_id)).failure is None
        await until(lambda: {letter.body for letter in on.dead_letters} >= set(wrong))
        await until(lambda: right <= {event.task_id for event in on.events if isinstance(event, TaskEnded)})
        for queue in (topology.IMAGE_COMMANDS, topology.VIDEO_COMMANDS, topology.SHOTS_COMMANDS):
            assert await on.ready_messages(queue) == 0
        assert consumer.process.poll() is None, consumer.output

    assert set(wrong.values()) <= NOT_UNDERSTOOD
    letters = [letter for letter in on.dead_letters if letter.body in wrong]
    twice = [body for body, times in Counter(letter.body for letter in letters).items() if times > 1]
    assert twice == []
    assert {letter.body: letter.headers[topology.FAILURE_CODE_HEADER] for letter in letters} == wrong
    for letter in letters:
        assert 0 < len(str(letter.headers[topology.FAILURE_DETAIL_HEADER])) <= topology.DETAIL_CHARACTERS_MAX
