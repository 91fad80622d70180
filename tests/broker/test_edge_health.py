"""An edge without a broker stays up, and says what is missing."""

import asyncio
from pathlib import Path
from typing import Any

import aio_pika
import httpx
import pytest

from contracts import topology
from contracts.events import ConsumerSeen, EngineStatus
from contracts.wire import encode
from detections.rabbitmq import PrivateRabbit, free_port
from tests.edge_server import WAIT_S, EdgeServer, listening, publishing, serving
from tests.events import new_task, reports

pytestmark = pytest.mark.broker

NOWHERE = "amqp://guest:guest@127.0.0.1:{}/"


async def get(edge: EdgeServer, path: str) -> httpx.Response:
    async with httpx.AsyncClient(timeout=WAIT_S, trust_env=False) as client:
        return await client.get(edge.url + path)


async def until_status(edge: EdgeServer, path: str, status: int) -> httpx.Response:
    async with asyncio.timeout(WAIT_S):
        while (answer := await get(edge, path)).status_code != status:
            await asyncio.sleep(0.05)
    return answer


async def until_unready_of(edge: EdgeServer, code: str) -> httpx.Response:
    """Until this is what is missing: each of the connections to the broker takes its own time."""
    async with asyncio.timeout(WAIT_S):
        while (answer := await get(edge, "/health/ready")).status_code == 200 or answer.json()["code"] != code:
            await asyncio.sleep(0.05)
    return answer


async def beat(amqp_url: str, consumer: ConsumerSeen) -> None:
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        exchange = await channel.get_exchange(topology.PRESENCE, ensure=False)
        await exchange.publish(aio_pika.Message(b"\xff no heartbeat"), "")
        await exchange.publish(aio_pika.Message(encode(consumer)), "")


async def test_an_edge_without_a_broker_is_alive_and_healthy_and_not_ready(tmp_path: Path) -> None:
    async with serving(NOWHERE.format(free_port()), tmp_path) as edge:
        assert (await get(edge, "/health/live")).status_code == 200
        health = await get(edge, "/health")
        ready = await get(edge, "/health/ready")
    assert health.json() == {
        "status": "healthy",
        "aiAvailability": "None",
        "engineType": None,
        "errorMessage": None,
        "consumers": [],
        "classColours": {},
    }
    assert ready.status_code == 503
    assert ready.headers["content-type"] == "application/problem+json"
    assert ready.json()["code"] == "broker_unavailable"


async def test_a_consumer_that_was_seen_makes_the_edge_ready_until_it_is_silent(
    rabbit: PrivateRabbit, tmp_path: Path
) -> None:
    consumer = ConsumerSeen(
        id="c1", host="h", engine_type="onnx", status=EngineStatus.ENABLED, model="m", tasks_running=2
    )
    async with serving(rabbit.url, tmp_path, presence_expiry_s=2.0) as edge, listening(edge):
        await until_unready_of(edge, "engine_unavailable")
        ready, seen = False, dict[str, Any]()
        async with asyncio.timeout(WAIT_S):
            while not (ready and seen["consumers"]):  # both before the heartbeat is forgotten
                await beat(rabbit.url, consumer)
                ready = (await get(edge, "/health/ready")).status_code == 200
                seen = (await get(edge, "/health")).json()
        await until_status(edge, "/health/ready", 503)
    assert seen["consumers"][0].pop("lastSeen").endswith("Z")
    assert seen == {
        "status": "healthy",
        "aiAvailability": "Enabled",
        "engineType": "onnx",
        "errorMessage": None,
        "consumers": [
            {
                "id": "c1",
                "host": "h",
                "engineType": "onnx",
                "aiAvailability": "Enabled",
                "errorMessage": None,
                "model": "m",
                "busy": True,
                "shots": None,
            }
        ],
        "classColours": {},
    }


async def test_a_missing_dead_letter_exchange_makes_the_edge_not_ready(rabbit: PrivateRabbit, tmp_path: Path) -> None:
    async with serving(rabbit.url, tmp_path) as edge, listening(edge), publishing(rabbit.url) as publisher:
        await until_unready_of(edge, "engine_unavailable")
        await publisher.channel.exchange_delete(topology.DEAD)
        answer = await until_unready_of(edge, "broker_unavailable")
        await topology.declare(publisher.channel)
    assert answer.status_code == 503
    assert topology.DEAD in answer.json()["detail"]


async def test_a_storage_that_takes_no_files_makes_the_edge_not_ready(rabbit: PrivateRabbit, tmp_path: Path) -> None:
    storage = tmp_path / "storage"
    async with serving(rabbit.url, storage) as edge, listening(edge):
        storage.rename(tmp_path / "elsewhere")
        answer = await until_unready_of(edge, "storage_unavailable")
    assert answer.status_code == 503


async def test_a_listener_that_came_before_the_broker_hears_what_happens_after(tmp_path: Path) -> None:
    node = PrivateRabbit(tmp_path / "rabbit")  # its port is known before it starts
    node.folder.mkdir()
    try:
        async with serving(node.url, tmp_path, stream_heartbeat_s=0.3, log_head_timeout_s=WAIT_S) as edge:
            opened = asyncio.create_task(_first_events(edge))
            await asyncio.to_thread(node.start)
            async with publishing(node.url) as publisher:
                while not opened.done():
                    await publisher.events(*reports(new_task(), 1, 1))
            assert await opened == [1]
    finally:
        node.kill()


async def _first_events(edge: EdgeServer) -> list[int]:
    async with listening(edge) as (stream, _):
        return [(await stream.event()).sequence]


async def test_the_openapi_document_describes_the_stream(tmp_path: Path) -> None:
    async with serving(NOWHERE.format(free_port()), tmp_path) as edge:
        document = (await get(edge, "/schema/openapi.json")).json()
    parameters = {parameter["name"] for parameter in document["paths"]["/detect/stream"]["get"]["parameters"]}
    assert parameters == {"taskId", "mediaId", "Last-Event-ID", "lastEventId", "ticket"}
    assert "/health/ready" in document["paths"]


async def test_an_unknown_path_is_a_problem(tmp_path: Path) -> None:
    async with serving(NOWHERE.format(free_port()), tmp_path) as edge:
        answer = await get(edge, "/nothing")
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")


async def test_an_edge_whose_disk_is_full_is_not_ready_and_says_so(rabbit: PrivateRabbit, tmp_path: Path) -> None:
    async with serving(rabbit.url, tmp_path, free_bytes_min=2**62) as edge, listening(edge):
        ready = await get(edge, "/health/ready")
    assert (ready.status_code, ready.json()["code"]) == (503, "storage_full")
