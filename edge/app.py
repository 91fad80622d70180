"""The edge, wired: every part is made here, is started and stopped here, and reaches the routes by its type."""

import asyncio
import signal
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from functools import partial
from types import FrameType

import msgspec
from litestar import Litestar
from litestar.di import Provide
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme

from contracts.broker_calls import end
from contracts.storage import Layout
from edge import detect, health, media_by_id, metrics_page, page, stream, tasks, uploads
from edge.admission import auth_of
from edge.annotations import Annotations
from edge.annotations_parts import AnnotationsParts
from edge.auth import Auth
from edge.broker import keep_connected
from edge.cut_off import cut_off
from edge.dead_letters import DeadLetters
from edge.failures import EXCEPTION_HANDLERS
from edge.feed import Feed
from edge.health import Presence
from edge.media_by_id import MediaById
from edge.outbox import Outbox
from edge.parts import IntakeParts
from edge.ports import Neighbours
from edge.posting import Poster
from edge.replay import Replay
from edge.request_end import request_end
from edge.request_trace import request_trace
from edge.settings import EdgeSettings
from edge.tickets import Tickets
from edge.tokens import Tokens
from edge.turns import OldTurns
from edge.vault import Sealer, Vault

VERSION = "1"
ROUTES = [
    *health.routes,
    *stream.routes,
    *detect.routes,
    *uploads.routes,
    *media_by_id.routes,
    *tasks.routes,
    *page.routes,
]
_PROVIDED = ("settings", "outbox", "feed", "replay", "presence", "auth", "tickets", "media_by_id")
_BEARER = SecurityScheme(type="http", scheme="bearer", description="asked for with `EDGE_AUTH=jwt`, but for /health")
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Parts(msgspec.Struct, frozen=True):
    """What lives as long as the edge."""

    settings: EdgeSettings
    outbox: Outbox
    feed: Feed
    replay: Replay
    presence: Presence
    auth: Auth
    tickets: Tickets
    dead_letters: DeadLetters
    intake: IntakeParts
    annotations: Annotations
    poster: Poster
    media_by_id: MediaById

    @property
    def dependencies(self) -> dict[str, Provide]:
        """What routes may ask for, by name."""
        shared = {name: _provide(getattr(self, name)) for name in _PROVIDED}
        return shared | self.intake.dependencies | {"caller": Provide(self.auth.caller_of)}


def build(settings: EdgeSettings) -> Litestar:
    """Wire an edge. Nothing is opened before it starts, and it starts and stays up without a broker."""
    parts = _parts(settings)
    return Litestar(
        [*ROUTES, *metrics_page.routes_of(settings)],
        dependencies=parts.dependencies,
        exception_handlers=EXCEPTION_HANDLERS,
        lifespan=[partial(_running, parts)],
        middleware=[request_trace, request_end, cut_off],
        openapi_config=OpenAPIConfig(
            title="Detections",
            version=VERSION,
            path="/schema",
            render_plugins=[JsonRenderPlugin(path=["/", "/openapi.json"])],
            components=Components(security_schemes={"bearer": _BEARER}),
            security=[{"bearer": []}],
        ),
        logging_config=None,
    )


def _parts(settings: EdgeSettings) -> Parts:
    outbox = Outbox(settings)
    feed = Feed(settings, outbox.mark_log)
    presence = Presence(settings)
    layout = Layout(settings.storage)
    sealer = Sealer(settings.seal_keys, layout)
    tickets = Tickets(sealer, layout)
    annotations = Annotations(settings)
    tokens = Tokens(layout, Vault(sealer), annotations.refresh)
    told = AnnotationsParts(settings, annotations=annotations, tokens=tokens)
    tasks_kept = timedelta(seconds=settings.tasks_kept_s)
    intake = IntakeParts(
        settings,
        neighbours=Neighbours(outbox=outbox, feed=feed, presence=presence),
        owners=told.owners,
        expiring=(tickets, tokens, OldTurns(layout.running, layout.posting, kept=tasks_kept)),
    )
    return Parts(
        settings=settings,
        outbox=outbox,
        feed=feed,
        replay=Replay(settings),
        presence=presence,
        auth=auth_of(settings),
        tickets=tickets,
        dead_letters=DeadLetters(settings, outbox),
        intake=intake,
        annotations=annotations,
        poster=told.poster(outbox),
        media_by_id=told.media_by_id(intake),
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
    kept: list[asyncio.Task[None]] = [
        asyncio.create_task(keep_connected(parts.settings, purpose, work), name=purpose)
        for purpose, work in connected.items()
    ]
    metrics_page.observe(
        parts.settings,
        outbox=parts.outbox,
        feed=parts.feed,
        presence=parts.presence,
        announcer=parts.intake.announcer,
    )
    kept.append(asyncio.create_task(parts.feed.tick(), name="tick"))
    try:
        with _told_of_signals(parts.feed.close):
            async with (
                parts.annotations.running(),
                parts.intake.running(),
                metrics_page.asking(),
                _posting(parts),
            ):
                yield
    finally:
        parts.feed.close()
        await asyncio.gather(*(end(task) for task in kept))


@asynccontextmanager
async def _posting(parts: Parts) -> AsyncGenerator[None, None]:
    """Ends before what it needs to let go of its turns: the threads and the Annotations service's client."""
    posting = (
        asyncio.create_task(keep_connected(parts.settings, "outbox", parts.poster.serve), name="outbox"),
        asyncio.create_task(parts.poster.run(), name="posts"),
    )
    try:
        yield
    finally:
        for task in posting:  # first no more is taken
            await end(task)


@contextmanager
def _told_of_signals(close: Callable[[], None]) -> Generator[None]:
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


def _provide(part: object) -> Provide:
    return Provide(lambda: part, sync_to_thread=False)
