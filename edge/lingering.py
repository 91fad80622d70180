"""A connection that is closed while its client still sends: the answer must not be lost with it.

A socket that is closed with unread bytes is reset, and a reset takes with it what the client has not read yet: it would see
"connection reset" instead of why it was refused. So the answer is followed by the end of the stream, and what still comes is
thrown away until the client has gone, for a bounded time (RFC 9112, section 9.6).
"""

import asyncio
from collections.abc import Callable
from typing import Any

LINGER_S = 5.0
"""How long what a refused client still sends is thrown away before it is cut."""


class LingeringTransport:
    """A transport as uvicorn uses it; all but `close` and `is_closing` is that of the transport within."""

    def __init__(self, transport: asyncio.Transport, *, is_still_sending: Callable[[], bool]) -> None:
        """is_still_sending: whether more may come of a request, asked when the connection is closed."""
        self._transport = transport
        self._is_still_sending = is_still_sending
        self._cut: asyncio.TimerHandle | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    @property
    def is_lingering(self) -> bool:
        """True if all has been said, and what comes is to be thrown away."""
        return self._cut is not None

    def is_closing(self) -> bool:
        return self.is_lingering or self._transport.is_closing()

    def close(self) -> None:
        """Close, after the client if it is still sending; at once the second time."""
        if self.is_closing() or not self._is_still_sending():
            self.lost()
            self._transport.close()
            return
        self._cut = asyncio.get_running_loop().call_later(LINGER_S, self._transport.close)
        self._transport.write_eof()
        self._transport.resume_reading()

    def lost(self) -> None:
        """The connection is gone, or is not waited for."""
        if self._cut is not None:
            self._cut.cancel()
