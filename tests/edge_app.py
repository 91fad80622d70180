"""An edge's upload half with the rest faked, called over ASGI without sockets: a test decides when each chunk arrives."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from litestar import Litestar
from litestar.di import Provide

from contracts.storage import Layout
from edge import detect, tasks, uploads
from edge.annotations import Annotations
from edge.auth import Auth
from edge.cut_off import cut_off
from edge.failures import EXCEPTION_HANDLERS
from edge.owners import Owners
from edge.parts import IntakeParts
from edge.ports import Neighbours
from edge.request_end import request_end
from edge.request_trace import request_trace
from edge.settings import EdgeSettings
from edge.tokens import Tokens
from edge.vault import Sealer, Vault
from tests.fakes import FakeFeed, FakeOutbox, FakePresence

WAIT_S = 30.0
"""How long a test waits for what must come."""


class Answer(msgspec.Struct, frozen=True):
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return msgspec.json.decode(self.body)


class Edge:
    """The application, and everything around it that a test wants to look at."""

    def __init__(
        self,
        settings: EdgeSettings,
        *,
        presence: FakePresence,
        auth: Auth | None = None,
    ) -> None:
        self.outbox = FakeOutbox()
        self.feed = FakeFeed()
        self.presence = presence
        layout = Layout(settings.storage)
        annotations = Annotations(settings)
        self.tokens = Tokens(layout, Vault(Sealer("", layout)), annotations.refresh)
        owners = Owners(annotations, self.tokens)
        neighbours = Neighbours(outbox=self.outbox, feed=self.feed, presence=presence)
        self.parts = IntakeParts(settings, neighbours=neighbours, owners=owners)
        self.layout = self.parts.tasks.layout
        self.app = Litestar(
            route_handlers=[*detect.routes, *uploads.routes, *tasks.routes],
            dependencies=self.parts.dependencies | {"caller": Provide((auth or Auth(None)).caller_of)},
            exception_handlers=EXCEPTION_HANDLERS,
            middleware=[request_trace, request_end, cut_off],
            openapi_config=None,
            debug=False,
        )

    def request(
        self, method: str, path: str, *, headers: dict[str, str] | None = None, address: str = "127.0.0.1"
    ) -> "Call":
        return Call(self.app, method, path, headers or {}, address=address)

    async def send(
        self, method: str, path: str, *parts: bytes, headers: dict[str, str] | None = None, is_whole: bool = True
    ) -> Answer:
        """A whole request; its length is announced unless `headers` say something about it."""
        headers = {name.lower(): value for name, value in (headers or {}).items()}
        if "transfer-encoding" not in headers:
            headers.setdefault("content-length", str(sum(map(len, parts))))
        call = self.request(method, path, headers=headers)
        for part in parts:
            call.send(part)
        call.end() if is_whole else call.disconnect()
        return await call.answer()


class Call:
    """One request on its way: `send` chunks, `end` or `disconnect`, and ask for the `answer`."""

    def __init__(
        self, app: Litestar, method: str, path: str, headers: dict[str, str], *, address: str = "127.0.0.1"
    ) -> None:
        self._incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._outgoing: list[dict[str, Any]] = []
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path.partition("?")[0],
            "raw_path": path.encode(),
            "query_string": path.partition("?")[2].encode(),
            "root_path": "",
            "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()],
            "client": (address, 1),
            "server": ("127.0.0.1", 80),
            "extensions": {},
        }
        self._task = asyncio.create_task(app(scope, self._incoming.get, self._take))  # type: ignore[arg-type]

    def send(self, chunk: bytes) -> None:
        self._incoming.put_nowait({"type": "http.request", "body": chunk, "more_body": True})

    def end(self) -> None:
        self._incoming.put_nowait({"type": "http.request", "body": b"", "more_body": False})

    def disconnect(self) -> None:
        self._incoming.put_nowait({"type": "http.disconnect"})

    def cut(self) -> None:
        """What a server does to its requests when it stops."""
        self._task.cancel()

    async def answer(self) -> Answer:
        async with asyncio.timeout(WAIT_S):
            await self._task
        start = next(message for message in self._outgoing if message["type"] == "http.response.start")
        body = b"".join(message.get("body", b"") for message in self._outgoing)
        return Answer(start["status"], {n.decode(): v.decode() for n, v in start["headers"]}, body)

    async def _take(self, message: dict[str, Any]) -> None:
        self._outgoing.append(message)
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self.disconnect()  # as servers do: after its response a request hears no more


@asynccontextmanager
async def running_edge(
    root: Path,
    *,
    is_consumer_alive: bool = True,
    auth: Auth | None = None,
    **settings: Any,
) -> AsyncGenerator[Edge, None]:
    """An edge with the given settings; its background work runs. `annotations_url`: of a service that nobody calls here."""
    settings = {"free_bytes_min": 0, "confirm_wait_s": 2.0, "tasks_kept_s": 1e9} | settings
    edge = Edge(
        EdgeSettings(storage_dir=str(root), **settings),
        presence=FakePresence(is_alive=is_consumer_alive),
        auth=auth,
    )
    async with edge.parts.running(), edge.app.lifespan():
        yield edge


async def until(condition: Any) -> None:
    """Return when `condition()` holds. Raises `TimeoutError` if it does not come true."""
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await asyncio.sleep(0.001)


def files_below(folder: Path) -> list[str]:
    """Every file below `folder`, relative to it, but for the janitor's lease."""
    files = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(file for file in files if "janitor" not in file)


def names_in(folder: Path) -> list[str]:
    """What lies in `folder`, nothing if it does not exist."""
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
