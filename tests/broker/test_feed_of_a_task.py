"""Who waits for one task hears it while connections come and go."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from detections.rabbitmq import PrivateRabbit
from edge.broker import keep_connected
from edge.feed import Feed
from edge.outbox import Outbox
from edge.settings import EdgeSettings
from tests.edge_server import WAIT_S, publishing
from tests.events import end, new_task, report, reports

pytestmark = pytest.mark.broker


@asynccontextmanager
async def feed_on(rabbit: PrivateRabbit, *, away_s: float = 0.5) -> AsyncGenerator[Feed]:
    """A feed that has read the log to its end; a connection that it lost stays away for so long."""
    made = EdgeSettings(amqp_url=rabbit.url)
    outbox = Outbox(made)
    feed = Feed(EdgeSettings(amqp_url=rabbit.url, broker_reconnect_s=away_s, log_window_events=0), outbox.mark_log)
    keep = [
        asyncio.create_task(keep_connected(made, "publish", outbox.serve)),
        asyncio.create_task(
            keep_connected(EdgeSettings(amqp_url=rabbit.url, broker_reconnect_s=away_s), "log", feed.serve)
        ),
    ]
    try:
        async with asyncio.timeout(WAIT_S):
            while not feed.is_live:
                await asyncio.sleep(0.01)
        yield feed
    finally:
        for task in keep:
            task.cancel()
        await asyncio.gather(*keep, return_exceptions=True)


@pytest.mark.parametrize("away_s", [0.5, 6.0])
async def test_an_answer_published_while_the_edge_was_away_is_heard(rabbit: PrivateRabbit, away_s: float) -> None:
    task = new_task()
    async with publishing(rabbit.url), feed_on(rabbit, away_s=away_s) as feed:
        with feed.listen_to_task(task) as events:
            async with publishing(rabbit.url) as publisher:
                await publisher.events(*reports(task, 1, 3))
                heard = [await anext(events) for _ in range(3)]
            await asyncio.to_thread(rabbit.ctl, "close_all_connections", "--vhost", "/", "test")
            async with publishing(rabbit.url) as publisher, asyncio.timeout(WAIT_S):
                await publisher.events(*reports(task, 2, 5), end(task, 6))
                heard += [await anext(events) for _ in range(3)]
    assert heard == [*reports(task, 1, 5), end(task, 6)]


async def test_an_event_is_heard_within_milliseconds(rabbit: PrivateRabbit) -> None:
    task, took_s = new_task(), list[float]()
    async with publishing(rabbit.url) as publisher, feed_on(rabbit) as feed:
        with feed.listen_to_task(task) as events:
            for sequence in range(1, 31):
                started_s = time.perf_counter()
                await publisher.events(report(task, sequence))
                await anext(events)
                took_s.append(time.perf_counter() - started_s)
    assert min(took_s) < 0.1, "nobody looks only now and then"
