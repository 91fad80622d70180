"""The stream of a real edge on a real broker: none lost, none twice."""

import asyncio
from pathlib import Path

import httpx
import msgspec
import pytest

from contracts import topology
from contracts.events import TaskProgressed
from detections.rabbitmq import PrivateRabbit
from tests.edge_server import WAIT_S, listening, publishing, serving
from tests.events import end, new_task, report, reports

pytestmark = pytest.mark.broker


async def test_a_listener_is_told_the_head_before_anything_happens(rabbit: PrivateRabbit, tmp_path: Path) -> None:
    async with publishing(rabbit.url) as publisher, serving(rabbit.url, tmp_path) as edge:
        await publisher.events(*reports(new_task(), 1, 3))
        async with listening(edge) as (stream, opening):
            task = new_task()
            await publisher.events(report(task, 1))
            event = await stream.event()
        assert opening.data is None
        assert opening.id is not None
        assert event.id == opening.id + 1


async def test_the_answer_is_an_event_stream_that_nobody_stores(rabbit: PrivateRabbit, tmp_path: Path) -> None:
    async with serving(rabbit.url, tmp_path) as edge, listening(edge) as (stream, _):
        headers = stream.response.headers
        assert headers["content-type"].startswith("text/event-stream")
        assert headers["cache-control"] == "no-store"
        assert headers["x-accel-buffering"] == "no"


async def test_a_drop_before_the_first_event_is_resumable(rabbit: PrivateRabbit, tmp_path: Path) -> None:
    task = new_task()
    async with publishing(rabbit.url) as publisher, serving(rabbit.url, tmp_path) as edge:
        async with listening(edge) as (_, opening):
            pass
        await publisher.events(*reports(task, 1, 5))
        async with listening(edge, last_event_id=opening.id) as (stream, _):
            assert [event.sequence for event in await stream.events(5)] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("ring_events_max", [10_000, 10])
async def test_a_reconnect_on_this_or_another_edge_continues_with_the_next_event(
    rabbit: PrivateRabbit, tmp_path: Path, ring_events_max: int
) -> None:
    task = new_task()
    async with (
        publishing(rabbit.url) as publisher,
        serving(rabbit.url, tmp_path, ring_events_max=ring_events_max) as first,
        serving(rabbit.url, tmp_path, ring_events_max=ring_events_max) as second,
    ):
        async with listening(first) as (stream, _):
            await publisher.events(*reports(task, 1, 30))
            seen = await stream.events(10)
        await publisher.events(*reports(task, 31, 100))
        async with listening(second, last_event_id=seen[-1].id) as (stream, _):
            seen += await stream.events(50)
        async with listening(first, last_event_id=seen[-1].id) as (stream, _):
            seen += await stream.events(40)
    assert [event.sequence for event in seen] == list(range(1, 101))


async def test_an_edge_that_started_later_resumes_a_listener_of_one_that_is_gone(
    rabbit: PrivateRabbit, tmp_path: Path
) -> None:
    task = new_task()
    async with publishing(rabbit.url) as publisher:
        async with serving(rabbit.url, tmp_path) as gone, listening(gone) as (stream, _):
            await publisher.events(*reports(task, 1, 20))
            seen = await stream.events(7)
        async with (
            serving(rabbit.url, tmp_path) as later,
            listening(later, last_event_id=seen[-1].id) as (stream, _),
        ):
            seen += await stream.events(13)
    assert [event.sequence for event in seen] == list(range(1, 21))


@pytest.mark.parametrize("away_s", [0.5, 6.0])
async def test_a_broker_connection_killed_midway_loses_nothing_and_repeats_nothing(
    rabbit: PrivateRabbit, tmp_path: Path, away_s: float
) -> None:
    """However long the edge is away, and although it would look back at nothing."""
    task = new_task()
    async with (
        serving(rabbit.url, tmp_path, log_window_events=0, broker_reconnect_s=away_s) as edge,
        listening(edge) as (stream, _),
    ):
        async with publishing(rabbit.url) as publisher:
            await publisher.events(*reports(task, 1, 50))
        seen = await stream.events(25)
        await asyncio.to_thread(rabbit.ctl, "close_all_connections", "--vhost", "/", "test")
        async with publishing(rabbit.url) as publisher:
            await publisher.events(*reports(task, 51, 100), end(task, 101))
        seen += await stream.events(76)
    assert [event.sequence for event in seen] == list(range(1, 102))


async def test_a_republished_event_is_shown_once_live_and_after_a_resume(rabbit: PrivateRabbit, tmp_path: Path) -> None:
    task = new_task()
    async with publishing(rabbit.url) as publisher, serving(rabbit.url, tmp_path, ring_events_max=4) as edge:
        async with listening(edge) as (stream, _):
            await publisher.events(*reports(task, 1, 6))
            seen = await stream.events(6)
        again = [report(task, sequence, epoch=2) for sequence in (5, 6, 7, 8)]
        await publisher.events(*again, report(task, 7, epoch=1), end(task, 9, epoch=2), end(task, 9, epoch=3))
        await publisher.events(*reports(new_task(), 1, 10))
        async with listening(edge, last_event_id=seen[-1].id, taskId=task) as (stream, _):
            seen += await stream.events(3)
        assert [event.sequence for event in seen] == list(range(1, 10))
        async with (
            serving(rabbit.url, tmp_path) as another,
            listening(another, last_event_id=seen[5].id) as (stream, _),
        ):
            assert [event.sequence for event in await stream.events(3)] == [7, 8, 9]
            assert (await stream.event()).sequence == 1


async def test_an_id_beyond_the_end_gives_a_gap_and_goes_on(rabbit: PrivateRabbit, tmp_path: Path) -> None:
    task = new_task()
    async with (
        publishing(rabbit.url) as publisher,
        serving(rabbit.url, tmp_path) as edge,
        listening(edge, last_event_id=10**15) as (stream, opening),
    ):
        assert opening.id == 10**15
        gap = await stream.event()
        await publisher.events(report(task, 1))
        event = await stream.event()
    assert (gap.name, event.name) == ("gap", None)
    assert gap.data is not None
    assert msgspec.json.decode(gap.data) == {"askedFor": str(10**15), "goesOnAfter": gap.id}
    assert event.id == (gap.id or 0) + 1


@pytest.mark.parametrize("garbage", ["yesterday", "-1", "1e3", "٣", "9" * 40])
async def test_an_id_that_is_none_of_ours_gives_a_gap(rabbit: PrivateRabbit, tmp_path: Path, garbage: str) -> None:
    async with serving(rabbit.url, tmp_path) as edge, httpx.AsyncClient(timeout=WAIT_S, trust_env=False) as client:
        headers = {"Last-Event-ID": garbage.encode()}
        async with client.stream("GET", f"{edge.url}/detect/stream", headers=headers) as response:
            async with asyncio.timeout(WAIT_S):
                text = await anext(response.aiter_text())
    assert response.status_code == 200
    assert "event: gap" in text


async def test_filters_let_through_what_was_asked_for(rabbit: PrivateRabbit, tmp_path: Path) -> None:
    mine, other, quiet = new_task(), new_task(), new_task()
    async with (
        publishing(rabbit.url) as publisher,
        serving(rabbit.url, tmp_path) as edge,
        listening(edge) as (everything, _),
        listening(edge, taskId=mine) as (of_task, _),
        listening(edge, mediaId="abc") as (of_medium, _),
        listening(edge, taskId=quiet) as (of_quiet, _),
    ):
        await publisher.events(
            report(quiet, 1, is_quiet=True, media_id="abc"),
            report(other, 1),
            report(mine, 1),
            report(mine, 2, media_id="abc"),
            report(other, 2),
            end(quiet, 2, is_quiet=True),
            end(mine, 3),
        )
        tasks = [msgspec.json.decode(event.data or "")["taskId"] for event in await everything.events(5)]
        assert tasks == [other, mine, mine, other, mine]
        assert [event.sequence for event in await of_task.events(3)] == [1, 2, 3]
        assert (await of_medium.event()).sequence == 2
        assert [event.sequence for event in await of_quiet.events(2)] == [1, 2]


async def test_silence_is_filled_with_comments_that_keep_the_place_fresh(rabbit: PrivateRabbit, tmp_path: Path) -> None:
    async with (
        publishing(rabbit.url) as publisher,
        serving(rabbit.url, tmp_path, stream_heartbeat_s=0.3) as edge,
        listening(edge, taskId=new_task()) as (stream, opening),
    ):
        await publisher.events(report(new_task(), 1))
        beat = await stream.block()
        while beat.id == opening.id:
            beat = await stream.block()
    assert beat.comment == "heartbeat"
    assert beat.data is None
    assert beat.id == (opening.id or 0) + 1


async def test_one_listener_too_many_is_refused(rabbit: PrivateRabbit, tmp_path: Path) -> None:
    async with (
        serving(rabbit.url, tmp_path, stream_listeners_max=1) as edge,
        httpx.AsyncClient(timeout=WAIT_S) as client,
    ):
        async with listening(edge):
            refused = await client.get(f"{edge.url}/detect/stream")
        assert refused.status_code == 503
        assert refused.headers["content-type"] == "application/problem+json"
        async with asyncio.timeout(WAIT_S):
            while True:  # the slot is free once the server has seen the first listener go
                async with client.stream("GET", f"{edge.url}/detect/stream") as response:
                    if response.status_code == 200:
                        break


async def test_one_listener_too_many_of_one_client_is_refused(rabbit: PrivateRabbit, tmp_path: Path) -> None:
    async with (
        serving(rabbit.url, tmp_path, listeners_per_client_max=1) as edge,
        httpx.AsyncClient() as client,
        listening(edge),
    ):
        refused = await client.get(f"{edge.url}/detect/stream")
    assert (refused.status_code, refused.json()["code"], refused.headers["retry-after"]) == (
        429,
        "too_many_requests",
        "5",
    )


async def test_a_filter_that_is_no_task_id_is_refused(rabbit: PrivateRabbit, tmp_path: Path) -> None:
    async with serving(rabbit.url, tmp_path) as edge, httpx.AsyncClient(timeout=WAIT_S) as client:
        for query in ("taskId=../../etc", "mediaId=" + "a" * 200):
            assert (await client.get(f"{edge.url}/detect/stream?{query}")).status_code == 400


async def test_what_nobody_can_read_is_skipped(rabbit: PrivateRabbit, tmp_path: Path) -> None:
    task = new_task()
    async with (
        publishing(rabbit.url) as publisher,
        serving(rabbit.url, tmp_path) as edge,
        listening(edge) as (stream, _),
    ):
        await publisher.message(b"\xff not json")
        await publisher.message(b'{"type":"FromTheFuture","version":9}')
        await publisher.events(TaskProgressed(task_id=task, media_id=task, percent=3), report(task, 1))
        progressed, reported = await stream.events(2)
    assert msgspec.json.decode(progressed.data or "")["mediaPercent"] == 3
    assert reported.sequence == 1


async def test_an_edge_started_before_its_broker_topology_survives_a_deleted_log(
    rabbit: PrivateRabbit, tmp_path: Path
) -> None:
    async with (
        publishing(rabbit.url) as publisher,
        serving(rabbit.url, tmp_path) as edge,
        listening(edge) as (stream, _),
    ):
        await publisher.events(*reports(new_task(), 1, 20))
        last = (await stream.events(20))[-1]
        await asyncio.to_thread(rabbit.ctl, "delete_queue", topology.EVENTS_LOG)
        gap = await stream.event()
        assert gap.name == "gap"
        assert (gap.id or 0) < (last.id or 0)
        await publisher.events(report(new_task(), 1))
        assert (await stream.event()).id == (gap.id or 0) + 1
