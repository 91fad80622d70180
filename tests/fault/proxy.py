"""A TCP proxy that does to connections what networks do: cut, reset, hold up, drip, fall silent."""

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

_PIECE_BYTES = 64 * 1024
_END_S = 5.0
"""How long the two ends of a connection that was cut may take to see it."""
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER with 0 s: closing sends RST


class Proxy:
    """Listens on a port of its own for one server. What is set counts for connections that stand and those to come."""

    def __init__(self, port: int) -> None:
        self.delay_s = 0.0
        """Before each piece is passed on."""
        self.drip_bytes: int | None = None
        """Pieces no larger than this, with the delay before each."""
        self.is_refusing = False
        """True: a new connection is reset at once."""
        self.port = 0
        self.accepted = 0
        """Connections that clients have opened so far."""
        self.passed_bytes = 0
        """Bytes from clients to the server so far."""
        self._target = ("127.0.0.1", port)
        self._passing = asyncio.Event()
        self._passing.set()
        self._links: set[_Link] = set()
        self._handlers: set[asyncio.Task[Any]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        self.speak()
        self.cut()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
        if self._handlers:
            await asyncio.wait(self._handlers, timeout=_END_S)

    @property
    def connections(self) -> int:
        return len(self._links)

    def cut(self) -> None:
        """End every connection in good order (FIN), on both sides."""
        for link in tuple(self._links):
            link.close()

    def reset(self) -> None:
        """Break every connection (RST), on both sides."""
        for link in tuple(self._links):
            link.reset()

    def reset_some(self, chance: random.Random) -> None:
        """Break each connection, or leave it."""
        for link in tuple(self._links):
            if chance.random() < 0.5:
                link.reset()

    def lose_clients(self) -> None:
        """Break every connection for its client alone: the server believes in it until heartbeats stay away."""
        for link in tuple(self._links):
            link.lose_client()

    def fall_silent(self) -> None:
        """Pass nothing on in either direction and close nothing: a half-open connection, a cable that was pulled."""
        self._passing.clear()

    def speak(self) -> None:
        """Pass on what was held back, and what comes."""
        self._passing.set()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        link = _Link(writer)
        if self.is_refusing:
            link.reset()
            return
        try:
            to_server = await asyncio.open_connection(*self._target)
        except OSError:
            link.reset()
            return
        link.add(to_server[1])
        self._links.add(link)
        handler = asyncio.current_task()
        assert handler is not None
        self._handlers.add(handler)
        try:
            await asyncio.gather(
                self._pass_on(link, reader, to_server[1], is_upwards=True), self._pass_on(link, to_server[0], writer)
            )
        finally:
            self._handlers.discard(handler)
            self._links.discard(link)
            link.close()

    async def _pass_on(
        self, link: "_Link", reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_upwards: bool = False
    ) -> None:
        """Until one side ends or breaks; then the other is told in the same way."""
        with contextlib.suppress(OSError):
            while piece := await reader.read(self.drip_bytes or _PIECE_BYTES):
                await asyncio.sleep(self.delay_s)
                await self._passing.wait()
                if link.has_lost_its_client:
                    continue
                writer.write(piece)
                await writer.drain()
                self.passed_bytes += len(piece) if is_upwards else 0
            if not link.has_lost_its_client:
                writer.write_eof()


class _Link:
    """The two sockets of a connection."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writers = [writer]
        self.has_lost_its_client = False

    def add(self, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)

    def close(self) -> None:
        for writer in self._writers:
            writer.close()

    def reset(self) -> None:
        for writer in self._writers:
            _break(writer)

    def lose_client(self) -> None:
        self.has_lost_its_client = True
        _break(self._writers[0])


def _break(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()


@asynccontextmanager
async def proxy_to(port: int) -> AsyncGenerator[Proxy]:
    """A proxy in front of a port of this machine."""
    proxy = Proxy(port)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.stop()


class ProxyBeside:
    """A proxy in a thread of its own, for tests that are no coroutines."""

    def __init__(self, proxy: Proxy, loop: asyncio.AbstractEventLoop) -> None:
        self.port = proxy.port
        self._proxy = proxy
        self._loop = loop

    def do(self, action: Callable[[Proxy], None]) -> None:
        """Return when it is done."""

        async def act() -> None:
            action(self._proxy)

        asyncio.run_coroutine_threadsafe(act(), self._loop).result()


@contextmanager
def proxy_beside(port: int) -> Generator[ProxyBeside]:
    """A proxy in front of a port of this machine."""
    loop, proxy = asyncio.new_event_loop(), Proxy(port)
    loop.run_until_complete(proxy.start())
    thread = threading.Thread(target=loop.run_forever, name="proxy")
    thread.start()
    try:
        yield ProxyBeside(proxy, loop)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.run_until_complete(proxy.stop())
        loop.close()


def through(port: int, amqp_url: str) -> str:
    """The URL of a virtual host, by the proxy at that port."""
    return f"amqp://guest:guest@127.0.0.1:{port}/{amqp_url.rpartition('/')[2]}"
