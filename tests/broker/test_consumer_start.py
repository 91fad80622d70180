"""A consumer whose connections break while it starts, or while it is told to stop."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from detections.rabbitmq import PrivateRabbit
from tests.broker.consumer_stage import ConsumerProcess, scripted_model, until
from tests.fault.proxy import Proxy, proxy_to

pytestmark = pytest.mark.broker

STOPS_AT_BYTES = range(600, 5400, 800)
"""How far each consumer got when its broker goes and it is told to stop, both at once."""
RESETS = 6
SILENT_AT_BYTES = 1_500
HEARTBEAT_S = 1
"""A silent broker is noticed after some of these."""
FURTHER_BYTES = 400
"""How much further it gets each time; a whole start is some 5,000 bytes."""


async def break_again_and_again(proxy: Proxy) -> None:
    for turn in range(RESETS):
        before = proxy.passed_bytes
        await until(lambda before=before, turn=turn: proxy.passed_bytes > before + turn * FURTHER_BYTES)
        proxy.reset()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[Proxy], ConsumerProcess]]:
    """Starts a consumer behind a proxy."""
    model = scripted_model(tmp_path)
    started: list[ConsumerProcess] = []

    def start(proxy: Proxy) -> ConsumerProcess:
        url = f"amqp://guest:guest@127.0.0.1:{proxy.port}/?heartbeat={HEARTBEAT_S}"
        log = tmp_path / f"log-{len(started)}"
        started.append(ConsumerProcess(url, tmp_path / "storage", model=model, log=log, settings={}))
        return started[-1]

    yield start
    for consumer in started:
        consumer.end()


async def test_a_consumer_that_loses_its_broker_while_it_starts_starts_again(
    rabbit: PrivateRabbit, start: Callable[[Proxy], ConsumerProcess]
) -> None:
    async with proxy_to(rabbit.port) as proxy:
        consumer = start(proxy)
        await break_again_and_again(proxy)
        await consumer.until_ready()
        assert await consumer.terminate() == 0, consumer.output


async def test_a_consumer_whose_broker_falls_silent_while_it_starts_waits_for_it(
    rabbit: PrivateRabbit, start: Callable[[Proxy], ConsumerProcess]
) -> None:
    """The library cancels who waits for a silent broker, which is not to be taken for being told to stop."""
    async with proxy_to(rabbit.port) as proxy:
        consumer = start(proxy)
        await until(lambda: proxy.passed_bytes > SILENT_AT_BYTES)
        proxy.fall_silent()
        accepted = proxy.accepted
        await until(lambda: proxy.accepted > accepted or consumer.process.poll() is not None)
        proxy.speak()
        await consumer.until_ready()
        assert await consumer.terminate() == 0, consumer.output


async def test_a_consumer_that_is_told_to_stop_while_its_broker_goes_stops(
    rabbit: PrivateRabbit, start: Callable[[Proxy], ConsumerProcess]
) -> None:
    async def stop_at(bytes_passed: int) -> None:
        async with proxy_to(rabbit.port) as proxy:
            consumer = start(proxy)
            await until(lambda: proxy.passed_bytes > bytes_passed)
            proxy.reset()
            assert await consumer.terminate() == 0, consumer.output

    await asyncio.gather(*map(stop_at, STOPS_AT_BYTES))
