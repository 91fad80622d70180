"""An engine that goes away in the middle of a task: the task waits for it, a while, and nobody sees a thing twice."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from consumers import absence
from contracts.detections import Counts
from contracts.failures import Failure, FailureCode
from contracts.results import Checkpoint
from tests.broker.consumer_stage import scripted_model
from tests.unit.test_consumer_detect import Consumer, failure_code, finished_video, only_end, picture, seen

FOREVER = 1_000_000


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(absence, "RETRY_PERIOD_S", 0.0)


async def consumer_of(folder: Path, **script: object) -> AsyncIterator[Consumer]:
    made = Consumer(folder, model=scripted_model(folder, **script))
    yield made
    made.close()


@pytest.fixture
async def absent_once(tmp_path: Path) -> AsyncIterator[Consumer]:
    async for made in consumer_of(tmp_path, away=[5, 8]):
        yield made


@pytest.fixture
async def absent_for_good(tmp_path: Path) -> AsyncIterator[Consumer]:
    async for made in consumer_of(tmp_path, away=[5, FOREVER]):
        yield made


async def test_a_video_goes_on_where_it_was_when_the_engine_is_back(absent_once: Consumer) -> None:
    await absent_once.take(finished_video(absent_once, frames=12))

    reports, end = absent_once.broker.reports, only_end(absent_once.broker)
    assert [report.sequence for report in reports] == list(range(1, 13))
    assert [report.frame_index for report in reports] == list(range(12))
    assert end.failure is None
    assert end.counts == Counts(decoded=12, sampled=12, inferred=12, reported=12)


async def test_an_engine_that_stays_away_ends_a_video_with_what_was_seen(
    absent_for_good: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(absence, "AWAY_MAX_S", 0.05)

    await absent_for_good.take(finished_video(absent_for_good, frames=12))

    end = only_end(absent_for_good.broker)
    assert failure_code(end) is FailureCode.ENGINE_UNAVAILABLE
    assert [report.sequence for report in absent_for_good.broker.reports] == [1, 2, 3, 4]
    assert (end.sequence, end.counts.inferred, end.counts.failed) == (5, 4, 0)


def test_the_way_to_where_a_task_was_left_is_no_absence() -> None:
    now_s = 0.0
    waited = absence.Absence(now_s=lambda: now_s)
    away = Failure(FailureCode.ENGINE_UNAVAILABLE, "the server restarts")

    now_s = absence.AWAY_MAX_S * 10
    assert waited.is_outlasted(away, reached=None)
    now_s += absence.AWAY_MAX_S - 1
    assert waited.is_outlasted(away, reached=None)
    now_s += 1
    assert not waited.is_outlasted(away, reached=None)
    assert waited.is_outlasted(away, reached=Checkpoint(frame_index=1, at_s=0.1, counts=Counts(), sequence=0))


async def test_a_task_that_waits_for_the_engine_can_be_cancelled(
    absent_for_good: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(absence, "RETRY_PERIOD_S", 600.0)
    command = finished_video(absent_for_good, frames=12)
    task = asyncio.create_task(absent_for_good.take(command))
    await seen(absent_for_good.broker, 4)

    absent_for_good.detecting.cancel(command.task_id)

    await asyncio.wait_for(task, timeout=60)
    assert failure_code(only_end(absent_for_good.broker)) is FailureCode.CANCELLED


async def test_who_waits_for_a_picture_is_told_at_once_that_the_engine_is_away(tmp_path: Path) -> None:
    async for consumer in consumer_of(tmp_path, away=[1, FOREVER]):
        await consumer.take(picture(consumer, is_quiet=True))

        assert failure_code(only_end(consumer.broker)) is FailureCode.ENGINE_UNAVAILABLE
