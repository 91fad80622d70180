"""A connection to the broker for a command that a person gives: to the first node that answers."""

import logging
from typing import TYPE_CHECKING

from contracts.broker_nodes import check_nodes, nodes

if TYPE_CHECKING:
    from aio_pika.abc import AbstractConnection


async def connect(amqp_url: str, *, name: str, timeout_s: float) -> "AbstractConnection":
    """name: of the connection, as the broker's management shows it.

    Raises `ConfigurationError`, or what the last node raises: `AMQPError`, `OSError`, `TimeoutError`.
    """
    check_nodes(amqp_url)
    import aio_pika
    from aio_pika.exceptions import AMQPError

    logging.getLogger("aiormq.connection").setLevel(logging.CRITICAL)  # it prints what it raises

    async def connected(node: str) -> "AbstractConnection":
        return await aio_pika.connect(node, timeout=timeout_s, client_properties={"connection_name": name})

    *others, last = nodes(amqp_url)
    for node in others:
        try:
            return await connected(node)
        except (AMQPError, OSError, TimeoutError):
            continue
    return await connected(last)
