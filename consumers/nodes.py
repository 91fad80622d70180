"""A connection to whichever node of a cluster answers, and to another one when that is gone."""

import asyncio
import contextlib
import itertools
import random
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import structlog
from aio_pika import RobustConnection
from aio_pika.exceptions import CONNECTION_EXCEPTIONS
from faststream.rabbit import RabbitBroker
from yarl import URL

from contracts.broker_calls import broker_call

LOOK_ELSEWHERE_S = (0.5, 1.0)
"""Between these, by chance: how long a node has to answer, or refuse, before the next try is made at another one."""

FAREWELL_S = 2.0
"""How long a broker may take to say that it heard us leave; a dead one never does."""

logger = structlog.get_logger(__name__)


class AnyNodeConnection(RobustConnection):
    """The library's robust connection, which knows one node only, with its `url` moved on while it has none."""

    def __init__(self, url: URL, *, others: Sequence[str], **how: Any) -> None:
        """others: where to look then, in turn."""
        super().__init__(url, **how)
        self._others = itertools.cycle([URL(other) for other in others])
        self._looking: asyncio.Task[None] | None = None

    async def connect(self, timeout: float | None = None) -> None:  # type: ignore[override]
        """Return when a node has answered.

        Whoever gives up waiting ends it: the library's own task survives a cancellation, and would keep the process alive.
        """
        if self._looking is None:
            self._looking = asyncio.create_task(self._look_elsewhere())
        try:
            await super().connect(timeout)
        except asyncio.CancelledError:
            await self.close()
            raise

    async def close(self, exc: Any = asyncio.CancelledError) -> None:
        """As the library's."""
        if self._looking is not None:
            self._looking.cancel()
        await super().close(exc)

    async def _look_elsewhere(self) -> None:
        while True:
            await asyncio.sleep(random.uniform(*LOOK_ELSEWHERE_S))  # noqa: S311 - spreads load, keeps no secret
            if not self.connected.is_set():
                self.url = next(self._others)


class AnyNodeBroker(RabbitBroker):
    """FastStream's broker on such a connection."""

    def __init__(
        self, nodes: Sequence[str], *, connection_class: type[AnyNodeConnection] = AnyNodeConnection, **how: Any
    ) -> None:
        """nodes: their URLs; consumers begin at different ones."""
        first, *others = random.sample(nodes, k=len(nodes))
        super().__init__(first, **how)
        self._stop_timeout_s = (how.get("graceful_timeout") or 0.0) + FAREWELL_S
        self._begun: list[AnyNodeConnection] = []
        """The library knows a connection only once it has a channel too."""

        def begin(url: URL, **how: Any) -> AnyNodeConnection:
            self._begun.append(connection_class(url, others=[*others, first], **how))
            return self._begun[-1]

        self._connection_kwargs["connection_class"] = begin  # the library has no parameter for it

    async def stop(
        self,
        exc_type: type[BaseException] | None = None,
        exc_val: BaseException | None = None,
        exc_tb: TracebackType | None = None,
    ) -> None:
        """Stop, also where the connection is away: the library would fail, and go on connecting for ever."""
        try:
            with broker_call():
                async with asyncio.timeout(self._stop_timeout_s):
                    await super().stop(exc_type, exc_val, exc_tb)
        except Exception as error:  # noqa: BLE001 - whatever it is, we leave
            logger.info("left without a farewell", error=repr(error))
        finally:
            for connection in self._begun:
                await _hang_up(connection)
            self._begun.clear()


async def _hang_up(connection: AnyNodeConnection) -> None:
    with contextlib.suppress(*CONNECTION_EXCEPTIONS, TimeoutError):
        async with asyncio.timeout(FAREWELL_S):
            await connection.close()
