"""Where an edge's metrics are read, and what is asked for when they are: the state that somebody keeps anyway.

`GET /metrics` is a route of the edge only while it lets everybody in, which it does on loopback alone. An edge that asks for
tokens shows its metrics at `EDGE_METRICS_ADDRESS` and nowhere else: see ADR 55.
"""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncGenerator

import structlog
from litestar import Response, get
from litestar.handlers import HTTPRouteHandler
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from contracts.events import EngineStatus
from contracts.operator_port import Page, operator_port
from edge import metrics
from edge.announce import Announcer
from edge.feed import Feed
from edge.health import Presence
from edge.outbox import Outbox
from edge.settings import EdgeSettings
from edge.upload import UPLOADS

PATH = "/metrics"
STOPPING = "stopping"

_log = structlog.get_logger()
_reading = asyncio.Lock()
"""A storage that hangs holds up one reading, and one thread, and no more."""


def observe(settings: EdgeSettings, *, outbox: Outbox, feed: Feed, presence: Presence, announcer: Announcer) -> None:
    """From now on metrics tell of these parts: the ones of the edge that started last in this process."""
    metrics.begin_at_zero()
    metrics.UPLOADS_IN_PROGRESS.set_function(lambda: len(UPLOADS))
    metrics.UPLOADS_IN_PROGRESS_BYTES.set_function(lambda: sum(body.received_bytes for body in tuple(UPLOADS)))
    metrics.COMMANDS_UNPUBLISHED.set_function(lambda: announcer.unpublished)
    metrics.SSE_LISTENERS.set_function(lambda: feed.listeners)
    metrics.SSE_LAG_EVENTS.set_function(feed.lag_events)
    metrics.BROKER_BLOCKED.set_function(lambda: outbox.is_blocked)
    metrics.STORAGE_FREE_BYTES.set_function(lambda: _free_bytes(settings))
    metrics.STORAGE_FREE_MIN_BYTES.set(settings.free_bytes_min)
    for state in (*(status.api_name for status in EngineStatus), STOPPING):
        metrics.CONSUMERS.labels(state).set_function(lambda state=state: _consumers(presence, state))
    checks = {
        "broker": lambda: outbox.is_connected and not outbox.is_blocked,
        "storage": lambda: _free_bytes(settings) >= settings.free_bytes_min,
        "consumer": presence.has_live_consumer,
    }
    for check, is_met in checks.items():
        metrics.READY.labels(check).set_function(is_met)


@contextlib.asynccontextmanager
async def shown_to_operators(settings: EdgeSettings) -> AsyncGenerator[None]:
    """Serve the metrics at their own address, if they have one. Raises `OSError` if it is not to be had."""
    async with operator_port(settings.metrics_address, {PATH: page}) as address:
        if address is not None:
            _log.info("metrics are served", url=address.url + PATH)
        yield


async def page() -> Page:
    """Every metric, in Prometheus's text format."""
    async with _reading:
        body = await asyncio.to_thread(generate_latest, metrics.REGISTRY)  # it asks the storage, which may take time
    return Page(body=body, content_type=CONTENT_TYPE_PLAIN_0_0_4)


@get(PATH, include_in_schema=False)
async def metrics_route() -> Response[bytes]:
    """The metrics of this process."""
    shown = await page()
    return Response(shown.body, media_type=shown.content_type.partition("; charset")[0])  # which the framework adds


def routes_of(settings: EdgeSettings) -> list[HTTPRouteHandler]:
    """The route, of an edge that lets everybody in."""
    return [metrics_route] if settings.auth == "off" else []


def _free_bytes(settings: EdgeSettings) -> float:
    try:
        return shutil.disk_usage(settings.storage).free
    except OSError:  # a storage that cannot be asked has no room
        return 0.0


def _consumers(presence: Presence, state: str) -> int:
    seen = presence.live()
    if state == STOPPING:
        return sum(consumer.is_stopping for consumer in seen)
    return sum(not consumer.is_stopping and consumer.status.api_name == state for consumer in seen)
