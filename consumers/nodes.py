"""A connection to whichever node of a cluster answers, and to another one when that is gone."""

import asyncio
import itertools
import random
from collections.abc import Sequence
from functools import partial
from typing import Any

from aio_pika import RobustConnection
from faststream.rabbit import RabbitBroker
from yarl import URL

LOOK_ELSEWHERE_S = (0.5, 1.0)
"""Between these, by chance: how long a node has to answer, or refuse, before the next try is made at another one."""


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
        # the library has no parameter for it
        self._connection_kwargs["connection_class"] = partial(connection_class, others=[*others, first])
