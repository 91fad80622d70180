"""Pictures that were given out before: one of them may have cost its consumer its life (ADR 64)."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterable

from consumers.attempt import Running
from consumers.leases import Held, Leases


class Suspects:
    """Looked at one at a time, and at nobody else's cost."""

    def __init__(self, leases: Leases) -> None:
        self._leases = leases
        self._turn = asyncio.Lock()
        self._excused: dict[str, Held] | None = None
        """Tasks beside the suspect, by their ids; None: there is no suspect."""

    @contextlib.asynccontextmanager
    async def alone(self, beside: Iterable[Running]) -> AsyncGenerator[None]:
        """Wait until no other suspect is looked at. Should the consumer die now, that does not count against those beside."""
        async with self._turn:
            self._excused = {}
            try:
                for running in tuple(beside):
                    await self.excuse(running)
                yield
            finally:
                excused, self._excused = self._excused, None
                for task_id, held in excused.items():
                    await asyncio.to_thread(self._leases.excuse_no_more, task_id, held)

    async def excuse(self, running: Running) -> None:
        """For a task that is claimed: it counts as beside the suspect, if there is one."""
        if self._excused is not None and running.held is not None:
            self._excused[running.task_id] = running.held
            await asyncio.to_thread(self._leases.excuse, running.task_id, running.held)
