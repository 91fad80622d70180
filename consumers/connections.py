"""The two connections of a consumer: a broker in alarm freezes everything, acks too, on one that has ever published."""

import logging
import os
import random
import secrets
import socket
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import aio_pika
import aiormq.exceptions
from aio_pika import RobustChannel
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from aio_pika.robust_queue import RobustQueue
from faststream import AckPolicy
from faststream.rabbit import Channel, RabbitBroker, RabbitMessage

from consumers.nodes import AnyNodeBroker, AnyNodeConnection
from contracts import topology
from contracts.broker_calls import BrokerSilentError, broker_call
from contracts.broker_flow import is_flowing
from contracts.broker_nodes import nodes

AMQP_HEARTBEAT_S = 10
CONNECT_TIMEOUT_S = 5.0
"""For a broker that takes a connection and says nothing; then another one is opened."""
RECONNECT_INTERVAL_S = 1.0
APP_ID = "consumer"
"""What our messages say of their sender."""
LOST = (
    BrokerSilentError,
    aiormq.exceptions.AMQPConnectionError,
    aiormq.exceptions.ChannelInvalidStateError,
    aiormq.exceptions.ConnectionClosed,
    aiormq.exceptions.ConnectionInternalError,
)
"""What says that a connection went away, and nothing of whether the broker would have us; refusals are types below these."""
INCOMPLETE = (aiormq.exceptions.ChannelNotFoundEntity, aiormq.exceptions.ChannelAccessRefused, OSError)
"""What a broker that starts says of what it will have, and to a user who may not create it; or it is gone again."""


class _TaggedQueue(RobustQueue):
    """A queue of which we are a consumer with a name that a person can read; the library makes up a number."""

    async def restore(self, channel: Any = None) -> None:
        """As the library's, but one that is ours alone gets another name each time.

        A broker that has not yet seen the end of the connection before keeps its queue to that, and would refuse us for as
        long: two heartbeats, and with this queue those of the commands.
        """
        if self.exclusive:
            self.name = f"{self.name.partition('#')[0]}#{secrets.token_hex(3)}"
        await super().restore(channel)

    async def consume(
        self,
        callback: Callable[[AbstractIncomingMessage], Awaitable[Any]],
        *arguments: Any,
        consumer_tag: str | None = None,
        **named: Any,
    ) -> str:
        tag = consumer_tag or f"{process_name()} {self.name}"  # of its channel there is no other for this queue
        return await super().consume(callback, *arguments, consumer_tag=tag, **named)


class _TaggingChannel(RobustChannel):
    QUEUE_CLASS = _TaggedQueue


class _TaggingConnection(AnyNodeConnection):
    CHANNEL_CLASS = _TaggingChannel


CONNECTED_WAIT_S = 0.01
"""The library answers at once if there is a connection, and waits so long for one if there is none."""


def to_consume(url: str, *, stop_s: float) -> RabbitBroker:
    """A broker that hands messages over as they came; what a handler fails of is rejected, and so dead-lettered.

    stop_s: how long handlers may take when it stops.
    """
    return AnyNodeBroker(
        _named(url, "consume"),
        connection_class=_TaggingConnection,
        fail_fast=False,
        timeout=CONNECT_TIMEOUT_S,
        reconnect_interval=RECONNECT_INTERVAL_S,
        graceful_timeout=stop_s,
        ack_policy=AckPolicy.REJECT_ON_ERROR,
        decoder=_as_it_came,
        apply_types=False,
        logger=logging.getLogger("consumers.broker"),
        log_level=logging.DEBUG,
    )


def to_publish(url: str) -> RabbitBroker:
    """A broker that confirms what it took, and raises when no queue takes a message."""
    return AnyNodeBroker(
        _named(url, "publish"),
        fail_fast=False,
        timeout=CONNECT_TIMEOUT_S,
        reconnect_interval=RECONNECT_INTERVAL_S,
        default_channel=Channel(publisher_confirms=True, on_return_raises=True),
        app_id=APP_ID,
        apply_types=False,
        logger=logging.getLogger("consumers.broker"),
        log_level=logging.DEBUG,
    )


async def complete_topology(url: str) -> None:
    """Create what is missing on the broker, over a connection of its own to any node.

    Raises what the broker raises if we may not, `OSError` if that node does not answer.
    """
    node = random.choice(_named(url, "setup"))  # noqa: S311 - spreads load, keeps no secret
    with broker_call():
        async with await aio_pika.connect(node, timeout=CONNECT_TIMEOUT_S) as connection:

            async def open_channel() -> AbstractChannel:
                return await connection.channel()

            await topology.complete(open_channel, absent=aiormq.exceptions.ChannelNotFoundEntity)


def process_name() -> str:
    """Who we are on the broker, as an operator reads it: `consumer <host>:<pid>`."""
    return f"consumer {socket.gethostname()}:{os.getpid()}"


async def is_connected(broker: RabbitBroker) -> bool:
    """Whether its connection stands, as far as is known here."""
    return await broker.ping(CONNECTED_WAIT_S)


async def takes_messages(broker: RabbitBroker) -> bool:
    """False while a connected broker is in alarm, and has said so to one who published."""
    return await is_flowing((await broker.connect()).transport)


def is_lost(error: BaseException) -> bool:
    """True if the connection went away while we worked on it."""
    return type(error) in LOST


async def _as_it_came(message: RabbitMessage) -> RabbitMessage:
    """The library's decoders would fail before our handlers are asked."""
    return message


def _named(url: str, purpose: str) -> list[str]:
    """The URL of each node."""
    return [_named_node(node, purpose) for node in nodes(url)]


def _named_node(url: str, purpose: str) -> str:
    """The URL with our heartbeat, unless it says another one, and a name that a person can read."""
    parts = urlsplit(url)
    query = {"heartbeat": str(AMQP_HEARTBEAT_S), **dict(parse_qsl(parts.query)), "name": f"{process_name()} {purpose}"}
    return urlunsplit(parts._replace(query=urlencode(query)))
