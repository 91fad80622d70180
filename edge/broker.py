"""Connections to RabbitMQ that come back by themselves.

Plain connections and a loop of our own: a robust one would read the log again from where it once began, and would replay
nothing that was being published. The edge keeps several, because a broker in alarm freezes everything, acknowledgements too,
on a connection that has ever published.
"""

import asyncio
import itertools
import os
import random
import socket
from collections.abc import Awaitable, Callable

import aio_pika
import msgspec
import structlog
from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.exceptions import CONNECTION_EXCEPTIONS, ChannelNotFoundEntity

from contracts import topology
from contracts.broker_calls import broker_call, plainly
from contracts.broker_nodes import nodes
from contracts.failures import Failure
from edge.metrics import BROKER_CONNECTED
from edge.settings import EdgeSettings

BROKER_ERRORS = (*CONNECTION_EXCEPTIONS, TimeoutError)
"""What the library raises when the broker is away, refuses or does not answer."""
CLOSE_TIMEOUT_S = 1.0
"""How long a connection may take to say goodbye; a dead broker never answers."""

_log = structlog.get_logger()

Work = Callable[[AbstractConnection], Awaitable[None]]


class BrokerLostError(ConnectionError):
    """The connection or channel somebody was working on is gone."""


async def keep_connected(settings: EdgeSettings, purpose: str, work: Work) -> None:
    """Run `work` on a connection for ever; when it returns or fails, on a new one, of a cluster to another node."""
    told = ""
    named = nodes(settings.amqp_url)
    turns = itertools.cycle(random.sample(named, k=len(named)))  # edges begin at different ones

    async def connected(connection: AbstractConnection) -> None:
        nonlocal told
        told = ""
        BROKER_CONNECTED.labels(purpose).set(1)
        _log.info("connected to the broker", purpose=purpose)
        await work(connection)

    while True:
        node = msgspec.structs.replace(settings, amqp_url=next(turns))
        reason = await _connect_once(node, purpose, connected)
        BROKER_CONNECTED.labels(purpose).set(0)
        if reason != told:  # a broker that stays away is worth one line
            _log.warning("no connection to the broker", purpose=purpose, reason=reason)
        told = reason
        await asyncio.sleep(settings.broker_reconnect_s)


async def complete_topology(connection: AbstractConnection) -> None:
    """Create what is missing on the broker. Raises what the broker raises if this user may not."""

    async def open_channel() -> AbstractChannel:
        return await connection.channel()

    await topology.complete(open_channel, absent=ChannelNotFoundEntity)


def process_name() -> str:
    """Who we are on the broker, as an operator reads it: `edge <host>:<pid>`."""
    return f"edge {socket.gethostname()}:{os.getpid()}"


async def until_closed(channel: AbstractChannel) -> None:
    """Return when the channel, or its connection, is gone."""
    await channel.closed()


async def close_quietly(closable: AbstractConnection | AbstractChannel) -> None:
    """Close what may be dead already, within `CLOSE_TIMEOUT_S`."""
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT_S):
            await closable.close()
    except BROKER_ERRORS as error:
        _log.debug("broker did not say goodbye", reason=_reason(error))


async def _connect_once(settings: EdgeSettings, purpose: str, work: Work) -> str:
    """Why there is no connection any more."""
    try:
        with broker_call():
            await _work_connected(settings, purpose, work)
    except (*BROKER_ERRORS, Failure) as error:
        return _reason(error)
    except Exception as error:  # noqa: BLE001 - an outermost loop: one bad turn must not make an edge deaf for good
        _log.exception("broker work failed", purpose=purpose)
        return _reason(error)
    return "closed"


async def _work_connected(settings: EdgeSettings, purpose: str, work: Work) -> None:
    async with asyncio.timeout(settings.broker_connect_timeout_s):
        connection = await aio_pika.connect(
            settings.amqp_url,
            heartbeat=settings.broker_heartbeat_s,
            client_properties={"connection_name": f"{process_name()} {purpose}"},
        )
    try:
        await work(connection)
    finally:
        await close_quietly(connection)


def _reason(error: BaseException) -> str:
    return plainly(f"{type(error).__name__}: {error}")
