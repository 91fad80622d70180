"""A connection to the broker for a command that a person gives: to the first node that answers."""

import logging
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from contracts.broker_calls import plainly
from contracts.broker_nodes import check_nodes, nodes, without_users
from contracts.failures import Failure, FailureCode

if TYPE_CHECKING:
    from aio_pika.abc import AbstractConnection


async def connect(amqp_url: str, *, name: str, timeout_s: float) -> "AbstractConnection":
    """name: of the connection, as the broker's management shows it.

    Raises `ConfigurationError`, or what the last node raises: see `broker_failures`.
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


@contextmanager
def broker_failures(amqp_url: str) -> Generator[None]:
    """The library's failures enter here. Raises `Failure(broker_unavailable)`, which says of which broker, and why."""
    from aio_pika.exceptions import AMQPError

    try:
        yield
    except (AMQPError, OSError, TimeoutError) as error:
        reason = plainly(str(error)) or type(error).__name__
        raise Failure(FailureCode.BROKER_UNAVAILABLE, f"{without_users(amqp_url)}: {reason}") from error
