"""With authentication every listener sees its own events and nobody else's, from the ring and from the log, on any edge."""

import time
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import httpx
import pytest

from contracts.events import AnyEvent
from detections.rabbitmq import PrivateRabbit
from edge.jwts import LEEWAY_S
from tests.edge_server import WAIT_S, EdgeServer, listening, publishing, serving
from tests.events import new_task, report
from tests.signing import SHARED_KEY, bearer, token

pytestmark = pytest.mark.broker


def closed(rabbit: PrivateRabbit, storage: Path, **settings: object) -> AbstractAsyncContextManager[EdgeServer]:
    return serving(rabbit.url, storage, auth="jwt", jwt_key=SHARED_KEY, **settings)


async def ticket(edge: EdgeServer, user_id: str, **claims: object) -> str:
    async with httpx.AsyncClient(timeout=WAIT_S, trust_env=False) as client:
        answer = await client.post(f"{edge.url}/detect/stream/ticket", headers=bearer(user_id, **claims))
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json()["expiresIn"] == 30
    return answer.json()["ticket"]


async def status_of(edge: EdgeServer, *, headers: dict[str, str] | None = None, **query: str) -> int:
    """How a listener is greeted."""
    async with (
        httpx.AsyncClient(timeout=WAIT_S, trust_env=False) as client,
        client.stream("GET", f"{edge.url}/detect/stream", params=query, headers=headers) as answer,
    ):
        return answer.status_code


def mixed_events(task: str) -> list[AnyEvent]:
    """Of several owners; the last one is everybody's sign that all of it has been seen."""
    owners = ["bob", None, "ada", "bob", None, "ada"] * 5
    return [report(task, sequence, owner=owner) for sequence, owner in enumerate(owners, start=1)]


@pytest.mark.parametrize("ring_events_max", [10_000, 5])
async def test_each_listener_sees_its_own_on_any_edge(
    rabbit: PrivateRabbit, tmp_path: Path, ring_events_max: int
) -> None:
    task = new_task()
    async with (
        publishing(rabbit.url) as publisher,
        closed(rabbit, tmp_path, ring_events_max=ring_events_max) as first,
        closed(rabbit, tmp_path, ring_events_max=ring_events_max) as second,
    ):
        async with listening(first, token=token("ada")) as (_, opening):
            pass
        await publisher.events(*mixed_events(task))
        places = {"last_event_id": opening.id}
        async with (
            listening(first, token=token("ada"), **places) as (by_header, _),
            listening(second, ticket=await ticket(first, "ada"), **places) as (by_ticket, _),
            listening(second, token=token("bob"), taskId=task, **places) as (of_bob, _),
        ):
            seen = [[event.sequence for event in await stream.events(10)] for stream in (by_header, by_ticket, of_bob)]
    of_ada = [sequence for sequence in range(1, 31) if sequence % 3 == 0]
    assert seen[0] == seen[1] == of_ada
    assert seen[2] == [sequence for sequence in range(1, 31) if sequence % 3 == 1]


async def test_neither_a_task_id_nor_a_media_id_opens_somebody_else_s_events(
    rabbit: PrivateRabbit, tmp_path: Path
) -> None:
    theirs, mine = new_task(), new_task()
    async with (
        publishing(rabbit.url) as publisher,
        closed(rabbit, tmp_path) as edge,
        listening(edge, token=token("ada"), taskId=theirs) as (by_task, _),
        listening(edge, token=token("ada"), mediaId="m") as (by_medium, _),
    ):
        await publisher.events(
            report(theirs, 1, owner="bob", is_quiet=True, media_id="m"),
            report(theirs, 2, owner="bob", media_id="m"),
            report(theirs, 3, media_id="m"),
            report(theirs, 4, owner="ada", media_id="m"),
            report(mine, 1, owner="ada", media_id="m"),
        )
        assert (await by_task.event()).sequence == 4
        assert [event.sequence for event in await by_medium.events(2)] == [4, 1]


async def test_a_ticket_lets_one_listener_in_over_all_edges(rabbit: PrivateRabbit, tmp_path: Path) -> None:
    async with closed(rabbit, tmp_path) as first, closed(rabbit, tmp_path) as second:
        issued = await ticket(first, "ada")
        async with listening(second, ticket=issued):
            assert [await status_of(edge, ticket=issued) for edge in (first, second)] == [401, 401]
        assert await status_of(first) == 401
        assert await status_of(first, ticket="made up") == 401


async def test_whoever_cannot_set_a_header_resumes_by_the_address(rabbit: PrivateRabbit, tmp_path: Path) -> None:
    task = new_task()
    async with publishing(rabbit.url) as publisher, closed(rabbit, tmp_path) as edge:
        async with listening(edge, token=token("ada")) as (_, opening):
            await publisher.events(report(task, 1, owner="ada"))
        asked = {"ticket": await ticket(edge, "ada"), "lastEventId": str(opening.id)}
        async with listening(edge, **asked) as (stream, _):
            assert (await stream.event()).sequence == 1


async def test_a_stream_ends_with_its_token_says_so_and_is_not_opened_again_with_it(
    rabbit: PrivateRabbit, tmp_path: Path
) -> None:
    """The token has expired already, and is good for what is left of the minute by which clocks may differ."""
    async with closed(rabbit, tmp_path, stream_heartbeat_s=0.9) as edge:
        ends = {"exp": time.time() - LEEWAY_S + 8}
        async with (
            listening(edge, token=token("ada")) as (lasting, _),
            listening(edge, token=token("ada", **ends)) as (by_header, opening),
            listening(edge, ticket=await ticket(edge, "ada", **ends)) as (by_ticket, _),
        ):
            for stream in (by_header, by_ticket):
                event = await stream.event()
                assert (event.name, event.id) == ("expired", opening.id)
                with pytest.raises(EOFError):
                    await stream.block()
            assert (await lasting.block()).name is None
        assert await status_of(edge, headers=bearer("ada", **ends)) == 401
