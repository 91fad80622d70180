"""Real classes that stand in for the broker in tests of the consumer."""

import asyncio
from collections.abc import Sequence

from consumers.outgoing import Outgoing, Undelivered
from contracts import topology, wire
from contracts.events import AnyEvent, FrameDetected, TaskEnded


class FakeBroker:
    """Keeps what is sent to it, in the order in which it arrived."""

    def __init__(self, *, fails: Sequence[int] = (), is_away: bool = False) -> None:
        self.messages: list[Outgoing] = []
        self.waiting = 0
        self.waiting_max = 0
        self.is_away = is_away
        self._fails = set(fails)
        self._attempts = 0
        self._confirms = asyncio.Event()
        self._confirms.set()

    async def send(self, message: Outgoing) -> None:
        """Raises `Undelivered` for the attempts named in `fails`, counted from 0, and while the broker is away."""
        attempt, self._attempts = self._attempts, self._attempts + 1
        self.waiting += 1
        self.waiting_max = max(self.waiting, self.waiting_max)
        is_lost = self.is_away or attempt in self._fails
        if not is_lost:
            self.messages.append(message)
        try:
            await asyncio.sleep(0)
            await self._confirms.wait()
        finally:
            self.waiting -= 1
        if is_lost:
            raise Undelivered(message.type)

    def hold_confirms(self) -> None:
        self._confirms.clear()

    def confirm_all(self) -> None:
        self._confirms.set()

    def of(self, exchange: str) -> list[Outgoing]:
        return [message for message in self.messages if message.exchange == exchange]

    @property
    def events(self) -> list[AnyEvent]:
        return [wire.decode_event(message.body) for message in self.of(topology.EVENTS)]

    @property
    def reports(self) -> list[FrameDetected]:
        return [event for event in self.events if isinstance(event, FrameDetected)]

    @property
    def ends(self) -> list[TaskEnded]:
        return [event for event in self.events if isinstance(event, TaskEnded)]
