"""`AMQP_URL` may name every node of a cluster."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from yarl import URL

from consumers import settings as consumer
from consumers.nodes import AnyNodeConnection
from contracts.broker_nodes import nodes, without_users
from contracts.settings import ConfigurationError
from detections.broker_connection import connect
from detections.broker_setup import virtual_host
from edge import settings as edge

ONE, TWO = "amqp://guest:g,uest@one:5672/here", "amqps://guest:g,uest@two/here?heartbeat=5"


@pytest.mark.parametrize(
    ("said", "named"),
    [(ONE, (ONE,)), (f"{ONE},{TWO}", (ONE, TWO)), (f" {ONE} , {TWO}\n", (ONE, TWO)), ("amqp://h", ("amqp://h",))],
)
def test_nodes_are_separated_by_commas_and_a_password_may_have_one(said: str, named: tuple[str, ...]) -> None:
    assert nodes(said) == named


def test_of_several_nodes_no_password_is_shown_and_the_virtual_host_is_that_of_each() -> None:
    assert without_users(f"{ONE},{TWO}") == "amqp://one:5672/here,amqps://two/here?heartbeat=5"
    assert virtual_host(f"{ONE},{TWO}") == "here"


@asynccontextmanager
async def called() -> AsyncGenerator[tuple[str, asyncio.Event]]:
    """A node that somebody calls, who hears nothing; its URL and whether it was called."""
    was_called = asyncio.Event()

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        was_called.set()
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield f"amqp://guest:guest@127.0.0.1:{port}/", was_called


async def test_a_consumer_tries_every_node_while_none_serves() -> None:
    async with called() as (one, one_called), called() as (two, two_called), called() as (three, three_called):
        connection = AnyNodeConnection(URL(one), others=[two, three, one], reconnect_interval=0.1, fail_fast=False)
        connecting = asyncio.create_task(connection.connect())
        async with asyncio.timeout(60):
            await asyncio.gather(one_called.wait(), two_called.wait(), three_called.wait())
        await connection.close()
        connecting.cancel()
        await asyncio.gather(connecting, return_exceptions=True)


@pytest.mark.parametrize("settings", [edge, consumer], ids=["edge", "consumer"])
@pytest.mark.parametrize(
    "url",
    [
        "http://u:canary@b/",
        "b:5672",
        "amqp://",
        "amqp://u:canary@b:many/",
        "amqp://u:can/ary@b:5672/",
        "amqp://b1/, amqp://u:canary@b2:70000/",
    ],
)
def test_what_names_no_broker_is_refused_at_the_start_and_its_password_is_not_shown(url: str, settings: Any) -> None:
    with pytest.raises(ConfigurationError, match="AMQP_URL: node") as refused:
        settings.from_environment({"AMQP_URL": url})

    assert "can" not in str(refused.value)


@pytest.mark.parametrize(
    "url", ["amqp://b", "amqps://u:p%2Fw@b:5671/host", "amqp://[::1]:5672/", "amqp://a/,amqp://b/"]
)
def test_every_form_of_a_broker_is_taken(url: str) -> None:
    assert edge.from_environment({"AMQP_URL": url}).amqp_url == url


async def test_a_command_refuses_what_names_no_broker_as_a_process_does() -> None:
    with pytest.raises(ConfigurationError, match="AMQP_URL: node 1"):
        await connect("amqp://u:canary@b:many/", name="a", timeout_s=1)
