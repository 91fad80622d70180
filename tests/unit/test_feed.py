"""The feed without a broker: messages of the log go in by hand."""

import asyncio

import pytest

from contracts.failures import Failure, FailureCode
from edge.feed import Feed
from edge.log import Logged
from edge.settings import EdgeSettings
from tests.events import end, logged, new_task, report, reports


class Log:
    """A log whose end is wherever the test says; a marker is seen at once."""

    def __init__(self, **settings: int) -> None:
        self.feed = Feed(EdgeSettings(**settings), self._mark)
        self.marks = 0
        self.feed.ring.restart(0)

    async def _mark(self, name: str) -> None:
        self.marks += 1
        self.feed.take(Logged(self.feed.ring.next, marker=name))

    def add(self, *events: object) -> None:
        for message in logged(self.feed.ring.next, *events):
            self.feed.take(message)


async def test_a_task_is_heard_from_the_moment_of_asking_quiet_or_not() -> None:
    log, task = Log(), new_task()
    log.add(report(task, 1))
    with log.feed.listen_to_task(task) as events:
        log.add(report(task, 2, is_quiet=True), report(new_task(), 7), end(task, 3))
        heard = [await anext(events), await anext(events)]
    assert heard == [report(task, 2, is_quiet=True), end(task, 3)]


async def test_everybody_who_waits_for_a_task_hears_it_and_only_once() -> None:
    log, task = Log(), new_task()
    with log.feed.listen_to_task(task) as one, log.feed.listen_to_task(task) as two:
        log.add(report(task, 1), report(task, 1, epoch=2), report(task, 2, epoch=2))
        assert [(await anext(each)).epoch for each in (one, two, one, two)] == [1, 1, 2, 2]


async def test_a_task_that_nobody_waits_for_any_more_is_not_kept() -> None:
    log, task = Log(task_backlog_events_max=1), new_task()
    with log.feed.listen_to_task(task) as events:
        pass
    log.add(*reports(task, 1, 5))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(anext(events), 0.01)


async def test_a_backlog_that_is_full_ends_the_wait_instead_of_losing_an_event() -> None:
    log, task = Log(task_backlog_events_max=2), new_task()
    with log.feed.listen_to_task(task) as events:
        log.add(*reports(task, 1, 3))
        assert [await anext(events), await anext(events)] == reports(task, 1, 2)
        with pytest.raises(Failure) as failed:
            await anext(events)
    assert failed.value.code is FailureCode.INTERNAL


async def test_a_message_read_again_after_a_reconnect_is_not_shown_again() -> None:
    log, task = Log(), new_task()
    messages = logged(0, *reports(task, 1, 4))
    with log.feed.listen_to_task(task) as events:
        for message in [*messages, *messages[2:]]:
            log.feed.take(message)
        assert [(await anext(events)).sequence for _ in range(4)] == [1, 2, 3, 4]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(events), 0.01)
    assert log.feed.head == 3


async def test_whoever_waits_for_a_change_is_woken_by_an_event_and_by_the_end() -> None:
    log = Log()
    waiting = asyncio.ensure_future(log.feed.changed())
    await asyncio.sleep(0)
    log.add(report(new_task(), 1))
    await asyncio.wait_for(waiting, 60)
    waiting = asyncio.ensure_future(log.feed.changed())
    await asyncio.sleep(0)
    log.feed.close()
    await asyncio.wait_for(waiting, 60)


async def test_an_offset_that_was_read_is_reached_without_asking() -> None:
    log = Log()
    log.add(*reports(new_task(), 1, 3))
    assert await log.feed.reaches(2)
    assert log.marks == 0


async def test_those_who_ask_for_the_end_together_share_one_marker() -> None:
    log = Log()
    answers = await asyncio.gather(log.feed.reaches(0), log.feed.reaches(10), log.feed.reaches(99))
    assert (answers, log.marks) == ([True, False, False], 1)


async def test_an_end_that_cannot_be_asked_for_is_no_answer() -> None:
    async def no_broker(_: str) -> None:
        raise Failure(FailureCode.BROKER_UNAVAILABLE, "away")

    feed = Feed(EdgeSettings(), no_broker)
    with pytest.raises(Failure):
        await feed.reaches(10)
