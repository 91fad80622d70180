"""Where an edge's metrics are read, and what is asked for when they are: the state that somebody keeps anyway.

`GET /metrics` is a route of the edge only while it lets everybody in, which it does on loopback alone. An edge that asks for
tokens shows its metrics at `EDGE_METRICS_ADDRESS` and nowhere else: see ADR 55.
"""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import partial

import structlog
from litestar import Response, get
from litestar.handlers import HTTPRouteHandler
from prometheus_client import Gauge, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from contracts.events import EngineStatus
from contracts.failures import Failure
from contracts.operator_port import Page, operator_port
from edge import metrics
from edge.announce import Announcer
from edge.failures import RequestFailed
from edge.feed import Feed
from edge.health import Check, Presence, checks
from edge.outbox import Outbox
from edge.settings import EdgeSettings
from edge.upload import UPLOADS

PATH = "/metrics"
STOPPING = "stopping"

_log = structlog.get_logger()
_asked: list[Callable[[], Awaitable[None]]] = []
"""What has to be asked of others before metrics are read."""
_reading = asyncio.Lock()
"""Others are asked once at a time, whoever reads."""


def observe(settings: EdgeSettings, *, outbox: Outbox, feed: Feed, presence: Presence, announcer: Announcer) -> None:
    """From now on metrics tell of these parts: the ones of the edge that started last in this process."""
    metrics.begin_at_zero()
    metrics.UPLOADS_IN_PROGRESS.set_function(lambda: len(UPLOADS))
    metrics.UPLOADS_IN_PROGRESS_BYTES.set_function(lambda: sum(body.received_bytes for body in tuple(UPLOADS)))
    metrics.COMMANDS_UNPUBLISHED.set_function(lambda: announcer.unpublished)
    metrics.SSE_LISTENERS.set_function(lambda: feed.listeners)
    metrics.SSE_LAG_EVENTS.set_function(feed.lag_events)
    metrics.BROKER_BLOCKED.set_function(lambda: outbox.is_blocked)
    metrics.STORAGE_FREE_MIN_BYTES.set(settings.free_bytes_min)
    for state in (*(status.api_name for status in EngineStatus), STOPPING):
        metrics.CONSUMERS.labels(state).set_function(lambda state=state: _consumers(presence, state))
    _asked[:] = [partial(_ask_free_bytes, settings)]
    for name, check in checks(settings, outbox, presence).items():
        _asked.append(partial(_ask, metrics.READY.labels(name), check))


@contextlib.asynccontextmanager
async def asking() -> AsyncGenerator[None]:
    """Inside, others may be asked when metrics are read: the port for operators outlives them."""
    try:
        yield
    finally:
        _asked.clear()


@contextlib.asynccontextmanager
async def shown_to_operators(settings: EdgeSettings) -> AsyncGenerator[None]:
    """Serve the metrics at their own address, if they have one. Raises `ConfigurationError` if it is not to be had."""
    async with operator_port(settings.metrics_address, {PATH: page}, variable="EDGE_METRICS_ADDRESS") as address:
        if address is not None:
            _log.info("metrics are served", url=address.url + PATH)
        yield


async def page() -> Page:
    """Every metric, in Prometheus's text format."""
    async with _reading:
        await asyncio.gather(*(ask() for ask in _asked))
    body = generate_latest(metrics.REGISTRY)  # in the loop, as what it asks changes there
    return Page(body=body, content_type=CONTENT_TYPE_PLAIN_0_0_4)


@get(PATH, include_in_schema=False)
async def metrics_route() -> Response[bytes]:
    """The metrics of this process."""
    shown = await page()
    return Response(shown.body, media_type=shown.content_type.partition("; charset")[0])  # which the framework adds


def routes_of(settings: EdgeSettings) -> list[HTTPRouteHandler]:
    """The route, of an edge that lets everybody in."""
    return [metrics_route] if settings.auth == "off" else []


async def _ask(gauge: Gauge, check: Check) -> None:
    """As `/health/ready` does."""
    try:
        await check()
    except (Failure, RequestFailed):
        gauge.set(0)
    else:
        gauge.set(1)


async def _ask_free_bytes(settings: EdgeSettings) -> None:
    try:
        async with asyncio.timeout(settings.probe_timeout_s):
            usage = await asyncio.to_thread(shutil.disk_usage, settings.storage)
    except (OSError, TimeoutError):  # a storage that cannot be asked has no room
        metrics.STORAGE_FREE_BYTES.set(0)
    else:
        metrics.STORAGE_FREE_BYTES.set(usage.free)


def _consumers(presence: Presence, state: str) -> int:
    seen = presence.live()
    if state == STOPPING:
        return sum(consumer.is_stopping for consumer in seen)
    return sum(not consumer.is_stopping and consumer.status.api_name == state for consumer in seen)
