"""Who is there: the consumers' heartbeats, and the three questions about health. None of them starts an engine."""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from pathlib import Path

import msgspec
import structlog
from aio_pika.abc import AbstractConnection
from litestar import get
from litestar.di import NamedDependency

from contracts import topology
from contracts.events import ConsumerSeen, EngineSeen, EngineStatus
from contracts.failures import Failure, FailureCode
from contracts.wire import decode_presence
from edge.broker import process_name
from edge.deliveries import consuming
from edge.describing import problems
from edge.disk import check_free
from edge.failures import RequestFailed
from edge.outbox import Outbox
from edge.settings import EdgeSettings

_PREFETCH = 100
_BEST_FIRST = (
    EngineStatus.ENABLED,
    EngineStatus.WARNING,
    EngineStatus.UPLOADING,
    EngineStatus.CONVERTING,
    EngineStatus.DOWNLOADING,
    EngineStatus.NONE,
    EngineStatus.ERROR,
)

Check = Callable[[], Awaitable[None]]
"""Raises `Failure` or `RequestFailed` while an edge is not ready."""

_log = structlog.get_logger()


class _Entry(msgspec.Struct, frozen=True):
    consumer: ConsumerSeen
    seen_s: float
    """By this process's monotonic clock: the consumers' clocks do not matter."""
    seen_at: datetime


class Presence:
    """The consumers that were heard of lately."""

    def __init__(self, settings: EdgeSettings, *, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock_s = clock_s
        self._entries: dict[str, _Entry] = {}

    async def serve(self, connection: AbstractConnection) -> None:
        """Listen to heartbeats until the connection is gone."""
        channel = await connection.channel()
        name = topology.own_queue(topology.PRESENCE, f"{process_name()} {secrets.token_hex(3)}")
        queue = await channel.declare_queue(name, exclusive=True, auto_delete=True)
        await queue.bind(topology.PRESENCE)
        async with consuming(connection, queue.name, prefetch=_PREFETCH, no_ack=True) as messages:
            async for message in messages:
                try:
                    self.see(decode_presence(message.body))
                except Failure as failure:
                    _log.warning("unreadable heartbeat", code=failure.code, detail=failure.detail)

    def see(self, consumer: ConsumerSeen) -> None:
        """Remember a heartbeat; a full table forgets who has been silent longest."""
        self._entries.pop(consumer.id, None)
        self._entries[consumer.id] = _Entry(consumer, self._clock_s(), datetime.now(UTC))
        if len(self._entries) > self._settings.presence_consumers_max:
            self._entries.pop(next(iter(self._entries)))

    def has_live_consumer(self) -> bool:
        """Whether somebody is there who takes commands."""
        return any(not entry.consumer.is_stopping for entry in self._live())

    def best(self) -> ConsumerSeen | None:
        """The consumer that could answer soonest, None if nobody is there."""
        return min((entry.consumer for entry in self._live()), key=_rank, default=None)

    def reports(self) -> "list[ConsumerReport]":
        """Every consumer as `GET /health` shows it, the best first."""
        return [_report(entry) for entry in sorted(self._live(), key=lambda entry: _rank(entry.consumer))]

    def live(self) -> list[ConsumerSeen]:
        """The last heartbeat of everybody who is there."""
        return [entry.consumer for entry in self._live()]

    def _live(self) -> list[_Entry]:
        oldest_s = self._clock_s() - self._settings.presence_expiry_s
        self._entries = {name: entry for name, entry in self._entries.items() if entry.seen_s >= oldest_s}
        return list(self._entries.values())


class EngineReport(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The engine of a consumer that finds shots, in `GET /health`."""

    ai_availability: str
    engine_type: str | None
    model: str | None
    error_message: str | None


class ConsumerReport(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One consumer in `GET /health`."""

    id: str
    host: str
    engine_type: str | None
    ai_availability: str
    model: str | None
    error_message: str | None
    """Why it does not serve, or not as well as it should."""
    busy: bool
    last_seen: datetime
    shots: EngineReport | None = None
    """None of a consumer that finds no shots."""


class Health(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The answer of `GET /health`: the best consumer's state in the first four fields."""

    status: str = "healthy"
    ai_availability: str = EngineStatus.NONE.api_name
    engine_type: str | None = None
    error_message: str | None = None
    consumers: list[ConsumerReport] = []
    class_colours: dict[int, str] = {}
    """Of the best consumer's model, by class number: `#rrggbb` where its class list states one."""


class Up(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of a probe that succeeds."""

    status: str


@get("/health", summary="Health of the system", sync_to_thread=False)
def health(presence: NamedDependency[Presence]) -> Health:
    """Always 200: what the consumers said last."""
    best = presence.best()
    if best is None:
        return Health()
    return Health(
        ai_availability=best.status.api_name,
        engine_type=best.engine_type,
        error_message=best.error_message,
        consumers=presence.reports(),
        class_colours=best.class_colours,
    )


@get("/health/live", summary="Liveness probe", sync_to_thread=False)
def live() -> Up:
    """200 as long as this process answers."""
    return Up(status="live")


@get(
    "/health/ready",
    summary="Readiness probe",
    responses=problems(
        FailureCode.BROKER_UNAVAILABLE,
        FailureCode.ENGINE_UNAVAILABLE,
        also={HTTPStatus.SERVICE_UNAVAILABLE: (FailureCode.STORAGE_UNAVAILABLE, FailureCode.STORAGE_FULL)},
        is_for_all=True,
    ),
)
async def ready(
    settings: NamedDependency[EdgeSettings], outbox: NamedDependency[Outbox], presence: NamedDependency[Presence]
) -> Up:
    """200 when a detection could be asked for now; else 503 with the reason."""
    for check in checks(settings, outbox, presence).values():
        await check()
    return Up(status="ready")


def checks(settings: EdgeSettings, outbox: Outbox, presence: Presence) -> dict[str, Check]:
    """What an edge needs to be ready, by name, in the order in which it is asked for."""
    return {
        "broker": partial(_check_broker, settings, outbox),
        "storage": partial(_check_storage, settings),
        "consumer": partial(_check_consumer, settings, presence),
    }


async def _check_broker(settings: EdgeSettings, outbox: Outbox) -> None:
    if not outbox.is_connected:
        raise Failure(FailureCode.BROKER_UNAVAILABLE, "not connected to the broker")
    try:
        async with asyncio.timeout(settings.probe_timeout_s):
            await outbox.probe()  # first: a broker in alarm does not answer the question after
            if not await outbox.has_exchange(topology.DEAD):
                raise Failure(FailureCode.BROKER_UNAVAILABLE, f"the broker has no exchange {topology.DEAD}")
    except TimeoutError:
        detail = f"the broker did not answer within {settings.probe_timeout_s:g} s"
        raise Failure(FailureCode.BROKER_UNAVAILABLE, detail) from None


async def _check_storage(settings: EdgeSettings) -> None:
    try:
        async with asyncio.timeout(settings.probe_timeout_s):
            await asyncio.to_thread(_write_and_remove, settings.storage, settings.free_bytes_min)
    except (OSError, TimeoutError) as error:
        failure = Failure(FailureCode.STORAGE_UNAVAILABLE, f"the storage is not writable: {error!r}")
        raise RequestFailed(failure, status=HTTPStatus.SERVICE_UNAVAILABLE) from error
    except Failure as failure:
        raise RequestFailed(failure, status=HTTPStatus.SERVICE_UNAVAILABLE) from failure


async def _check_consumer(settings: EdgeSettings, presence: Presence) -> None:
    if not presence.has_live_consumer():
        raise Failure(FailureCode.ENGINE_UNAVAILABLE, f"no consumer was seen for {settings.presence_expiry_s:g} s")


def _write_and_remove(folder: Path, free_bytes_min: int) -> None:
    check_free(folder, free_bytes_min=free_bytes_min)
    path = folder / f".probe.{secrets.token_hex(6)}"
    try:
        path.write_bytes(b"probe")
    finally:
        path.unlink(missing_ok=True)


def _rank(consumer: ConsumerSeen) -> tuple[bool, int, str]:
    return consumer.is_stopping, _BEST_FIRST.index(consumer.status), consumer.id


def _report(entry: _Entry) -> ConsumerReport:
    consumer = entry.consumer
    return ConsumerReport(
        id=consumer.id,
        host=consumer.host,
        engine_type=consumer.engine_type,
        ai_availability=consumer.status.api_name,
        model=consumer.model,
        error_message=consumer.error_message,
        busy=consumer.tasks_running > 0,
        last_seen=entry.seen_at,
        shots=consumer.shots and _engine_report(consumer.shots),
    )


def _engine_report(engine: EngineSeen) -> EngineReport:
    return EngineReport(
        ai_availability=engine.status.api_name,
        engine_type=engine.engine_type,
        model=engine.model,
        error_message=engine.error_message,
    )


routes = [health, live, ready]
