"""The Annotations service is told: wake-ups come in, and where a medium has its turn, `telling` makes its posts.

A wake-up says of which task; what to tell lies in the storage, and a cursor there says what was confirmed. So a wake-up may
come twice, late, or while somebody else tells: whoever tells looks once more when done, and an edge that dies has not
acknowledged the wake-up for which it told. What fails is tried again after a delay that grows; the wake-up waits in the broker.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta

import structlog
from aio_pika.abc import AbstractConnection, AbstractIncomingMessage

from contracts import topology
from contracts.crashpoints import crashpoint
from contracts.failures import Failure
from contracts.message_spans import trace_of
from contracts.posts import DeadPost, WakeUp
from contracts.storage import Layout
from contracts.trace_context import continued
from contracts.wire import decode_outgoing
from edge.again_later import again_later, left_alone_if_broken
from edge.broker import BROKER_ERRORS, complete_topology
from edge.deliveries import consuming
from edge.metrics import OUTBOX_OLDEST_SECONDS, OUTBOX_TASKS
from edge.posting_line import Delay, Line, Telling, TurnLostError, backlog_in
from edge.telling import JITTER, PosterParts, Teller
from edge.turns import Turn

HEARTBEATS_PER_LEASE = 3

_log = structlog.get_logger()
_WAITS = "a post has to wait"


class Poster:
    """Takes wake-ups, and has each medium told of by one edge at a time."""

    def __init__(self, parts: PosterParts) -> None:
        self._parts = parts
        self._settings = parts.settings
        self._sender = parts.sender
        self._teller = Teller(parts)
        self._layout = Layout(parts.settings.storage)
        self._telling: set[str] = set()
        """Media that this edge tells of right now."""
        self._woken_again: set[str] = set()
        self._taken: set[asyncio.Task[None]] = set()

    async def serve(self, connection: AbstractConnection) -> None:
        """Take wake-ups until the connection is gone; what is being told goes on without it."""
        await complete_topology(connection)
        prefetch = self._settings.posts_in_flight_max
        async with consuming(connection, topology.OUTBOX, prefetch=prefetch) as messages:
            async for message in messages:
                taken = asyncio.create_task(self._take(message))
                self._taken.add(taken)
                taken.add_done_callback(self._taken.discard)

    async def run(self) -> None:
        """Look for tasks whose wake-up was lost, now and then for ever; at the end let go of what is being told."""
        try:
            while True:
                await asyncio.sleep(self._settings.post_scan_s)
                with again_later(_WAITS):
                    await self._scan()
        finally:
            for taken in self._taken:
                taken.cancel()
            await asyncio.gather(*self._taken, return_exceptions=True)

    async def _scan(self) -> None:
        backlog = await asyncio.to_thread(backlog_in, self._layout.posting, now=self._parts.clock())
        OUTBOX_TASKS.set(backlog.tasks)
        OUTBOX_OLDEST_SECONDS.set(backlog.failing_s)
        for task_id in await asyncio.to_thread(self._kept):
            with again_later(_WAITS, task_id=task_id):
                await self.wake(WakeUp(task_id=task_id))

    async def _take(self, message: AbstractIncomingMessage) -> None:
        """Do what a message says, for as long as storage or broker are away, and acknowledge it."""
        is_again, is_done = bool(message.redelivered), False
        while not is_done:
            with again_later(_WAITS), continued(trace_of(message.headers)):
                with left_alone_if_broken(
                    task_id=str(message.headers.get(topology.TASK_ID_HEADER))
                ):  # the scan comes back
                    await self._handle(message, is_again=is_again)
                is_done = True
            if not is_done:
                is_again = True
                await asyncio.sleep(self._settings.dead_letter_retry_s)
        crashpoint("edge.wake.done")
        with contextlib.suppress(*BROKER_ERRORS):  # it will be delivered again
            await message.ack()

    async def _handle(self, message: AbstractIncomingMessage, *, is_again: bool) -> None:
        try:
            said = decode_outgoing(message.body)
        except Failure as failure:
            _log.warning("unreadable wake-up", code=failure.code, detail=failure.detail)
            return
        match said:
            case DeadPost() if message.exchange:
                # an operator sends it straight to the queue; what comes through an exchange any consumer may have published
                _log.warning("a post that nobody may ask for", task_id=said.task_id, exchange=message.exchange)
            case DeadPost():
                await self._sender.replay(said)
            case WakeUp():
                await self.wake(said, is_again=is_again)
            case event:
                await self.wake(WakeUp(task_id=event.task_id), is_again=is_again)

    async def wake(self, wake: WakeUp, *, is_again: bool = False) -> None:
        """Tell what there is to tell of a task and of others of its medium.

        is_again: an edge that began to do so may have died. Raises `OSError`, `Failure` broker_unavailable.
        """
        subject = await asyncio.to_thread(self._parts.posts.subject, wake.task_id)
        if subject is None:
            if await asyncio.to_thread(self._parts.posts.is_without_medium, wake.task_id):
                await self._sender.tokens.forget(wake.task_id)
            return
        line = self._line(subject.media_id)
        await asyncio.to_thread(line.enlist, subject.place)
        crashpoint("edge.post.enlisted")
        delay = await asyncio.to_thread(line.delay)
        if delay is not None and not is_again and not self._is_time(delay, wake):
            return
        if line.media_id in self._telling:
            self._woken_again.add(line.media_id)
            return
        self._telling.add(line.media_id)
        try:
            is_taken = await self._tell_until_done(line)
        finally:
            self._telling.discard(line.media_id)
            self._woken_again.discard(line.media_id)
        if not is_taken and is_again:  # whoever seems to tell may be the edge that died
            tries = delay.tries if delay else 0
            later = WakeUp(task_id=wake.task_id, attempt=tries)
            await self._sender.outbox.wake_later(later, step=0, delay_s=self._settings.post_lease_s * (1 + JITTER))

    async def _tell_until_done(self, line: Line) -> bool:
        """False if another edge tells of the medium: it looks once more when it is done, so nothing is missed."""
        while (turn := await asyncio.to_thread(line.claim)) is not None:
            self._woken_again.discard(line.media_id)
            crashpoint("edge.post.claimed")
            try:
                async with self._kept_alive(line, turn):
                    is_put_off = await self._teller.tell_all(line, turn)
            except TurnLostError:  # we were silent for too long, and another edge goes on
                return True
            finally:  # whoever tries again, we or another edge, need not wait until we seem dead
                await asyncio.to_thread(line.release, turn)
            if is_put_off:
                return True
            if not await asyncio.to_thread(self._teller.has_due, line) and line.media_id not in self._woken_again:
                return True
        return False

    @asynccontextmanager
    async def _kept_alive(self, line: Line, turn: Turn[Telling]) -> AsyncGenerator[None]:
        async def beat() -> None:
            while True:
                await asyncio.sleep(self._settings.post_lease_s / HEARTBEATS_PER_LEASE)
                await asyncio.to_thread(line.renew, turn)

        beating = asyncio.create_task(beat())
        try:
            yield
        finally:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)

    def _line(self, media_id: str) -> Line:
        stale_after = timedelta(seconds=self._settings.post_lease_s)
        return Line(self._layout, media_id, edge=self._parts.edge, stale_after=stale_after, clock=self._parts.clock)

    def _is_time(self, delay: Delay, wake: WakeUp) -> bool:
        """Whether a wake-up is the one that was to come, or should have come long ago."""
        is_overdue = self._parts.clock() - delay.due_at > timedelta(seconds=self._settings.post_scan_s)
        return wake.attempt == delay.tries or is_overdue

    def _kept(self) -> list[str]:
        """Tasks with tokens, which are kept for as long as there is something to tell."""
        return [path.parent.name for path in self._layout.tasks.glob("*/credentials")]
