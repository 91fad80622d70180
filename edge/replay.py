"""Reading the log for listeners whose place has left the ring: in turns, so that a stalled one never holds a reader."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import msgspec
from aio_pika.abc import AbstractConnection

from edge import log
from edge.broker import BrokerLostError, until_closed
from edge.racing import first_of
from edge.ring import BROKER_RECORDS, Wanted, encode_event
from edge.settings import EdgeSettings
from edge.shown import Shown

READINGS_MAX = 2_000
"""On one connection: with each channel that is opened on it a connection of aiormq grows by 4 kB until it ends."""


class Turn(msgspec.Struct, frozen=True):
    """What one turn read."""

    text: bytes
    """Server-sent events, possibly none."""
    next_offset: int
    """Where to go on."""
    oldest_offset: int | None = None
    """Where the log begins, if that is after the place asked for: what lay between is gone."""


class Replay:
    """Reads the log on a connection of its own, for a bounded number of listeners at a time."""

    def __init__(self, settings: EdgeSettings) -> None:
        self.settings = settings
        self._connection: AbstractConnection | None = None
        self._readings = 0
        self._worn = asyncio.Event()
        self._slots = asyncio.Semaphore(settings.log_readers_max)

    async def serve(self, connection: AbstractConnection) -> None:
        """Read on this connection until it is gone, or has been read on so often that it has to go."""
        watched = await connection.channel()
        self._connection, self._readings = connection, 0
        self._worn.clear()
        try:
            await first_of(until_closed(watched), self._worn.wait())
        finally:
            self._connection = None
        if self._worn.is_set():
            await asyncio.sleep(self.settings.log_lease_s)  # who reads may finish

    @asynccontextmanager
    async def reading(self, offset: int) -> AsyncGenerator[AsyncIterator[log.Logged]]:
        """The log from `offset` on, once it is this reader's turn. Raises `BrokerLostError`, what the broker raises."""
        async with self._slots:
            if self._connection is None:
                raise BrokerLostError("not connected to the broker")
            self._readings += 1
            if self._readings >= READINGS_MAX:
                self._worn.set()
            async with log.reading(self._connection, offset, prefetch=self.settings.log_turn_prefetch) as messages:
                yield messages


class LogReader:
    """One listener's way through the log, from its place until it is back in the ring.

    It keeps what it has opened from turn to turn, but no longer than a lease: a listener that stalls, or has far to go, does
    not keep others from reading.
    """

    def __init__(self, replay: Replay, wanted: Wanted) -> None:
        self._replay = replay
        self._settings = replay.settings
        self._wanted = wanted
        self._shown: Shown | None = None
        self._turning = asyncio.Lock()
        self._opened: AsyncExitStack | None = None
        self._messages: AsyncIterator[log.Logged] | None = None
        self._at = 0
        self._lease: asyncio.Task[None] | None = None

    async def turn(self, offset: int, *, until: int) -> Turn:
        """The wanted events from `offset` to before `until`, a bounded number of them.

        The first turn begins a window earlier, to learn what the listener was shown. Raises `BrokerLostError`, what the
        broker raises, `TimeoutError`.
        """
        async with self._turning:
            try:
                messages = self._messages if self._at == offset else None
                messages = messages or await self._open(offset)
                async with asyncio.timeout(self._settings.log_turn_timeout_s):
                    turn = await self._read(messages, offset, until)
            except BaseException:
                self._shown = None  # what was read in between is lost
                await self._close()
                raise
            self._at = turn.next_offset
            return turn

    async def _open(self, offset: int) -> AsyncIterator[log.Logged]:
        await self._close()
        start = offset if self._shown else max(0, offset - self._settings.log_window_events)
        self._shown = self._shown or Shown(tasks_max=self._settings.log_window_tasks_max)
        self._opened = AsyncExitStack()
        self._messages = await self._opened.enter_async_context(self._replay.reading(start))
        self._lease = asyncio.create_task(self._end_lease())
        return self._messages

    async def _end_lease(self) -> None:
        await asyncio.sleep(self._settings.log_lease_s)
        async with self._turning:
            self._lease = None
            await self._close()

    async def _close(self) -> None:
        if self._lease is not None:
            self._lease.cancel()
        opened, self._opened, self._messages, self._lease = self._opened, None, None, None
        if opened is not None:
            await opened.aclose()

    async def _read(self, messages: AsyncIterator[log.Logged], offset: int, until: int) -> Turn:
        texts: list[bytes] = []
        room = self._settings.stream_send_bytes_max
        first: int | None = None
        async for message in messages:
            first = message.offset if first is None else first
            text = self._text(message)
            if text and message.offset >= offset:
                texts.append(text)
                room -= len(text)
            following = message.offset + 1
            if following >= until or room <= 0 or following - offset >= self._settings.log_turn_events_max:
                return Turn(b"".join(texts), following, first if first > offset + BROKER_RECORDS else None)
        raise BrokerLostError("the log ended")

    def _text(self, message: log.Logged) -> bytes:
        """The event as this listener sees it; empty if it does not."""
        event = message.event
        if event is None or self._shown is None or self._wanted.task_id not in {None, event.task_id}:
            return b""
        news = self._shown.admit(event)
        if news is None or not self._wanted.matches(news):
            return b""
        return encode_event(message.offset, news).text
