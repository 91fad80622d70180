"""What a listener is sent while its place is in the ring (the log itself: tests/broker)."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from edge.feed import TICKS_PER_HEARTBEAT
from edge.listener import Listener
from edge.replay import Replay
from edge.ring import Wanted
from edge.settings import EdgeSettings
from tests.events import new_task, report, reports
from tests.unit.test_feed import Log

WAIT_S = 5.0


class LiveLog(Log):
    """A log that has been read to its end, and its listeners."""

    def __init__(self, **settings: int) -> None:
        super().__init__(**settings)
        self.settings = EdgeSettings(**settings)
        self.feed._head_at_start = -1
        self.now_s = 1_000.0

    def listen(
        self, last_event_id: str | None = None, *, until_s: float | None = None, **wanted: str
    ) -> AsyncGenerator[bytes, None]:
        listener = Listener(
            self.feed,
            Replay(self.settings),
            Wanted(**wanted),
            send_bytes_max=self.settings.stream_send_bytes_max,
            until_s=until_s,
            clock_s=lambda: self.now_s,
        )
        return listener.events(last_event_id)

    def tick(self) -> None:
        self.feed.ticks += 1
        self.feed._wake()


async def sent(listener: AsyncGenerator[bytes, None]) -> bytes:
    return await asyncio.wait_for(anext(listener), WAIT_S)


async def test_the_first_thing_is_the_head_without_data() -> None:
    log = LiveLog()
    log.add(*reports(new_task(), 1, 5))
    assert await sent(log.listen()) == b"retry: 1000\nid: 4\n\n"


async def test_events_of_before_are_not_shown_to_who_listens_live() -> None:
    log = LiveLog()
    log.add(*reports(new_task(), 1, 5))
    listener = log.listen()
    await sent(listener)
    log.add(report(new_task(), 77))
    text = await sent(listener)
    assert text.startswith(b"id: 5\ndata: {")
    assert b'"sequence":77' in text


async def test_a_resumed_listener_gets_what_it_missed_in_one_send() -> None:
    log = LiveLog()
    log.add(*reports(new_task(), 1, 5))
    listener = log.listen("1")
    assert await sent(listener) == b"retry: 1000\nid: 1\n\n"
    assert (await sent(listener)).count(b"\ndata: ") == 3


async def test_an_empty_id_means_live() -> None:
    log = LiveLog()
    log.add(report(new_task(), 1))
    assert await sent(log.listen("")) == b"retry: 1000\nid: 0\n\n"


@pytest.mark.parametrize("garbage", ["x", "-1", "+1", "1.0", "²", "1" * 19])
async def test_what_is_no_offset_gives_a_gap(garbage: str) -> None:
    log = LiveLog()
    log.add(report(new_task(), 1))
    text = (await sent(log.listen(garbage))).decode()
    assert text == f'retry: 1000\nevent: gap\nid: 0\ndata: {{"askedFor":"{garbage}","goesOnAfter":0}}\n\n'


async def test_an_offset_beyond_the_end_gives_a_gap_once_the_end_is_sure() -> None:
    log = LiveLog()
    listener = log.listen("50")
    await sent(listener)
    assert await sent(listener) == b'event: gap\nid: 0\ndata: {"askedFor":"50","goesOnAfter":0}\n\n'
    log.add(report(new_task(), 1))
    assert (await sent(listener)).startswith(b"id: 1\n")


async def test_another_edge_may_be_ahead_of_this_one() -> None:
    log = LiveLog()
    listener = log.listen("2")
    await sent(listener)
    following = asyncio.ensure_future(sent(listener))
    await asyncio.sleep(0)
    log.add(*reports(new_task(), 1, 4))
    assert (await following).startswith(b"id: 3\n")


async def test_silence_is_broken_before_the_heartbeat_is_due() -> None:
    log = LiveLog()
    listener = log.listen()
    await sent(listener)
    beat = asyncio.ensure_future(sent(listener))
    for tick in range(TICKS_PER_HEARTBEAT - 1):
        await asyncio.sleep(0)
        assert not beat.done(), tick
        log.tick()
    assert await beat == b": heartbeat\nid: -1\n\n"


async def test_before_the_log_is_read_there_are_only_comments() -> None:
    log = LiveLog()
    log.feed._head_at_start = None
    listener = log.listen()
    first = asyncio.ensure_future(sent(listener))
    for _ in range(TICKS_PER_HEARTBEAT):
        await asyncio.sleep(0)
        log.tick()
    assert (await first).startswith(b": ")
    log.feed._head_at_start = -1
    log.tick()
    assert await sent(listener) == b"retry: 1000\nid: -1\n\n"


async def test_a_listener_ends_when_the_edge_stops_and_is_counted_until_then() -> None:
    log = LiveLog()
    listener = log.listen()
    await sent(listener)
    assert log.feed.listeners == 1
    last = asyncio.ensure_future(anext(listener, None))
    await asyncio.sleep(0)
    log.feed.close()
    assert await asyncio.wait_for(last, WAIT_S) is None
    assert log.feed.listeners == 0


async def test_a_listener_that_leaves_is_not_counted_any_more() -> None:
    log = LiveLog()
    listener = log.listen()
    await sent(listener)
    await listener.aclose()
    assert log.feed.listeners == 0


async def test_an_unreachable_log_keeps_the_listener_waiting_with_heartbeats() -> None:
    log = LiveLog(ring_events_max=1)
    log.add(*reports(new_task(), 1, 5))
    listener = log.listen("0")
    await sent(listener)
    beat = asyncio.ensure_future(sent(listener))
    for _ in range(TICKS_PER_HEARTBEAT):
        log.tick()
    assert await beat == b": heartbeat\nid: 0\n\n"
    await listener.aclose()


async def test_a_filter_that_lets_nothing_through_still_moves_the_place() -> None:
    log = LiveLog()
    listener = log.listen(task_id=new_task())
    await sent(listener)
    beat = asyncio.ensure_future(sent(listener))
    log.add(*reports(new_task(), 1, 5))
    for _ in range(TICKS_PER_HEARTBEAT):
        await asyncio.sleep(0)
        log.tick()
    assert await beat == b": heartbeat\nid: 4\n\n"


async def test_a_listener_is_let_go_at_its_time_told_why_and_where_it_stands() -> None:
    log = LiveLog()
    listener = log.listen(until_s=1_060.0)
    await sent(listener)
    log.now_s = 1_059.9
    log.add(report(new_task(), 1))
    assert (await sent(listener)).startswith(b"id: 0\ndata: {")
    log.now_s = 1_060.0
    log.add(report(new_task(), 2))
    assert await sent(listener) == b"event: expired\nid: 0\ndata: {}\n\n"
    with pytest.raises(StopAsyncIteration):
        await sent(listener)
    assert log.feed.listeners == 0


async def test_a_listener_to_whom_nothing_happens_is_let_go_at_the_next_tick() -> None:
    log = LiveLog()
    listener = log.listen(until_s=1_060.0)
    await sent(listener)
    waiting = asyncio.ensure_future(sent(listener))
    await asyncio.sleep(0)
    log.now_s = 1_061.0
    assert not waiting.done()
    log.tick()
    assert (await waiting).startswith(b"event: expired\n")


async def test_a_listener_is_let_go_at_its_time_also_while_the_log_is_not_read() -> None:
    log = LiveLog()
    log.feed._head_at_start = None
    listener = log.listen(until_s=1_060.0)
    waiting = asyncio.ensure_future(sent(listener))
    await asyncio.sleep(0)
    log.now_s = 1_061.0
    log.tick()
    assert (await waiting).startswith(b"retry: ")
    assert (await sent(listener)).startswith(b"event: expired\n")
