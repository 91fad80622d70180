"""A real edge in this process, on a free port: the application, uvicorn, and clients that speak to it over sockets."""

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import aio_pika
import httpx
import msgspec
import uvicorn

from contracts import topology
from contracts.events import AnyEvent
from contracts.wire import encode
from edge.app import build
from edge.settings import EdgeSettings

WAIT_S = 60.0
"""How long a test waits for what must come."""


class _Server(uvicorn.Server):
    """uvicorn that leaves the signals to the test runner."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


class EdgeServer(msgspec.Struct, frozen=True):
    url: str


@asynccontextmanager
async def serving(amqp_url: str, storage: Path, **settings: object) -> AsyncGenerator[EdgeServer]:
    """An edge that listens; it may not have reached the broker yet."""
    made = msgspec.convert({"amqp_url": amqp_url, "storage_dir": str(storage), **settings}, EdgeSettings)
    config = uvicorn.Config(
        build(made), port=0, loop="none", http="httptools", lifespan="on", log_config=None, access_log=False
    )
    server = _Server(config)
    serve = asyncio.create_task(server.serve())
    while not server.started:
        assert not serve.done(), serve.exception()
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield EdgeServer(f"http://127.0.0.1:{port}")
    finally:
        server.should_exit = server.force_exit = True
        await serve


class Sent(msgspec.Struct, frozen=True):
    """One block of a server-sent stream."""

    id: int | None = None
    name: str | None = None
    data: str | None = None
    comment: str | None = None

    @property
    def sequence(self) -> int:
        assert self.data is not None
        return msgspec.json.decode(self.data)["sequence"]


class Stream:
    """What a listener receives."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._lines = response.aiter_lines()

    async def block(self) -> Sent:
        fields: dict[str, object] = {}
        async with asyncio.timeout(WAIT_S):
            async for line in self._lines:
                name, _, value = line.partition(": ")
                match name:
                    case "":
                        if line.startswith(":"):
                            fields["comment"] = value
                        elif fields:
                            return Sent(**fields)
                    case "id":
                        fields["id"] = int(value)
                    case "event":
                        fields["name"] = value
                    case "data":
                        fields["data"] = value
        raise EOFError

    async def event(self) -> Sent:
        """The next block that has data."""
        while (block := await self.block()).data is None:
            pass
        return block

    async def events(self, count: int) -> list[Sent]:
        return [await self.event() for _ in range(count)]


@asynccontextmanager
async def listening(
    edge: EdgeServer, *, last_event_id: str | int | None = None, token: str | None = None, **query: str
) -> AsyncGenerator[tuple[Stream, Sent]]:
    """A listener that has been told where it stands: the stream, and that first block."""
    headers = {} if last_event_id is None else {"Last-Event-ID": str(last_event_id)}
    headers |= {} if token is None else {"Authorization": f"Bearer {token}"}
    async with (
        httpx.AsyncClient(timeout=WAIT_S, trust_env=False) as client,
        client.stream("GET", f"{edge.url}/detect/stream", headers=headers, params=query) as response,
    ):
        assert response.status_code == 200, await response.aread()
        stream = Stream(response)
        opening = await stream.block()
        while opening.id is None:
            opening = await stream.block()
        yield stream, opening


class Publisher:
    """What a consumer does to the broker."""

    def __init__(self, channel: aio_pika.abc.AbstractChannel) -> None:
        self.channel = channel

    async def events(self, *events: AnyEvent) -> None:
        exchange = await self.channel.get_exchange(topology.EVENTS, ensure=False)
        for event in events:
            await exchange.publish(aio_pika.Message(encode(event)), topology.event_key(event))

    async def message(self, body: bytes) -> None:
        """Something in the log that is no event."""
        exchange = await self.channel.get_exchange(topology.EVENTS, ensure=False)
        await exchange.publish(aio_pika.Message(body), "frame.free")


@asynccontextmanager
async def publishing(amqp_url: str) -> AsyncGenerator[Publisher]:
    connection = await aio_pika.connect(amqp_url)
    async with connection:
        channel = await connection.channel(on_return_raises=True)
        await topology.declare(channel)
        yield Publisher(channel)
