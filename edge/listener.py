"""What one listener is sent, from its first byte to its last."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable

import msgspec
import structlog

from contracts.failures import Failure
from edge.broker import BROKER_ERRORS
from edge.feed import TICKS_PER_HEARTBEAT, Feed
from edge.metrics import SSE_GAPS, SSE_REPLAYS
from edge.replay import LogReader, Replay
from edge.ring import Wanted

RECONNECT_MS = 1_000
"""When a listener whose connection broke comes back, by the standard's `retry` field."""
_POLL_S = 0.25
"""How often a listener that waits for its turn at the log looks whether the edge stops."""
_RETRY_S = 1.0
"""After the log could not be read."""
_OFFSET_DIGITS_MAX = 18

_log = structlog.get_logger()
_encoder = msgspec.json.Encoder()


class Gap(msgspec.Struct, frozen=True, rename="camel"):
    """Data of the event `gap`: what lay between is not in the log, and may have been seen or not."""

    asked_for: str
    """The listener's `Last-Event-ID`, or the last id it was sent."""
    goes_on_after: int


class Listener:
    """One listener: its filter and its place in the log."""

    def __init__(
        self,
        feed: Feed,
        replay: Replay,
        wanted: Wanted,
        *,
        send_bytes_max: int,
        until_s: float | None = None,
        clock_s: Callable[[], float] = time.time,
    ) -> None:
        """until_s: when it has to let go, on `clock_s`; seen at its next event or tick, whichever comes first."""
        self._feed = feed
        self._replay = replay
        self._wanted = wanted
        self._send_bytes_max = send_bytes_max
        self._until_s = float("inf") if until_s is None else until_s
        self._clock_s = clock_s
        self._next = feed.ring.next
        self._asked_for = ""
        self._last_tick = feed.ticks
        self._reader: LogReader | None = None
        self._pending: asyncio.Task[bytes] | None = None

    async def events(self, last_event_id: str | None) -> AsyncGenerator[bytes, None]:
        """Server-sent events until the edge stops or `until_s`; without `last_event_id` what happens from now on."""
        try:
            with self._feed.counted(lambda: self._next):
                while not self._feed.is_live and not self._is_over:
                    await self._feed.changed()
                    if self._is_silent():
                        yield b": the log is not read yet\n\n"
                yield self._opening(last_event_id or None)
                while not self._is_over:
                    before = self._next
                    text = await self._step()
                    if text or self._is_silent():
                        yield text or b": heartbeat\nid: %d\n\n" % (self._next - 1)
                        self._feed.first_writes.wrote(before, self._next, self._wanted)
                if self._has_expired:
                    yield b"event: expired\nid: %d\ndata: {}\n\n" % (self._next - 1)
        finally:
            if self._pending:
                self._pending.cancel()

    @property
    def _has_expired(self) -> bool:
        return self._clock_s() >= self._until_s

    @property
    def _is_over(self) -> bool:
        return self._feed.is_closing or self._has_expired

    def _opening(self, last_event_id: str | None) -> bytes:
        """Say where this listener stands, so that a drop before the first event is resumable."""
        self._asked_for = last_event_id or ""
        self._next = self._feed.ring.next
        retry = b"retry: %d\n" % RECONNECT_MS
        if last_event_id and not _is_offset(last_event_id):
            return retry + self._gap(self._next)
        if last_event_id:
            self._next = int(last_event_id) + 1
        return retry + b"id: %d\n\n" % (self._next - 1)

    async def _step(self) -> bytes:
        """What comes next, empty if nothing came for a while: from the ring, where this listener usually is."""
        ring = self._feed.ring
        if self._pending or not ring.first <= self._next <= ring.next:
            return await self._step_aside()
        self._reader = None
        taken = ring.take(self._next, self._wanted, bytes_max=self._send_bytes_max)
        if taken.next_offset == self._next:
            await self._feed.changed()
        elif not taken.text:
            await asyncio.sleep(0)  # the filter lets little through: others are served in between
        self._next = taken.next_offset
        return taken.text

    async def _step_aside(self) -> bytes:
        """As `_step`, outside of the ring, where things take time: they go on in a task while heartbeats are sent."""
        if self._pending is None:
            is_behind = self._next < self._feed.ring.first
            self._pending = asyncio.create_task(self._read_log() if is_behind else self._look_for_the_end())
        await asyncio.wait({self._pending}, timeout=_POLL_S)
        if not self._pending.done():
            return b""
        text, self._pending = self._pending.result(), None
        return text

    async def _read_log(self) -> bytes:
        if self._reader is None:
            self._reader = LogReader(self._replay, self._wanted)
            SSE_REPLAYS.inc()
        try:
            turn = await self._reader.turn(self._next, until=self._feed.ring.next)
        except BROKER_ERRORS as error:
            _log.warning("a listener cannot read the log", reason=f"{type(error).__name__}: {error}")
            await asyncio.sleep(_RETRY_S)
            return b""
        gap = b"" if turn.oldest_offset is None else self._gap(turn.oldest_offset)
        self._next = turn.next_offset
        return gap + turn.text

    async def _look_for_the_end(self) -> bytes:
        """The place is beyond what this edge has read: another edge may be ahead, or the log is another one."""
        try:
            is_reached = await self._feed.reaches(self._next - 1)
        except (Failure, *BROKER_ERRORS):
            await asyncio.sleep(_RETRY_S)
            return b""
        if is_reached:
            return b""
        return self._gap(self._feed.ring.next)

    def _gap(self, next_offset: int) -> bytes:
        """Go on at `next_offset`, and say so."""
        SSE_GAPS.inc()
        asked_for = self._asked_for or str(self._next - 1)
        self._next = next_offset
        data = _encoder.encode(Gap(asked_for=asked_for, goes_on_after=next_offset - 1))
        return b"event: gap\nid: %d\ndata: %b\n\n" % (next_offset - 1, data)

    def _is_silent(self) -> bool:
        """Whether the next tick would come too late for the next heartbeat; from then on it is not."""
        if self._feed.ticks - self._last_tick < TICKS_PER_HEARTBEAT - 1:
            return False
        self._last_tick = self._feed.ticks
        return True


def _is_offset(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _OFFSET_DIGITS_MAX
