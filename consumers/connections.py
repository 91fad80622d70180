"""The two connections of a consumer: a broker in alarm freezes everything, acks too, on one that has ever published."""

import asyncio
import logging
import socket
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from faststream import AckPolicy
from faststream.rabbit import Channel, RabbitBroker, RabbitMessage

AMQP_HEARTBEAT_S = 10
CONNECT_TIMEOUT_S = 5.0
"""For a broker that takes a connection and says nothing; then another one is opened."""
RECONNECT_INTERVAL_S = 1.0
CONNECTED_WAIT_S = 0.01
"""The library answers at once if there is a connection, and waits so long for one if there is none."""


def to_consume(url: str, *, stop_s: float) -> RabbitBroker:
    """A broker that hands messages over as they came; what a handler fails of is rejected, and so dead-lettered.

    stop_s: how long handlers may take when it stops.
    """
    return RabbitBroker(
        _named(url, ""),
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
    return RabbitBroker(
        _named(url, ":publish"),
        fail_fast=False,
        timeout=CONNECT_TIMEOUT_S,
        reconnect_interval=RECONNECT_INTERVAL_S,
        default_channel=Channel(publisher_confirms=True, on_return_raises=True),
        apply_types=False,
        logger=logging.getLogger("consumers.broker"),
        log_level=logging.DEBUG,
    )


async def is_connected(broker: RabbitBroker) -> bool:
    """Whether its connection stands, as far as is known here."""
    return await broker.ping(CONNECTED_WAIT_S)


async def is_flowing(broker: RabbitBroker) -> bool:
    """False while a connected broker takes no messages: it is in alarm, and has said so to one who published."""
    transport = (await broker.connect()).transport
    if transport is None:
        return False
    try:
        async with asyncio.timeout(0):  # what is ready does not wait
            await transport.ready()
    except TimeoutError:
        return False
    return True


async def _as_it_came(message: RabbitMessage) -> RabbitMessage:
    """The library's decoders would fail before our handlers are asked."""
    return message


def _named(url: str, purpose: str) -> str:
    """The URL with our heartbeat, unless it says another one, and a name that a person can read."""
    parts = urlsplit(url)
    name = f"consumer@{socket.gethostname()}{purpose}"
    query = {"heartbeat": str(AMQP_HEARTBEAT_S), **dict(parse_qsl(parts.query)), "name": name}
    return urlunsplit(parts._replace(query=urlencode(query)))
