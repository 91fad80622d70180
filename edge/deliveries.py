"""The messages of one queue in order, until consumer, channel or connection is gone; which is always noticed.

The library's own iterator waits for ever when the broker cancels its consumer (a deleted queue), and gives back, one by one,
whatever it holds when it is left.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Self

from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage

from edge.broker import BrokerLostError, close_quietly, process_name


class Deliveries(AsyncIterator[AbstractIncomingMessage]):
    """What the broker has sent and nobody has taken yet; its prefetch is the bound."""

    def __init__(self, queue: str) -> None:
        self._queue = queue
        self._waiting: deque[AbstractIncomingMessage] = deque()
        self._news = asyncio.Event()
        self._is_lost = False

    async def deliver(self, message: AbstractIncomingMessage) -> None:
        """Called by the library with each message."""
        self._waiting.append(message)
        self._news.set()

    def lose(self, *_: object) -> None:
        """Called by the library when no more will come."""
        self._is_lost = True
        self._news.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> AbstractIncomingMessage:
        """The next message. Raises `BrokerLostError`; what was already here comes first."""
        while not self._waiting:
            if self._is_lost:
                raise BrokerLostError(f"no longer consuming {self._queue}")
            self._news.clear()
            await self._news.wait()
        return self._waiting.popleft()


@asynccontextmanager
async def consuming(
    connection: AbstractConnection,
    queue: str,
    *,
    prefetch: int,
    no_ack: bool = False,
    arguments: Mapping[str, int | str] | None = None,
) -> AsyncGenerator[Deliveries]:
    """Consume an existing queue on a channel of its own. Raises what the broker raises."""
    deliveries = Deliveries(queue)
    channel = await connection.channel()
    try:
        await _notice_loss(channel, deliveries)
        await channel.set_qos(prefetch_count=prefetch)
        consumed = await channel.get_queue(queue, ensure=False)
        await consumed.consume(
            deliveries.deliver, no_ack=no_ack, arguments=dict(arguments or {}), consumer_tag=process_name()
        )
        yield deliveries
    finally:
        await close_quietly(channel)


async def _notice_loss(channel: AbstractChannel, deliveries: Deliveries) -> None:
    channel.close_callbacks.add(deliveries.lose)
    underlay = await channel.get_underlay_channel()
    underlay.on_consumer_cancel_callbacks.add(deliveries.lose)
