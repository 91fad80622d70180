"""Tickets: what a browser puts into the address of its event stream, where a token must never be.

A ticket is sealed, lives 30 s, and lets one stream in on whatever edge of the storage. That it is used once is decided by
the file system: its number is created exclusively. An unused one leaves nothing behind.
"""

import asyncio
import base64
import contextlib
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from contracts.failures import Failure, FailureCode
from contracts.storage import Layout
from edge.auth import Caller
from edge.vault import Sealer

LIVES_S = 30
TICKET_CHARS_MAX = 2_048
USED_KEPT_S = 3_600.0
"""How long a used number is remembered: far longer than it lives, whatever the edges' clocks say."""


class TicketIssued(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The answer of `POST /detect/stream/ticket`."""

    ticket: str
    """For `GET /detect/stream?ticket=...`, once."""
    expires_in: int = LIVES_S
    """s"""


class _Ticket(msgspec.Struct, frozen=True, kw_only=True, tag="ticket"):
    number: str
    user_id: str | None
    sees_all: bool
    expires_at_s: float
    let_in_until_s: float | None = None
    """Of the token that it was traded for: a stream lives no longer by a ticket than by its token."""


class Tickets:
    """Issues tickets and takes them in."""

    def __init__(self, sealer: Sealer, layout: Layout, *, clock_s: Callable[[], float] = time.time) -> None:
        self._sealer = sealer
        self._layout = layout
        self._clock_s = clock_s

    async def issue(self, caller: Caller) -> TicketIssued:
        """A ticket that stands for this caller."""
        ticket = _Ticket(
            number=secrets.token_hex(16),
            user_id=caller.user_id,
            sees_all=caller.sees_only is None,
            expires_at_s=self._clock_s() + LIVES_S,
            let_in_until_s=caller.let_in_until_s,
        )
        sealed = await asyncio.to_thread(self._sealer.encrypt, msgspec.json.encode(ticket))
        return TicketIssued(ticket=sealed.rstrip(b"=").decode())

    async def take(self, text: str) -> Caller:
        """Whom the ticket stands for; from now on it is used. Raises `Failure(unauthenticated)`."""
        ticket = await asyncio.to_thread(self._take, text)
        if ticket is None:
            raise Failure(FailureCode.UNAUTHENTICATED, f"the ticket is none, is older than {LIVES_S} s, or was used")
        sees_only = None if ticket.sees_all else ticket.user_id
        return Caller(user_id=ticket.user_id, sees_only=sees_only, let_in_until_s=ticket.let_in_until_s)

    def stale(self) -> Iterator[Path]:
        """The used numbers that nobody asks for any more."""
        for path in self._layout.tickets.glob("*"):
            with contextlib.suppress(OSError):
                if self._clock_s() - path.stat().st_mtime > USED_KEPT_S:
                    yield path

    def _take(self, text: str) -> _Ticket | None:
        """The ticket in the text; None if it is none of ours, too old, or was used."""
        try:
            sealed = base64.urlsafe_b64encode(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
            ticket = msgspec.json.decode(self._sealer.decrypt(sealed) or b"", type=_Ticket)
        except (ValueError, msgspec.DecodeError):
            return None
        return ticket if self._clock_s() < ticket.expires_at_s and self._use(ticket) else None

    def _use(self, ticket: _Ticket) -> bool:
        """True for the first who uses it, on whatever edge."""
        self._layout.tickets.mkdir(parents=True, exist_ok=True)
        try:
            (self._layout.tickets / ticket.number).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True
