"""Where a consumer's metrics and probes are read, and what is asked for when they are: the state that somebody keeps anyway."""

import contextlib
from collections.abc import AsyncGenerator, Callable
from http import HTTPStatus
from typing import Protocol

import structlog
from faststream.rabbit import RabbitBroker
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from consumers import metrics
from consumers.connections import is_connected, takes_messages
from contracts.events import EngineStatus
from contracts.operator_port import Page, operator_port
from engine.stages import STOPWATCH
from engine.status import EngineState

logger = structlog.get_logger(__name__)


class HasEngine(Protocol):
    """A room in which an engine lives."""

    @property
    def state(self) -> EngineState: ...


class Observed:
    """A consumer, seen from outside."""

    def __init__(
        self,
        *,
        incoming: RabbitBroker,
        outgoing: RabbitBroker,
        objects: HasEngine,
        shots: HasEngine,
        tasks_running: Callable[[], int],
        is_stopping: Callable[[], bool],
    ) -> None:
        self._connections = {"consume": incoming, "publish": outgoing}
        self._is_stopping = is_stopping
        metrics.begin_at_zero()
        metrics.TASKS_RUNNING.set_function(tasks_running)
        for engine, room in (("objects", objects), ("shots", shots)):
            for status in EngineStatus:
                gauge = metrics.ENGINE_STATE.labels(engine, status.api_name)
                gauge.set_function(lambda room=room, status=status: room.state.status is status)

    @contextlib.asynccontextmanager
    async def shown_to_operators(self, address: str) -> AsyncGenerator[None]:
        """Serve metrics and probes, if they have an address. Raises `ConfigurationError` if it is not to be had."""
        pages = {"/metrics": self.page, "/health/live": _live, "/health/ready": self._ready}
        async with operator_port(address, pages, variable="CONSUMER_METRICS_ADDRESS") as listening:
            if listening is not None:
                STOPWATCH.took = metrics.stage_took
                logger.info("metrics are served", url=f"{listening.url}/metrics")
            yield

    async def page(self) -> Page:
        """Every metric, in Prometheus's text format."""
        for purpose, broker in self._connections.items():
            metrics.BROKER_CONNECTED.labels(purpose).set(await is_connected(broker))
        outgoing = self._connections["publish"]
        metrics.BROKER_BLOCKED.set(await is_connected(outgoing) and not await takes_messages(outgoing))
        body = generate_latest(metrics.REGISTRY)  # in the loop, as what it asks changes there
        return Page(body=body, content_type=CONTENT_TYPE_PLAIN_0_0_4)

    async def _ready(self) -> Page:
        """Whether commands are taken: an engine is loaded by the first one that needs it."""
        missing = [purpose for purpose, broker in self._connections.items() if not await is_connected(broker)]
        if self._is_stopping():
            return _unready("stopping")
        if missing:
            return _unready(f"not connected to the broker: {', '.join(missing)}")
        return Page(body=b"ready\n")


async def _live() -> Page:
    return Page(body=b"live\n")


def _unready(reason: str) -> Page:
    return Page(status=HTTPStatus.SERVICE_UNAVAILABLE, body=f"{reason}\n".encode())
