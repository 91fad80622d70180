"""What `detections top` hears of a real broker, when it is cut off, and what it may not hear."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from urllib.parse import quote

import aio_pika
import httpx
import pytest

from contracts import topology
from contracts.commands import DetectVideo
from contracts.events import ConsumerSeen, EngineStatus, TaskProgressed
from contracts.media import Medium, MediumKind
from contracts.wire import encode
from detections.broker_setup import declare, virtual_host
from detections.management import Management, address_of
from detections.rabbitmq import PrivateRabbit, free_port
from detections.top_board import Board
from detections.top_listening import listen
from tests.events import new_task
from tests.processes import WAIT_S
from tests.virtual_hosts import as_administrator

pytestmark = pytest.mark.broker

CONSUMER = ConsumerSeen(id="host:1:x", host="host", engine_type="onnx", status=EngineStatus.ENABLED, model="cars")
TASK_ID = new_task()


@pytest.fixture(scope="module")
def amqp_url(new_host: Callable[[], dict[str, str]]) -> str:
    url = as_administrator(new_host()["AMQP_URL"])
    declare(url)
    return url


async def until(is_so: Callable[[], object]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not is_so():
            await asyncio.sleep(0.05)


@asynccontextmanager
async def talking(amqp_url: str) -> AsyncGenerator[None]:
    """A consumer that works on a task and says so, as often as nobody does in earnest."""

    async def talk(channel: aio_pika.abc.AbstractChannel) -> None:
        presence, events = [await channel.get_exchange(name) for name in (topology.PRESENCE, topology.EVENTS)]
        while True:
            await presence.publish(aio_pika.Message(b"not readable"), "")
            await presence.publish(aio_pika.Message(encode(CONSUMER)), "")
            told = TaskProgressed(task_id=TASK_ID, media_id=TASK_ID, percent=40)
            await events.publish(aio_pika.Message(encode(told)), topology.event_key(told))
            await asyncio.sleep(0.1)

    async with await aio_pika.connect(amqp_url) as connection:
        talker = asyncio.create_task(talk(await connection.channel()))
        try:
            yield
        finally:
            talker.cancel()
            await asyncio.gather(talker, return_exceptions=True)


@asynccontextmanager
async def listening(amqp_url: str, rabbit: PrivateRabbit) -> AsyncGenerator[Board]:
    board = Board()
    management = Management(address_of(amqp_url, rabbit.management_url), virtual_host=virtual_host(amqp_url))
    ears = asyncio.create_task(listen(board, amqp_url, management))
    try:
        yield board
    finally:
        ears.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await ears
        await management.close()


def managed(rabbit: PrivateRabbit) -> httpx.Client:
    auth = ("guest", "guest")
    return httpx.Client(base_url=rabbit.management_url or "", auth=auth, timeout=WAIT_S, trust_env=False)


async def test_consumers_tasks_and_queues_are_heard(amqp_url: str, rabbit: PrivateRabbit) -> None:
    medium = Medium(root="storage", path="x", kind=MediumKind.VIDEO)
    command = DetectVideo(task_id=TASK_ID, medium=medium)
    async with await aio_pika.connect(amqp_url) as connection:
        exchange = await (await connection.channel()).get_exchange(topology.COMMANDS)
        await exchange.publish(aio_pika.Message(encode(command)), topology.command_key(command))

    async with talking(amqp_url), listening(amqp_url, rabbit) as board:
        await until(lambda: board.consumers and board.tasks)
        await until(lambda: [queue for queue in board.queues if queue.messages_ready == 1])
        (waiting,) = [queue for queue in board.queues if queue.messages_ready == 1]
        assert waiting.name == topology.VIDEO_COMMANDS
        assert board.consumers == [CONSUMER]
        assert [(task.task_id, task.percent) for task in board.tasks] == [(TASK_ID, 40)]
        assert board.rates.progress > 0
        assert board.troubles == {}


async def test_of_a_cluster_it_hears_the_node_that_is_there(amqp_url: str, rabbit: PrivateRabbit) -> None:
    away = amqp_url.replace(f":{rabbit.port}/", f":{free_port()}/")
    async with talking(amqp_url), listening(f"{away},{amqp_url}", rabbit) as board:
        await until(lambda: board.consumers)


async def test_a_lost_connection_is_said_and_comes_back(amqp_url: str, rabbit: PrivateRabbit) -> None:
    async with listening(amqp_url, rabbit) as board, talking(amqp_url):
        await until(lambda: board.consumers)
        ours: list[str] = []

        def is_listed() -> bool:
            with managed(rabbit) as management:
                listed = management.get(f"/api/vhosts/{quote(virtual_host(amqp_url))}/connections").json()
            ours.extend(
                one["name"] for one in listed if one["client_properties"].get("connection_name") == "detections top"
            )
            return bool(ours)

        await until(is_listed)
        with managed(rabbit) as management:
            for name in ours:
                management.delete(f"/api/connections/{quote(name, safe='')}")
        await until(lambda: "broker" in board.troubles)
        board._consumers.clear()
        await until(lambda: board.troubles == {} and board.consumers)


async def test_what_may_not_be_heard_is_said_and_the_rest_is_shown(amqp_url: str, rabbit: PrivateRabbit) -> None:
    user, host = f"user-{secrets.token_hex(4)}", virtual_host(amqp_url)
    own = f"^{topology.PRESENCE}.*"
    with managed(rabbit) as management:
        management.put(f"/api/users/{user}", json={"password": "p", "tags": ""}).raise_for_status()
        rights = {"configure": own, "write": own, "read": own}
        management.put(f"/api/permissions/{quote(host)}/{user}", json=rights).raise_for_status()
    theirs = amqp_url.replace("guest:guest", f"{user}:p")

    async with talking(amqp_url), listening(theirs, rabbit) as board:
        await until(lambda: board.consumers)
        await until(lambda: {topology.EVENTS, "management"} <= board.troubles.keys())
        assert "ACCESS_REFUSED" in board.troubles[topology.EVENTS]
        assert "refuses the user" in board.troubles["management"]
        assert board.tasks == []
