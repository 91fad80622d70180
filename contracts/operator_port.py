"""A small HTTP port for whoever operates a process: its metrics and its probes, beside what it serves to others.

It answers GET alone, one request a connection, and runs in the process's own event loop: a loop that hangs does not answer.
It asks nobody who they are, so it listens where its setting says and nowhere else.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any

import msgspec

from contracts.settings import ConfigurationError

ADDRESS_PATTERN = r"^(\S+:([0-5]?\d{1,4}|6[0-4]\d{3}|65[0-4]\d\d|655[0-2]\d|6553[0-5]))?$"
"""`host:port`, an IPv6 host in brackets; empty: no such port. Port 0 takes a free one. A number beyond 65535 would not be
refused later: the event loop takes the rest of its division."""
REQUEST_TIMEOUT_S = 5.0
"""For the head of a request, and for an answer to be taken; then the connection is cut."""
HEAD_BYTES_MAX = 16_384
CONNECTIONS_MAX = 32
"""At a time; one more is closed at once."""

TEXT = "text/plain; charset=utf-8"


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """An answer."""

    body: bytes
    status: HTTPStatus = HTTPStatus.OK
    content_type: str = TEXT


Pages = Mapping[str, Callable[[], Awaitable[Page]]]
"""What is served, by its path."""


class Address(msgspec.Struct, frozen=True):
    """Where a port listens."""

    host: str
    port: int

    @property
    def url(self) -> str:
        return f"http://[{self.host}]:{self.port}" if ":" in self.host else f"http://{self.host}:{self.port}"


def address_of(text: str) -> Address:
    """The address in a setting of `ADDRESS_PATTERN`."""
    host, _, port = text.rpartition(":")
    return Address(host.strip("[]"), int(port))


@contextlib.asynccontextmanager
async def operator_port(text: str, pages: Pages, *, variable: str) -> AsyncGenerator[Address | None]:
    """Serve pages at an address for as long as the block runs; where it listens, None for the empty address.

    variable: that sets the address. Raises `ConfigurationError` if it is not to be had.
    """
    if not text:
        yield None
        return
    wanted = address_of(text)
    visitors = _Visitors(pages)
    try:
        server = await asyncio.start_server(visitors.answer, wanted.host, wanted.port, limit=HEAD_BYTES_MAX)
    except OSError as error:
        raise ConfigurationError(f"{variable}={text!r}: {error.strerror or error}") from error
    try:
        yield Address(wanted.host, server.sockets[0].getsockname()[1])
    finally:
        server.close()
        await visitors.leave()


class _Visitors:
    """Those who are being answered."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._writers: dict[asyncio.StreamWriter, asyncio.Task[Any] | None] = {}
        """Each with the one who answers."""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request, and hang up."""
        if len(self._writers) >= CONNECTIONS_MAX:
            writer.close()
            return
        self._writers[writer] = asyncio.current_task()
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                head = await reader.readuntil(b"\r\n\r\n")
            page = await self._page(head)
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                writer.write(_response(page))
                await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # whoever it was is gone, silent, or speaks no HTTP
        finally:
            del self._writers[writer]
            writer.close()

    async def leave(self) -> None:
        """Hang up on everybody; return when nobody is answered any more, or an answer hangs."""
        await asyncio.sleep(0)  # who came just now is counted from here on
        for writer in self._writers:
            writer.close()
        if answering := [task for task in self._writers.values() if task is not None]:
            await asyncio.wait(answering, timeout=REQUEST_TIMEOUT_S)

    async def _page(self, head: bytes) -> Page:
        method, _, rest = head.partition(b"\r\n")[0].partition(b" ")
        path = rest.partition(b" ")[0].partition(b"?")[0].decode("latin-1")
        if path not in self._pages:
            return Page(status=HTTPStatus.NOT_FOUND, body=b"not found\n")
        if method != b"GET":
            return Page(status=HTTPStatus.METHOD_NOT_ALLOWED, body=b"GET only\n")
        return await self._pages[path]()


def _response(page: Page) -> bytes:
    lines = (
        f"HTTP/1.1 {page.status} {page.status.phrase}",
        f"content-type: {page.content_type}",
        f"content-length: {len(page.body)}",
        "connection: close",
        "\r\n",
    )
    return "\r\n".join(lines).encode() + page.body
