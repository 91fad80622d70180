"""A consumer whose connections break while it starts."""

from pathlib import Path

import pytest

from detections.rabbitmq import PrivateRabbit
from tests.broker.consumer_stage import ConsumerProcess, scripted_model, until
from tests.fault.proxy import Proxy, proxy_to

pytestmark = pytest.mark.broker

RESETS = 6
FURTHER_BYTES = 400
"""How much further it gets each time; a whole start is some 5,000 bytes."""


async def break_again_and_again(proxy: Proxy) -> None:
    for turn in range(RESETS):
        before = proxy.passed_bytes
        await until(lambda before=before, turn=turn: proxy.passed_bytes > before + turn * FURTHER_BYTES)
        proxy.reset()


async def test_a_consumer_that_loses_its_broker_while_it_starts_starts_again(
    rabbit: PrivateRabbit, tmp_path: Path
) -> None:
    async with proxy_to(rabbit.port) as proxy:
        url = f"amqp://guest:guest@127.0.0.1:{proxy.port}/"
        model, log = scripted_model(tmp_path), tmp_path / "log"
        consumer = ConsumerProcess(url, tmp_path / "storage", model=model, log=log, settings={})
        try:
            await break_again_and_again(proxy)
            await consumer.until_ready()
            assert await consumer.terminate() == 0, consumer.output
        finally:
            consumer.end()
