"""How messages travel, seen from the broker: nothing that is promised can be lost on the way."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aio_pika
import aio_pika.abc
import httpx
import pytest

from consumers import outgoing
from consumers.connections import to_publish
from consumers.outgoing import RabbitSender, Undelivered, event_message
from contracts import topology
from contracts.commands import DetectImage, DetectVideo
from contracts.events import FrameDetected
from contracts.failures import Failure, FailureCode
from contracts.media import Medium, MediumKind
from contracts.storage import Layout
from contracts.wire import encode
from detections.rabbitmq import PrivateRabbit
from edge.broker import keep_connected
from edge.outbox import Outbox
from edge.settings import EdgeSettings
from tests.broker.consumer_stage import scripted_model, until
from tests.fault.fleet import Fleet, fleet
from tests.fault.flow import channel_on, clip_of, new_task, send_video, virtual_host, wait_for_end
from tests.fault.proxy import proxy_to, through
from tests.processes import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.broker, pytest.mark.timeout(300)]

FLEETING = frozenset(("TaskProgressed", "ConsumerSeen"))
"""What is said anew every second; nothing is lost with one of them."""


@pytest.fixture(scope="module")
def amqp_url(rabbit: PrivateRabbit) -> Iterator[str]:
    with virtual_host(rabbit) as url:
        yield url


@pytest.fixture(scope="module")
def system(amqp_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("messaging")
    with fleet(folder / "storage", amqp_url=amqp_url, model=scripted_model(folder)) as running:
        running.edge.start()
        running.consumer().start()
        running.wait_until_ready()
        yield running


def of_this_host(rabbit: PrivateRabbit, amqp_url: str, what: str) -> list[dict[str, Any]]:
    """What the broker's management lists of the virtual host."""
    name = amqp_url.rpartition("/")[2]
    address = f"{rabbit.management_url}/api/{what}"
    listed = httpx.get(address, auth=("guest", "guest"), timeout=60, trust_env=False).json()
    return [each for each in listed if each.get("vhost") == name or each.get("queue", {}).get("vhost") == name]


@asynccontextmanager
async def every_publish(rabbit: PrivateRabbit, amqp_url: str) -> AsyncGenerator[list[dict[str, Any]]]:
    """Exchange, routing key and properties of each message that anybody publishes meanwhile: the broker's own trace."""
    host = amqp_url.rpartition("/")[2]
    traced: list[dict[str, Any]] = []

    async def remember(message: aio_pika.abc.AbstractIncomingMessage) -> None:
        traced.append(dict(message.headers))

    await asyncio.to_thread(rabbit.ctl, "trace_on", "-p", host)
    async with channel_on(amqp_url) as channel:
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind("amq.rabbitmq.trace", "publish.#")
        await queue.consume(remember, no_ack=True)
        yield traced
    await asyncio.to_thread(rabbit.ctl, "trace_off", "-p", host)


def type_of(traced: dict[str, Any]) -> str:
    return str(traced["properties"].get("type"))


async def test_whatever_is_published_and_has_to_arrive_is_persistent(
    system: Fleet, rabbit: PrivateRabbit, amqp_url: str, tmp_path: Path
) -> None:
    layout, one, two = Layout(system.storage), new_task(), new_task()
    clip = clip_of(tmp_path, frames=5)
    async with every_publish(rabbit, amqp_url) as traced:
        assert await asyncio.to_thread(send_video, system.url, one, clip) == 202
        await asyncio.to_thread(wait_for_end, layout, one)
        missing = Medium(root="videos", path="no", kind=MediumKind.VIDEO)
        async with channel_on(amqp_url) as channel:
            exchange = await channel.get_exchange(topology.COMMANDS, ensure=False)
            message = aio_pika.Message(encode(DetectVideo(task_id=two, medium=missing)), delivery_mode=2)
            await exchange.publish(message, "video")
        async with httpx.AsyncClient(timeout=60, trust_env=False) as http:
            assert (await http.delete(f"{system.url}/tasks/{one}")).status_code < 500
        wanted = {"DetectVideo", "FrameDetected", "TaskEnded", "DeadLetter"}
        await until(lambda: wanted <= {type_of(each) for each in traced}, timeout_s=60)

    weak = {type_of(each) for each in traced if each["properties"].get("delivery_mode") != 2}
    assert weak <= FLEETING


def test_every_queue_of_ours_is_a_durable_quorum_or_the_log(
    system: Fleet, rabbit: PrivateRabbit, amqp_url: str
) -> None:
    queues = {queue["name"]: queue for queue in of_this_host(rabbit, amqp_url, "queues")}
    declared = {queue.name for queue in topology.topology().queues}

    kinds = {name: (queues[name]["arguments"]["x-queue-type"], queues[name]["durable"]) for name in declared}
    assert kinds.pop(topology.EVENTS_LOG) == ("stream", True)
    assert set(kinds.values()) == {("quorum", True)}
    assert {name for name in queues if name.startswith("detections.")} - declared == {
        name for name in queues if name.startswith((f"{topology.CONTROL}.", f"{topology.PRESENCE}."))
    }, "the only others are those in which a process hears what is said to all"


def test_what_is_dead_lettered_gets_there_at_least_once() -> None:
    mortal = [queue.arguments for queue in topology.topology().queues if "x-dead-letter-exchange" in queue.arguments]

    assert len(mortal) >= 6
    assert {arguments.get("x-dead-letter-strategy") for arguments in mortal} == {"at-least-once"}
    assert {arguments.get("x-overflow") for arguments in mortal} == {"reject-publish"}, "else the broker ignores it"


def test_connections_to_publish_are_others_than_those_to_consume(
    system: Fleet, rabbit: PrivateRabbit, amqp_url: str
) -> None:
    """The broker lists what a channel does some seconds after it began."""

    def doing() -> dict[str, set[str]]:
        human = {
            each["name"]: each["client_properties"]["connection_name"]
            for each in of_this_host(rabbit, amqp_url, "connections")
        }
        channels = [each for each in of_this_host(rabbit, amqp_url, "channels") if each.get("connection_details")]
        named = [(human.get(each["connection_details"]["name"], "?"), each) for each in channels]
        return {
            "consuming": {name for name, channel in named if channel.get("consumer_count")},
            "publishing": {name for name, channel in named if channel.get("confirm") and name.endswith(" publish")},
        }

    def both(what: set[str]) -> bool:
        return {name.partition(" ")[0] for name in what} == {"edge", "consumer"}

    wait_until(lambda: both(doing()["consuming"]) and both(doing()["publishing"]), timeout_s=60)
    assert doing()["consuming"].isdisjoint(doing()["publishing"])


def test_heartbeats_and_the_number_of_unanswered_messages_are_set_everywhere(
    system: Fleet, rabbit: PrivateRabbit, amqp_url: str
) -> None:
    heartbeats = {each["timeout"] for each in of_this_host(rabbit, amqp_url, "connections")}
    prefetch = {
        each["queue"]["name"]: each["prefetch_count"]
        for each in of_this_host(rabbit, amqp_url, "consumers")
        if each["ack_required"] and not each["queue"]["name"].startswith(f"{topology.CONTROL}.")
    }

    assert heartbeats == {10}
    assert {topology.IMAGE_COMMANDS, topology.VIDEO_COMMANDS, topology.EVENTS_LOG} <= prefetch.keys()
    assert all(prefetch.values()), prefetch


async def test_a_command_that_wants_a_reply_gets_none(system: Fleet, amqp_url: str) -> None:
    """Or whoever sends commands could have messages put into any queue."""
    medium = Medium(root="images", path="no", kind=MediumKind.IMAGE)
    command = DetectImage(task_id=new_task(), medium=medium)
    async with channel_on(amqp_url) as channel:
        replies = await channel.declare_queue(exclusive=True)
        exchange = await channel.get_exchange(topology.COMMANDS, ensure=False)
        await exchange.publish(aio_pika.Message(encode(command), reply_to=replies.name, correlation_id="c"), "image")
        await asyncio.to_thread(wait_for_end, Layout(system.storage), command.task_id)
        again = DetectImage(task_id=new_task(), medium=medium)  # answered after the first one's ack
        await exchange.publish(aio_pika.Message(encode(again)), "image")
        await asyncio.to_thread(wait_for_end, Layout(system.storage), again.task_id)
        assert await replies.get(fail=False) is None


@asynccontextmanager
async def sending(amqp_url: str) -> AsyncGenerator[RabbitSender]:
    """The way out of a consumer."""
    broker = to_publish(amqp_url)
    await broker.start()
    sender = RabbitSender(broker)
    await sender.prepare()
    try:
        yield sender
    finally:
        await broker.stop()


@asynccontextmanager
async def outbox_on(amqp_url: str, *, publish_timeout_s: float) -> AsyncGenerator[Outbox]:
    """The way out of an edge."""
    settings = EdgeSettings(amqp_url=amqp_url, publish_timeout_s=publish_timeout_s)
    outbox = Outbox(settings)
    keep = asyncio.create_task(keep_connected(settings, "publish", outbox.serve))
    await until(lambda: outbox.is_connected)
    try:
        yield outbox
    finally:
        keep.cancel()
        await asyncio.gather(keep, return_exceptions=True)


async def test_an_event_that_no_queue_takes_is_not_taken_for_sent(rabbit: PrivateRabbit) -> None:
    with virtual_host(rabbit) as amqp_url:
        async with channel_on(amqp_url) as channel:
            await topology.declare(channel)
            event = event_message(FrameDetected(task_id=new_task(), media_id="m", sequence=1))
            async with sending(amqp_url) as sender:
                await sender.send(event)
                await channel.queue_delete(topology.EVENTS_LOG)
                with pytest.raises(Undelivered, match="NO_ROUTE"):
                    await sender.send(event)


async def test_a_full_queue_is_said_to_whoever_publishes(rabbit: PrivateRabbit) -> None:
    """The broker answers with a nack, which is no confirm."""
    with virtual_host(rabbit) as amqp_url:
        host = amqp_url.rpartition("/")[2]
        pattern, limit = f"^{topology.VIDEO_COMMANDS}$", '{"max-length":1}'
        over_ours = ("--priority", "1")  # of two with the same RabbitMQ takes either
        await asyncio.to_thread(rabbit.ctl, "set_policy", "-p", host, *over_ours, "short", pattern, limit)
        medium = Medium(root="videos", path="no", kind=MediumKind.VIDEO)
        async with outbox_on(amqp_url, publish_timeout_s=2.0) as outbox:
            with pytest.raises(Failure) as failed:
                await publish_many(outbox, medium)

    assert failed.value.code is FailureCode.BROKER_UNAVAILABLE


async def publish_many(outbox: Outbox, medium: Medium) -> None:
    """More than a queue takes that is limited to one: it takes a few over its limit, and more until it hears of it."""
    for _ in range(2_000):
        await outbox.publish(DetectVideo(task_id=new_task(), medium=medium))


async def test_a_broker_that_has_fallen_silent_holds_nobody_for_longer_than_the_deadline(
    rabbit: PrivateRabbit, amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Left to the library it would be three heartbeats and a cancellation that nobody asked for."""
    command = DetectVideo(task_id=new_task(), medium=Medium(root="videos", path="no", kind=MediumKind.VIDEO))
    event = event_message(FrameDetected(task_id=new_task(), media_id="m", sequence=1))
    async with (
        proxy_to(rabbit.port) as proxy,
        outbox_on(through(proxy.port, amqp_url), publish_timeout_s=0.5) as outbox,
        sending(through(proxy.port, amqp_url)) as sender,
    ):
        await sender.send(event)
        monkeypatch.setattr(outgoing, "PUBLISH_TIMEOUT_S", 0.5)
        proxy.fall_silent()
        async with asyncio.timeout(15):
            with pytest.raises(Failure, match="does not confirm"):
                await outbox.publish(command)
            with pytest.raises(Undelivered):
                await sender.send(event)
        proxy.speak()


async def test_a_reset_connection_is_opened_again_and_the_message_arrives(rabbit: PrivateRabbit, amqp_url: str) -> None:
    missing = Medium(root="images", path="no", kind=MediumKind.IMAGE)
    async with (
        proxy_to(rabbit.port) as proxy,
        outbox_on(through(proxy.port, amqp_url), publish_timeout_s=30.0) as outbox,
    ):
        proxy.reset()
        await outbox.publish(DetectImage(task_id=new_task(), medium=missing))
