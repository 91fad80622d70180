"""The connection on which the log is read for listeners that have far to go."""

import asyncio

import pytest
from aio_pika.abc import AbstractConnection

from detections.rabbitmq import PrivateRabbit
from edge import replay as module
from edge.broker import BROKER_ERRORS, complete_topology, keep_connected
from edge.replay import Replay
from edge.settings import EdgeSettings

pytestmark = pytest.mark.broker

WAIT_S = 60.0


async def test_a_connection_that_was_read_on_often_is_renewed(
    rabbit: PrivateRabbit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "READINGS_MAX", 2)
    replay = Replay(EdgeSettings(amqp_url=rabbit.url, broker_reconnect_s=0.01, log_lease_s=1.0))
    served: list[AbstractConnection] = []

    async def serve(connection: AbstractConnection) -> None:
        await complete_topology(connection)
        served.append(connection)
        await replay.serve(connection)

    async def read() -> None:
        while True:
            try:
                async with replay.reading(0):
                    return
            except BROKER_ERRORS:  # between two connections, or on the one that goes
                await asyncio.sleep(0.01)

    keeping = asyncio.create_task(keep_connected(replay.settings, "replay", serve))
    async with asyncio.timeout(WAIT_S):
        for _ in range(5):
            await read()
    keeping.cancel()
    await asyncio.wait((keeping,))

    assert len(served) >= 3
    assert all(connection.is_closed for connection in served)
