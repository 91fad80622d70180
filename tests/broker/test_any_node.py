"""The consumers' connection to a cluster, against something that listens and is no broker."""

import asyncio

import pytest
from yarl import URL

from consumers.nodes import AnyNodeConnection
from tests.broker.consumer_stage import until

pytestmark = pytest.mark.broker


async def test_whoever_gives_up_waiting_for_a_broker_leaves_no_task_behind() -> None:
    accepted: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _reader, writer: accepted.append(writer), "127.0.0.1", 0)
    address = f"amqp://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    before = asyncio.all_tasks()

    connecting = asyncio.create_task(AnyNodeConnection(URL(address), others=[address]).connect())
    await until(lambda: bool(accepted))
    connecting.cancel()
    await asyncio.gather(connecting, return_exceptions=True)

    await until(lambda: asyncio.all_tasks() <= before)
    for writer in accepted:
        writer.close()
    server.close()
