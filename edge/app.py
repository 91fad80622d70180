"""The edge, wired: every part is made here, is started and stopped here, and reaches the routes by its type."""

import asyncio
import signal
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from types import FrameType
from typing import Any

import msgspec
from litestar import Litestar, Response
from litestar.di import Provide
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin

from contracts.failures import Failure
from edge import health, stream
from edge.broker import keep_connected
from edge.dead_letters import DeadLetters
from edge.feed import Feed
from edge.health import Presence
from edge.outbox import Outbox
from edge.replay import Replay
from edge.request_log import request_log
from edge.settings import EdgeSettings

try:
    from edge.failures import EXCEPTION_HANDLERS
except ImportError:  # until the other half of the edge is merged

    def _unavailable(_: Any, failure: Failure) -> Response[dict[str, str]]:
        body = {"code": failure.code, "detail": failure.detail}
        return Response(body, status_code=503, media_type="application/problem+json")

    EXCEPTION_HANDLERS: dict[Any, Any] = {Failure: _unavailable}

VERSION = "1"
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Parts(msgspec.Struct, frozen=True):
    """What lives as long as the edge. A route names the one it needs by the field's name."""

    settings: EdgeSettings
    outbox: Outbox
    feed: Feed
    replay: Replay
    presence: Presence
    dead_letters: DeadLetters


def build(settings: EdgeSettings) -> Litestar:
    """Wire an edge. Nothing is opened before it starts, and it starts and stays up without a broker."""
    parts = _parts(settings)
    provided: dict[str, Any] = {name: getattr(parts, name) for name in parts.__struct_fields__}
    return Litestar(
        [*health.routes, *stream.routes],
        dependencies={name: Provide(partial(_itself, part), sync_to_thread=False) for name, part in provided.items()},
        exception_handlers=EXCEPTION_HANDLERS,
        lifespan=[partial(_running, parts)],
        middleware=[request_log],
        openapi_config=OpenAPIConfig(
            title="Detections",
            version=VERSION,
            path="/schema",
            render_plugins=[JsonRenderPlugin(path=["/", "/openapi.json"])],
        ),
        logging_config=None,
    )


def _parts(settings: EdgeSettings) -> Parts:
    outbox = Outbox(settings)
    return Parts(
        settings=settings,
        outbox=outbox,
        feed=Feed(settings, outbox.mark_log),
        replay=Replay(settings),
        presence=Presence(settings),
        dead_letters=DeadLetters(settings, outbox),
    )


@asynccontextmanager
async def _running(parts: Parts, _: Litestar) -> AsyncGenerator[None, None]:
    """Keep every connection, each its own: a broker in alarm freezes all that happens on one that publishes."""
    parts.settings.storage.mkdir(parents=True, exist_ok=True)
    connected = {
        "publish": parts.outbox.serve,
        "log": parts.feed.serve,
        "replay": parts.replay.serve,
        "presence": parts.presence.serve,
        "dead-letters": parts.dead_letters.serve,
    }
    tasks = [
        asyncio.create_task(keep_connected(parts.settings, purpose, work), name=purpose)
        for purpose, work in connected.items()
    ]
    tasks.append(asyncio.create_task(parts.feed.tick(), name="tick"))
    with _told_of_signals(parts.feed.close):
        yield
    parts.feed.close()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@contextmanager
def _told_of_signals(close: Callable[[], None]) -> Iterator[None]:
    """Call `close` in the loop at a stop signal, before the server's own handler: it waits for streams that never end."""
    loop = asyncio.get_running_loop()
    previous = {number: signal.getsignal(number) for number in STOP_SIGNALS}

    def on_signal(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(close)
        handler = previous[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)

    for number in STOP_SIGNALS:
        signal.signal(number, on_signal)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _itself(part: Any) -> Any:
    return part
