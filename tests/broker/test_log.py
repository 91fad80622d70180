"""The log is read from exact offsets, and its end is known exactly."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import aio_pika
import pytest
from aio_pika.abc import AbstractConnection

from contracts import topology
from contracts.detections import Detection
from contracts.events import FrameDetected
from detections.rabbitmq import PrivateRabbit
from edge import log
from edge.broker import BrokerLostError
from tests.edge_server import WAIT_S, Publisher, listening, publishing, serving
from tests.events import new_task, report, reports

pytestmark = pytest.mark.broker


class Marks:
    """Puts markers into the log, and more events right behind each."""

    def __init__(self, publisher: Publisher, *, events_behind: int = 0) -> None:
        self._publisher = publisher
        self._events_behind = events_behind

    async def __call__(self, name: str) -> None:
        message = aio_pika.Message(name.encode(), type=topology.LOG_MARKER_TYPE)
        await self._publisher.channel.default_exchange.publish(message, topology.EVENTS_LOG)
        await self._publisher.events(*reports(new_task(), 1, self._events_behind))


@asynccontextmanager
async def an_empty_log(rabbit: PrivateRabbit) -> AsyncGenerator[tuple[Publisher, AbstractConnection]]:
    async with publishing(rabbit.url) as publisher, await aio_pika.connect(rabbit.url) as connection:
        await publisher.channel.queue_delete(topology.EVENTS_LOG)
        await topology.declare(publisher.channel)
        yield publisher, connection


async def test_the_head_of_an_empty_log_is_the_marker_itself(rabbit: PrivateRabbit) -> None:
    async with an_empty_log(rabbit) as (publisher, connection):
        assert await log.find_head(connection, Marks(publisher), prefetch=10) == 0


async def test_the_head_is_exact_among_many_events(rabbit: PrivateRabbit) -> None:
    async with an_empty_log(rabbit) as (publisher, connection):
        await publisher.events(*reports(new_task(), 1, 300))
        assert await log.find_head(connection, Marks(publisher, events_behind=20), prefetch=10) == 300
        assert await log.find_head(connection, Marks(publisher), prefetch=10) == 321


async def test_reading_begins_at_the_offset_and_keeps_the_order(rabbit: PrivateRabbit) -> None:
    task = new_task()
    async with an_empty_log(rabbit) as (publisher, connection):
        await publisher.events(*reports(task, 1, 200))
        async with log.reading(connection, 150, prefetch=7) as messages:
            read = [await anext(messages) for _ in range(50)]
    assert [message.offset for message in read] == list(range(150, 200))
    assert read[0].event == report(task, 151)


async def test_a_marker_and_garbage_are_no_events(rabbit: PrivateRabbit) -> None:
    async with an_empty_log(rabbit) as (publisher, connection):
        await Marks(publisher)("here")
        await publisher.message(b"{")
        async with log.reading(connection, 0, prefetch=10) as messages:
            marker, garbage = await anext(messages), await anext(messages)
    assert (marker.marker, marker.event) == ("here", None)
    assert (garbage.marker, garbage.event) == (None, None)


@pytest.mark.parametrize("how", ["connection", "queue"])
async def test_a_loss_is_noticed_by_whoever_waits(rabbit: PrivateRabbit, how: str) -> None:
    async with an_empty_log(rabbit) as (publisher, connection), log.reading(connection, 0, prefetch=10) as messages:
        waiting = asyncio.ensure_future(anext(messages))
        await asyncio.sleep(0.1)
        if how == "queue":
            await publisher.channel.queue_delete(topology.EVENTS_LOG)
        else:
            await asyncio.to_thread(rabbit.ctl, "close_all_connections", "--vhost", "/", "test")
        with pytest.raises(BrokerLostError):
            await asyncio.wait_for(waiting, WAIT_S)
    async with publishing(rabbit.url):
        pass


async def test_an_id_older_than_the_log_gives_a_gap_and_the_rest(rabbit: PrivateRabbit, tmp_path: Path) -> None:
    limit = '{"max-length-bytes":1000000}'
    await asyncio.to_thread(rabbit.ctl, "set_policy", "short", topology.EVENTS_LOG, limit, "--apply-to", "queues")
    try:
        async with an_empty_log(rabbit) as (publisher, _):
            await publisher.events(*(large_report(sequence) for sequence in range(1, 151)))
            async with (
                serving(rabbit.url, tmp_path, ring_events_max=5, log_window_events=5) as edge,
                listening(edge, last_event_id=3) as (stream, _),
            ):
                gap = await stream.event()
                following = await stream.event()
        assert gap.name == "gap"
        assert (gap.id or 0) > 3
        assert following.id == (gap.id or 0) + 1
    finally:
        await asyncio.to_thread(rabbit.ctl, "clear_policy", "short")


async def test_where_a_segment_of_the_log_begins_nothing_is_missed_and_no_loss_is_claimed(
    rabbit: PrivateRabbit, tmp_path: Path
) -> None:
    """The broker takes an offset there for itself; a listener that resumes at it goes on with the next event."""
    async with an_empty_log(rabbit) as (publisher, connection):
        await publisher.events(*(large_report(sequence) for sequence in range(1, 131)))
        async with log.reading(connection, 0, prefetch=10) as messages:
            offsets = [(await anext(messages)).offset for _ in range(130)]
        missing = sorted(set(range(offsets[-1])) - set(offsets))
        assert missing, "no segment has begun"
        async with serving(rabbit.url, tmp_path, ring_events_max=5, log_window_events=0) as edge:
            for offset in missing:
                async with listening(edge, last_event_id=offset - 1) as (stream, _):
                    following = await stream.event()
                assert (following.name, following.id) == (None, offset + 1)


def large_report(sequence: int) -> FrameDetected:
    """300 kB: a segment of the log is full after 50 of them."""
    seen = Detection(center_x=0, center_y=0, width=0, height=0, class_num=0, label="x" * 300_000, confidence=1)
    return FrameDetected(task_id=new_task(), media_id="m", sequence=sequence, annotations=[seen])
