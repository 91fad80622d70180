"""The two connections of a consumer: a broker in alarm freezes everything, acks too, on one that has ever published."""

import logging
import socket
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from aiormq.exceptions import (
    AMQPConnectionError,
    ChannelInvalidStateError,
    ConnectionClosed,
    ConnectionInternalError,
)
from faststream import AckPolicy
from faststream.rabbit import Channel, RabbitBroker, RabbitMessage

AMQP_HEARTBEAT_S = 10
CONNECT_TIMEOUT_S = 5.0
"""For a broker that takes a connection and says nothing; then another one is opened."""
RECONNECT_INTERVAL_S = 1.0


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


def is_lost(error: BaseException) -> bool:
    """True if a connection went away, which says nothing of whether the broker would have us; its refusals have types of
    their own."""
    return type(error) in (AMQPConnectionError, ChannelInvalidStateError, ConnectionClosed, ConnectionInternalError)


def without_password(url: str) -> str:
    """The URL as it may be logged."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}:{parts.port}{parts.path}"


async def _as_it_came(message: RabbitMessage) -> RabbitMessage:
    """The library's decoders would fail before our handlers are asked."""
    return message


def _named(url: str, purpose: str) -> str:
    """The URL with our heartbeat, unless it says another one, and a name that a person can read."""
    parts = urlsplit(url)
    name = f"consumer@{socket.gethostname()}{purpose}"
    query = {"heartbeat": str(AMQP_HEARTBEAT_S), **dict(parse_qsl(parts.query)), "name": name}
    return urlunsplit(parts._replace(query=urlencode(query)))
