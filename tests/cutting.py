"""A line between a client and a server that breaks where a test wants it to: in mid-stream, without a goodbye."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

READ_BYTES = 16 * 1024


class Line:
    """Forwards connections to a port; `cut_after` says where the next ones break."""

    def __init__(self, port: int) -> None:
        self.port = 0
        self.cut_after: list[int] = []
        """Bytes from the client after which a connection is reset, one entry for each reset."""
        self.cuts = 0
        self._to = port
        self._open: set[asyncio.StreamWriter] = set()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until one of its ends or the line breaks it."""
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:
            writer.transport.abort()
            return
        ends = {writer, up_writer}
        self._open |= ends
        back = asyncio.create_task(_pump(up_reader, writer))
        with contextlib.suppress(OSError):
            await self._forward(reader, up_writer)
        for end in ends:
            end.transport.abort()
        self._open -= ends
        await asyncio.gather(back, return_exceptions=True)

    def break_all(self) -> None:
        for writer in self._open:
            writer.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        carried = 0
        while part := await reader.read(READ_BYTES):
            if self.cut_after:
                part = part[: max(0, self.cut_after[0] - carried)]
            writer.write(part)
            await writer.drain()
            carried += len(part)
            if self.cut_after and carried >= self.cut_after[0]:
                self.cut_after.pop(0)
                self.cuts += 1
                return


@asynccontextmanager
async def line_to(port: int) -> AsyncGenerator[Line]:
    line = Line(port)
    server = await asyncio.start_server(line.carry, "127.0.0.1", 0)
    line.port = server.sockets[0].getsockname()[1]
    try:
        yield line
    finally:
        server.close()
        line.break_all()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while part := await reader.read(READ_BYTES):
            writer.write(part)
            await writer.drain()
        writer.close()
