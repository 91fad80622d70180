"""The private broker: ours alone, reachable from this machine alone, gone when told, its data kept."""

import asyncio
import json
import socket
from pathlib import Path

import aio_pika
import httpx
import pytest

from contracts import topology
from contracts.failures import Failure
from detections import broker_setup, rabbitmq
from detections.rabbitmq import PrivateRabbit, RabbitMissingError, free_port, is_free
from tests.processes import WAIT_S, processes_of, wait_until_nothing_lives_of
from tests.virtual_hosts import new_virtual_host

pytestmark = pytest.mark.broker

LOOPBACK = ("0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F")
LISTENING = "0A"


def listening_addresses(folder: Path) -> dict[int, str]:
    """Port -> address (hex, as in /proc/net) of every TCP listener of the processes of `folder`."""
    sockets: set[str] = set()
    for pid in processes_of(folder):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            target = str(entry.readlink())
            if target.startswith("socket:["):
                sockets.add(target[8:-1])
    found: dict[int, str] = {}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTENING and fields[9] in sockets:
                address, port = fields[1].split(":")
                found[int(port, 16)] = address
    return found


def test_everything_it_opens_is_on_the_loopback(rabbit: PrivateRabbit) -> None:
    addresses = listening_addresses(rabbit.folder)

    assert {rabbit.port, rabbit.management_port, rabbit.metrics_port} <= set(addresses)
    assert len(addresses) == 5  # also epmd and the distribution
    assert set(addresses.values()) <= set(LOOPBACK)


def test_its_cookie_is_its_owner_s_alone(rabbit: PrivateRabbit) -> None:
    assert (rabbit.folder / "home" / ".erlang.cookie").stat().st_mode & 0o777 == 0o400


def test_its_management_answers(rabbit: PrivateRabbit) -> None:
    answer = httpx.get(f"{rabbit.management_url}/api/overview", auth=("guest", "guest"), timeout=WAIT_S)

    assert answer.json()["node"] == "detections@localhost"


def test_its_own_ctl_reaches_it(rabbit: PrivateRabbit) -> None:
    assert json.loads(rabbit.ctl("-s", "status", "--formatter", "json"))["pid"] in processes_of(rabbit.folder)


async def put(url: str, queue: str, body: bytes) -> None:
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        await channel.declare_queue(queue, durable=True)
        message = aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await channel.default_exchange.publish(message, queue)


async def take(url: str, queue: str) -> bytes:
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        message = await (await channel.declare_queue(queue, durable=True)).get()
        return message.body


async def test_it_ends_without_a_trace_but_its_data_and_goes_on_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RABBITMQ_NODENAME", "the-machine-s-own@localhost")
    monkeypatch.setenv("RABBITMQ_NODE_PORT", "5672")
    first = PrivateRabbit(tmp_path / "node", with_management=False)
    first.start()
    await put(first.url, "kept", b"still here")
    first.stop()
    wait_until_nothing_lives_of(tmp_path)
    port_is_free = is_free(first.port)

    second = PrivateRabbit(tmp_path / "node", with_management=False)
    second.start()
    body = await take(second.url, "kept")
    second.kill()

    wait_until_nothing_lives_of(tmp_path)
    assert port_is_free
    assert body == b"still here"


def test_a_broker_that_does_not_start_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    broken = PrivateRabbit(tmp_path / "node", conf="no.such.setting = 1\n")

    with pytest.raises(RuntimeError, match=r"no\.such\.setting"):
        broken.start()

    wait_until_nothing_lives_of(tmp_path)


def test_a_broker_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    with pytest.raises(TimeoutError, match="did not answer"):
        PrivateRabbit(tmp_path / "node").start(timeout_s=0.3)

    wait_until_nothing_lives_of(tmp_path)


def test_without_one_on_the_machine_the_command_that_installs_it_is_named(tmp_path: Path) -> None:
    with pytest.raises(RabbitMissingError, match="apt-get install rabbitmq-server"):
        PrivateRabbit(tmp_path / "node", scripts=tmp_path / "nothing").start()


def test_a_free_port_is_one_that_nobody_has_and_no_connection_takes() -> None:
    ports = [free_port() for _ in range(300)]

    assert set(ports) <= set(rabbitmq.PORTS)
    assert len(set(ports)) == 300, "by chance alone some of 300 would be given twice"


def test_a_port_with_a_listener_is_not_free() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()

        assert not is_free(taken.getsockname()[1])


# `detections broker setup`


def test_the_topology_can_be_declared_again_and_again(rabbit: PrivateRabbit) -> None:
    broker_setup.declare(rabbit.url)
    broker_setup.declare(rabbit.url)

    queues = httpx.get(f"{rabbit.management_url}/api/queues/%2F", auth=("guest", "guest"), timeout=WAIT_S).json()
    assert {queue.name for queue in topology.topology().queues} <= {queue["name"] for queue in queues}


def test_policies_are_set_as_this_version_knows_them(rabbit: PrivateRabbit) -> None:
    assert rabbit.management_url is not None

    version = broker_setup.set_policies(rabbit.management_url, virtual_host="/")

    known = httpx.get(f"{rabbit.management_url}/api/policies/%2F", auth=("guest", "guest"), timeout=WAIT_S).json()
    expected = {policy.name: dict(policy.definition) for policy in broker_setup.policies(version)}
    assert {policy["name"]: policy["definition"] for policy in known} == expected


def test_a_broker_that_is_not_there_is_a_named_failure_without_its_password() -> None:
    with pytest.raises(Failure, match="broker_unavailable") as raised:
        broker_setup.declare(f"amqp://ops:secret@127.0.0.1:{free_port()}/")
    with pytest.raises(Failure, match="broker_unavailable"):
        broker_setup.set_policies(f"http://ops:secret@127.0.0.1:{free_port()}", virtual_host="/")

    assert "secret" not in str(raised.value)


def test_a_refused_password_is_a_named_failure(rabbit: PrivateRabbit) -> None:
    with pytest.raises(Failure, match="broker_unavailable"):
        broker_setup.declare(rabbit.url.replace("guest:guest", "guest:wrong"))
    with pytest.raises(Failure, match="401"):
        broker_setup.set_policies(f"http://guest:wrong@127.0.0.1:{rabbit.management_port}", virtual_host="/")


def test_a_virtual_host_that_is_not_there_is_said(rabbit: PrivateRabbit) -> None:
    with pytest.raises(Failure, match="virtual host"):
        broker_setup.declare(f"{rabbit.url}nowhere")


async def test_a_queue_of_an_older_version_is_named_with_what_differs_and_all_else_is_created(
    rabbit: PrivateRabbit,
) -> None:
    url = new_virtual_host(rabbit)
    older = {"x-queue-type": "quorum", "x-dead-letter-exchange": topology.DEAD, "x-delivery-limit": 20}
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        for name in (topology.VIDEO_COMMANDS, topology.SHOTS_COMMANDS, topology.EVENTS_LOG):
            await channel.queue_delete(name)
        for name in (topology.VIDEO_COMMANDS, topology.SHOTS_COMMANDS):
            await channel.declare_queue(name, durable=True, arguments=older)

        with pytest.raises(Failure, match="broker_unavailable") as raised:
            await asyncio.to_thread(broker_setup.declare, url)
        said = str(raised.value)
        for name in (topology.VIDEO_COMMANDS, topology.SHOTS_COMMANDS):
            await channel.queue_delete(name)
        await asyncio.to_thread(broker_setup.declare, url)

        assert (await channel.get_queue(topology.EVENTS_LOG)).name == topology.EVENTS_LOG
    assert (
        f"{topology.VIDEO_COMMANDS} is not as it should be (x-dead-letter-strategy: wanted 'at-least-once', is none)"
        in said
    )
    assert topology.SHOTS_COMMANDS in said
    assert topology.IMAGE_COMMANDS not in said
    assert topology.EVENTS_LOG not in said
    assert "docs/broker.md" in said
