"""Our users on a real broker: what each may do works, and what it need not do is refused."""

import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import aio_pika
import httpx
import msgspec
import pytest
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from aio_pika.exceptions import AMQPConnectionError, ChannelNotFoundEntity
from aiormq.exceptions import ChannelAccessRefused

from contracts import topology
from detections.broker_definitions import Account, Permission, definitions, document
from detections.broker_users import CONSUMER, EDGE, NOTHING, OPERATOR, PUBLISHER, USERS, User, password_hash
from detections.rabbitmq import PrivateRabbit
from tests.processes import WAIT_S
from tests.virtual_hosts import as_user, new_virtual_host

pytestmark = pytest.mark.broker

Action = Callable[[AbstractChannel], Awaitable[object]]


@pytest.fixture(scope="module")
def host(rabbit: PrivateRabbit) -> str:
    """The administrator's URL of a virtual host that was set up from the definitions."""
    return new_virtual_host(rabbit)


@asynccontextmanager
async def channel_at(url: str) -> AsyncGenerator[AbstractChannel]:
    async with await aio_pika.connect(url) as connection:
        yield await connection.channel(on_return_raises=True)


def management_of(rabbit: PrivateRabbit) -> httpx.AsyncClient:
    address = f"{rabbit.management_url}/api"
    return httpx.AsyncClient(base_url=address, auth=("guest", "guest"), timeout=WAIT_S, trust_env=False)


async def ignore(_: AbstractIncomingMessage) -> None:
    """Whether it may come is the question."""


def publish(exchange: str, key: str = "") -> Action:
    async def act(channel: AbstractChannel) -> None:
        target = await channel.get_exchange(exchange, ensure=False) if exchange else channel.default_exchange
        await target.publish(aio_pika.Message(b"{}", delivery_mode=2), key)

    return act


def get(queue: str) -> Action:
    async def act(channel: AbstractChannel) -> None:
        await (await channel.get_queue(queue, ensure=False)).get(fail=False)

    return act


async def read_log(channel: AbstractChannel) -> None:
    await channel.set_qos(1)
    log = await channel.get_queue(topology.EVENTS_LOG, ensure=False)
    await log.consume(ignore, arguments={"x-stream-offset": "first"})


def purge(queue: str) -> Action:
    async def act(channel: AbstractChannel) -> None:
        await (await channel.get_queue(queue, ensure=False)).purge()

    return act


def delete(queue: str) -> Action:
    return lambda channel: channel.queue_delete(queue)


def create(queue: str) -> Action:
    return lambda channel: channel.declare_queue(queue, exclusive=True)


def hear(exchange: str, queue: str) -> Action:
    async def act(channel: AbstractChannel) -> None:
        own = await channel.declare_queue(queue, exclusive=True, auto_delete=True)
        await own.bind(exchange)
        await own.consume(ignore, no_ack=True)

    return act


ALLOWED: tuple[tuple[User, str, Action], ...] = (
    (PUBLISHER, "publishes a command", publish(topology.COMMANDS, "video")),
    (CONSUMER, "takes a command", get(topology.VIDEO_COMMANDS)),
    (CONSUMER, "publishes an event", publish(topology.EVENTS, "frame.owned")),
    (CONSUMER, "gives a command up", publish(topology.DEAD)),
    (CONSUMER, "hears control", hear(topology.CONTROL, topology.own_queue(topology.CONTROL, "host:1:a"))),
    (EDGE, "marks the log", publish("", topology.EVENTS_LOG)),
    (EDGE, "reads the log", read_log),
    (EDGE, "takes a wake-up", get(topology.OUTBOX)),
    (EDGE, "hears who is there", hear(topology.PRESENCE, topology.own_queue(topology.PRESENCE, "edge host:1 a"))),
    (OPERATOR, "takes a dead letter", get(topology.DEAD_LETTERS)),
    (OPERATOR, "puts one back", publish("", topology.DEAD_LETTERS)),
    (OPERATOR, "sends one on its way", publish(topology.COMMANDS, "image")),
    (OPERATOR, "purges dead letters", purge(topology.DEAD_LETTERS)),
    (OPERATOR, "hears who is there", hear(topology.PRESENCE, topology.own_queue(topology.PRESENCE, "models a"))),
)
REFUSED: tuple[tuple[User, str, Action], ...] = (
    (PUBLISHER, "reads events", read_log),
    (PUBLISHER, "takes a command", get(topology.VIDEO_COMMANDS)),
    (PUBLISHER, "takes a dead letter", get(topology.DEAD_LETTERS)),
    (PUBLISHER, "creates a queue", create("anything")),
    (PUBLISHER, "deletes a queue", delete(topology.VIDEO_COMMANDS)),
    (PUBLISHER, "purges a queue", purge(topology.VIDEO_COMMANDS)),
    (PUBLISHER, "publishes an event", publish(topology.EVENTS, "frame.free")),
    (PUBLISHER, "publishes to any queue", publish("", topology.OUTBOX)),
    (PUBLISHER, "speaks to all consumers", publish(topology.CONTROL)),
    (CONSUMER, "deletes its queue", delete(topology.VIDEO_COMMANDS)),
    (CONSUMER, "deletes the log", delete(topology.EVENTS_LOG)),
    (CONSUMER, "purges dead letters", purge(topology.DEAD_LETTERS)),
    (CONSUMER, "purges the outbox", purge(topology.OUTBOX)),
    (CONSUMER, "creates a queue of commands", create(f"{topology.COMMANDS}.more")),
    (CONSUMER, "reads the log", read_log),
    (CONSUMER, "publishes to any queue", publish("", topology.OUTBOX)),
    (EDGE, "takes a command", get(topology.VIDEO_COMMANDS)),
    (EDGE, "purges commands", purge(topology.IMAGE_COMMANDS)),
    (EDGE, "deletes the log", delete(topology.EVENTS_LOG)),
    (EDGE, "takes a dead letter", get(topology.DEAD_LETTERS)),
    (EDGE, "hears control", create(topology.own_queue(topology.CONTROL, "host:1:a"))),
    (OPERATOR, "takes a command", get(topology.VIDEO_COMMANDS)),
    (OPERATOR, "reads the log", read_log),
    (OPERATOR, "deletes dead letters' queue", delete(topology.DEAD_LETTERS)),
    (OPERATOR, "publishes an event", publish(topology.EVENTS, "end.free")),
)


def ids(cases: tuple[tuple[User, str, Action], ...]) -> list[str]:
    return [f"{user.name} {what}" for user, what, _ in cases]


@pytest.mark.parametrize(("user", "_what", "act"), ALLOWED, ids=ids(ALLOWED))
async def test_each_user_may_do_its_work(host: str, user: User, _what: str, act: Action) -> None:
    async with channel_at(as_user(host, user)) as channel:
        await act(channel)


@pytest.mark.parametrize(("user", "_what", "act"), REFUSED, ids=ids(REFUSED))
async def test_no_user_may_do_the_work_of_another(host: str, user: User, _what: str, act: Action) -> None:
    async with channel_at(as_user(host, user)) as channel:
        with pytest.raises(ChannelAccessRefused):
            await act(channel)


@pytest.mark.parametrize("user", USERS, ids=lambda user: user.name)
async def test_where_all_is_there_nobody_needs_a_right_to_find_that_out(host: str, user: User) -> None:
    async with await aio_pika.connect(as_user(host, user)) as connection:
        await topology.complete(connection.channel, absent=ChannelNotFoundEntity)


async def test_a_user_who_may_not_create_what_is_missing_says_so_and_one_who_may_creates_it_alone(
    rabbit: PrivateRabbit,
) -> None:
    url = new_virtual_host(rabbit)
    async with channel_at(url) as channel:
        await channel.queue_delete(topology.VIDEO_COMMANDS)

    async with await aio_pika.connect(as_user(url, CONSUMER)) as connection:
        with pytest.raises(ChannelAccessRefused, match=re.escape(topology.VIDEO_COMMANDS)):
            await topology.complete(connection.channel, absent=ChannelNotFoundEntity)
    async with await aio_pika.connect(url) as connection:
        await topology.complete(connection.channel, absent=ChannelNotFoundEntity)

    async with channel_at(as_user(url, PUBLISHER)) as channel:
        await publish(topology.COMMANDS, "video")(channel)  # it would come back if nothing were bound


async def test_the_definitions_create_what_the_topology_says(host: str, rabbit: PrivateRabbit) -> None:
    name = host.rpartition("/")[2]
    async with management_of(rabbit) as management:
        known = (await management.get(f"/definitions/{name}")).json()
    parts = topology.topology()

    async with channel_at(host) as channel:
        await topology.declare(channel)  # refused if anything is there with other arguments

    durable = {queue["name"]: queue["arguments"] for queue in known["queues"] if queue["durable"]}
    assert durable == {queue.name: dict(queue.arguments) for queue in parts.queues}
    assert {each["name"]: each["type"] for each in known["exchanges"]} == {e.name: e.type for e in parts.exchanges}
    bound = {(each["source"], each["routing_key"], each["destination"]) for each in known["bindings"]}
    assert bound == {(each.exchange, each.routing_key, each.queue) for each in parts.bindings}
    assert {each["name"] for each in known["policies"]} == {each.name for each in definitions().policies}


async def test_a_user_without_a_password_cannot_log_in(rabbit: PrivateRabbit, host: str) -> None:
    name, host_name = "nobody", host.rpartition("/")[2]
    described = msgspec.structs.replace(
        definitions(host_name),
        users=(Account(name=name, tags=(), password_hash=password_hash(None)),),
        permissions=(Permission(user=name, vhost=host_name, configure=NOTHING, write=NOTHING, read=NOTHING),),
    )
    async with management_of(rabbit) as management:
        json = {"Content-Type": "application/json"}
        (await management.post("/definitions", content=document(described), headers=json)).raise_for_status()

    for password in ("", "nobody"):
        with pytest.raises(AMQPConnectionError):
            await aio_pika.connect(host.replace("guest:guest", f"{name}:{password}"))
