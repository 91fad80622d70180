"""What a consumer does when the broker is not as it left it: it believes in a connection that is gone, or lost a part."""

import asyncio
from pathlib import Path

import pytest

from contracts import topology
from contracts.commands import DetectVideo
from contracts.failures import FailureCode
from contracts.media import Medium, MediumKind
from contracts.results import latest_epoch
from detections.rabbitmq import PrivateRabbit
from tests.broker.consumer_stage import ConsumerProcess, Stage, new_task_id, scripted_model, stage, until
from tests.broker.test_consumers_video import half_seen
from tests.fault.proxy import proxy_to

pytestmark = pytest.mark.broker

SOON_S = 45.0
"""Less than `BELIEVED_S`: what waits for the broker to give its belief up comes later."""
BELIEVED_S = 60
"""How long the broker believes in a connection from which it hears nothing, at least."""
COMMANDS = 20
"""More than the broker sends to the connection that is gone."""


async def work(on: Stage) -> None:
    """Return when a command has come to its end."""
    command = DetectVideo(task_id=new_task_id(), medium=Medium(root="storage", path="none.mp4", kind=MediumKind.VIDEO))
    await on.command(command)
    async with asyncio.timeout(SOON_S):
        end = await on.end_of(command.task_id)
    assert end.failure is not None
    assert end.failure.code is FailureCode.MEDIUM_MISSING


async def test_a_consumer_works_on_while_the_broker_still_believes_in_its_connection_before(
    rabbit: PrivateRabbit, tmp_path: Path
) -> None:
    async with proxy_to(rabbit.port) as proxy, stage(rabbit.url, tmp_path) as on:
        on.url = f"amqp://guest:guest@127.0.0.1:{proxy.port}/?heartbeat={BELIEVED_S // 2}"
        await on.consumer(model=scripted_model(tmp_path)).until_ready()
        proxy.lose_clients()
        works = [asyncio.create_task(work(on)) for _ in range(COMMANDS)]
        done, _ = await asyncio.wait(works, timeout=SOON_S, return_when=asyncio.FIRST_COMPLETED)
        for each in works:
            each.cancel()
        await asyncio.gather(*works, return_exceptions=True)
        assert done
        await next(iter(done))


async def test_a_consumer_whose_virtual_host_is_not_there_says_so_and_not_at_each_try(
    rabbit: PrivateRabbit, tmp_path: Path
) -> None:
    model, log = scripted_model(tmp_path), tmp_path / "log"
    consumer = ConsumerProcess(f"{rabbit.url}nowhere", tmp_path / "storage", model=model, log=log, settings={})
    try:
        await until(lambda: len(consumer.output.splitlines()) > 1)
        await asyncio.sleep(4)
        starting, *refused = consumer.output.splitlines()
    finally:
        consumer.end()
    assert '"starting"' in starting
    assert len(refused) <= 2, "by each of the two names that the library has for an address"
    assert all("virtual host" in line for line in refused)


async def test_a_consumer_that_loses_its_broker_logs_no_errors(rabbit: PrivateRabbit, tmp_path: Path) -> None:
    async with proxy_to(rabbit.port) as proxy, stage(rabbit.url, tmp_path) as on:
        on.url = f"amqp://guest:guest@127.0.0.1:{proxy.port}/"
        consumer = on.consumer(model=scripted_model(tmp_path))
        await consumer.until_ready()
        proxy.reset()
        await until(lambda: "connected to the broker again" in consumer.output)
        await work(on)
    assert '"level": "error"' not in consumer.output


@pytest.mark.soak
async def test_a_video_outlives_more_lost_connections_than_a_broker_gives_a_message_out(
    rabbit: PrivateRabbit, tmp_path: Path
) -> None:
    async with proxy_to(rabbit.port) as proxy, stage(rabbit.url, tmp_path) as on:
        on.url = f"amqp://guest:guest@127.0.0.1:{proxy.port}/"
        await on.consumer(model=scripted_model(tmp_path)).until_ready()
        task_id, rest = await half_seen(on)
        for _ in range(topology.DELIVERY_LIMIT + 2):
            await asyncio.sleep(0.5)
            epoch = latest_epoch(on.layout, task_id)
            proxy.reset()
            await until(lambda epoch=epoch: latest_epoch(on.layout, task_id) > epoch or bool(on.dead_letters))
        rest()
        end = await on.end_of(task_id)
    assert on.dead_letters == []
    assert end.failure is None


async def test_a_consumer_creates_an_exchange_again_that_went_missing(rabbit: PrivateRabbit, tmp_path: Path) -> None:
    async with stage(rabbit.url, tmp_path) as on:
        await on.consumer(model=scripted_model(tmp_path)).until_ready()
        await work(on)
        await on.delete_exchange(topology.EVENTS)
        await work(on)
