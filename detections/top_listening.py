"""The ears of `detections top`: heartbeats and events over AMQP, queues from the management, until it is told to stop."""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING

from contracts import topology, wire
from contracts.broker_nodes import without_users
from contracts.failures import Failure
from detections.broker_connection import broker_failures, connect
from detections.management import Management
from detections.top_board import Board

if TYPE_CHECKING:
    from aio_pika.abc import AbstractConnection, AbstractIncomingMessage

CONNECT_TIMEOUT_S = 5.0
RECONNECT_S = 1.0
QUEUES_EVERY_S = 1.0
WAITING_MAX = 10_000
"""Messages that may wait for us in the broker; it drops the oldest, and nothing else is held up."""

Hear = Callable[[bytes], None]


async def listen(board: Board, amqp_url: str, management: Management) -> None:
    """Feed the board for ever. Raises `Failure(broker_unavailable)` if there is no broker at the beginning."""
    for library in ("aiormq", "aio_pika"):
        logging.getLogger(library).setLevel(logging.CRITICAL)  # they write across the picture; the board says it
    connection = await _connected(amqp_url)
    async with asyncio.TaskGroup() as group:
        group.create_task(_ask_for_queues(board, management))
        while True:
            await _hear_all(board, connection)
            board.troubles["broker"] = f"{without_users(amqp_url)} is away"
            connection = await _connected_again(amqp_url)
            board.troubles.pop("broker")


async def _hear_all(board: Board, connection: "AbstractConnection") -> None:
    """Until the connection is gone."""
    from aio_pika.exceptions import CONNECTION_EXCEPTIONS

    def consumer(body: bytes) -> None:
        board.hear_consumer(wire.decode_presence(body))

    def event(body: bytes) -> None:
        board.hear_event(wire.decode_event(body))

    with contextlib.suppress(*CONNECTION_EXCEPTIONS):
        async with connection:
            watched = await connection.channel()
            for exchange, hear in ((topology.PRESENCE, consumer), (topology.EVENTS, event)):
                await _hear(board, connection, exchange, hear)
            await asyncio.wait((asyncio.ensure_future(watched.closed()),))  # a connection does not tell when it is lost


async def _hear(board: Board, connection: "AbstractConnection", exchange: str, hear: Hear) -> None:
    """Have everything of an exchange heard, in a queue of our own; that the broker refuses it is said on the board."""
    from aio_pika.exceptions import CONNECTION_EXCEPTIONS

    async def heard(message: "AbstractIncomingMessage") -> None:
        with contextlib.suppress(Failure):  # of another version
            hear(message.body)

    name = f"{topology.PRESENCE}.top-{secrets.token_hex(4)}"  # where a person may have queues
    try:
        channel = await connection.channel()
        bound = {"x-max-length": WAITING_MAX, "x-overflow": "drop-head"}
        queue = await channel.declare_queue(name, exclusive=True, auto_delete=True, arguments={**bound})
        await queue.bind(await channel.get_exchange(exchange, ensure=False), "#")
        await queue.consume(heard, no_ack=True)
    except CONNECTION_EXCEPTIONS as error:
        board.troubles[exchange] = f"{exchange} cannot be heard: {error}"
    else:
        board.troubles.pop(exchange, None)


async def _ask_for_queues(board: Board, management: Management) -> None:
    while True:
        try:
            board.queues = await management.queues()
            board.troubles.pop("management", None)
        except Failure as failure:
            board.queues = []
            board.troubles["management"] = failure.detail
        await asyncio.sleep(QUEUES_EVERY_S)


async def _connected(amqp_url: str) -> "AbstractConnection":
    with broker_failures(amqp_url):
        return await connect(amqp_url, name="detections top", timeout_s=CONNECT_TIMEOUT_S)


async def _connected_again(amqp_url: str) -> "AbstractConnection":
    while True:
        await asyncio.sleep(RECONNECT_S)
        with contextlib.suppress(Failure):
            return await _connected(amqp_url)
