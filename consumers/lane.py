"""Messages of one task in order, with several confirms in flight."""

import asyncio
from collections import deque
from types import TracebackType
from typing import Self

import msgspec

from consumers.outgoing import Outgoing, Sender, Undelivered
from contracts.crashpoints import crashpoint

IN_FLIGHT_MAX = 16
"""Messages of one task that wait for their confirm; the next one waits for the oldest."""
RESEND_PAUSES_S = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 5.0)
"""Pauses between attempts to send again what was not confirmed; after the last one the task is given back."""


class _Sent(msgspec.Struct, frozen=True):
    message: Outgoing
    task: "asyncio.Task[None]"

    @property
    def has_failed(self) -> bool:
        return self.task.done() and not self.task.cancelled() and self.task.exception() is not None


class Lane:
    """Sends messages in the order in which they were given.

    A message that fails takes all later ones with it: they are sent again behind it, since a reader that has seen number 8
    ignores a later 7.
    """

    def __init__(self, sender: Sender, *, in_flight_max: int = IN_FLIGHT_MAX) -> None:
        self._sender = sender
        self._in_flight_max = in_flight_max
        self._sent: deque[_Sent] = deque()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for sent in self._sent:
            sent.task.cancel()
        await asyncio.gather(*(sent.task for sent in self._sent), return_exceptions=True)
        self._sent.clear()

    async def send(self, message: Outgoing) -> None:
        """Put a message on its way. Raises `Undelivered` when earlier ones could not be sent for good."""
        if any(sent.has_failed for sent in self._sent):
            await self._send_again()
        while len(self._sent) >= self._in_flight_max:
            await self._settle_oldest()
        self._sent.append(_Sent(message, asyncio.create_task(self._sender.send(message))))

    async def flush(self) -> None:
        """Return when everything is confirmed. Raises `Undelivered`."""
        while self._sent:
            await self._settle_oldest()

    async def _settle_oldest(self) -> None:
        oldest = self._sent[0]
        await asyncio.wait((oldest.task,))
        if oldest.has_failed:
            await self._send_again()
        else:
            self._sent.popleft()
            crashpoint("consumer.report.confirmed")

    async def _send_again(self) -> None:
        """Send what is not confirmed, one after the other, from the oldest on."""
        await asyncio.wait([sent.task for sent in self._sent])
        while self._sent and not self._sent[0].has_failed:
            self._sent.popleft()
        while self._sent:
            await self._insist(self._sent[0].message)
            self._sent.popleft()

    async def _insist(self, message: Outgoing) -> None:
        for pause_s in RESEND_PAUSES_S:
            try:
                return await self._sender.send(message)
            except Undelivered:
                await asyncio.sleep(pause_s)
        return await self._sender.send(message)
