"""Whether a broker takes messages on a connection: one in alarm says so (`connection.blocked`, a RabbitMQ extension)."""

import asyncio
from collections.abc import Awaitable
from typing import Protocol


class Transport(Protocol):
    """What carries an aio-pika connection; it is ready while the broker takes messages."""

    def ready(self) -> Awaitable[object]: ...


async def is_flowing(transport: Transport | None) -> bool:
    """False while the broker is in alarm, or there is no connection (None). It tells only those who have published."""
    if transport is None:
        return False
    try:
        async with asyncio.timeout(0):  # what is ready does not wait
            await transport.ready()
    except TimeoutError:
        return False
    return True
