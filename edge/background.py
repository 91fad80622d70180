"""Work that outlives the request that caused it, owned by the edge and ended with it."""

import asyncio
import contextlib
import logging
from collections.abc import Coroutine, Generator
from typing import Any

STOP_WAIT_S = 3.0
"""For requests that are cut off when the edge stops, to tell the storage so."""
TASKS_MAX = 1000
"""Such pieces of work at once; more are refused and left to the janitor and the consumers."""


class Background:
    """Holds what was started until it is done."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()
        self._attended: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[None, None, None]) -> bool:
        """False if too much is under way already."""
        if len(self._running) >= TASKS_MAX:
            work.close()
            return False
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._forget)
        return True

    @contextlib.contextmanager
    def attended(self) -> Generator[None, None, None]:
        """A request in this block is waited for when the edge stops: its server has cut it off, and it has to clean up."""
        request = asyncio.current_task()
        assert request is not None  # noqa: S101 - entered by a coroutine
        self._attended.add(request)
        try:
            yield
        finally:
            self._attended.discard(request)

    async def settle(self) -> None:
        """Wait for all of it (tests)."""
        while self._running:
            await asyncio.wait(self._running)

    async def stop(self) -> None:
        """Let requests clean up, at most `STOP_WAIT_S`, and cancel the rest."""
        if self._attended:
            await asyncio.wait(self._attended, timeout=STOP_WAIT_S)
        for task in tuple(self._running):
            task.cancel()
        await self.settle()

    def _forget(self, task: "asyncio.Task[None]") -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logging.getLogger(__name__).error("background work failed", exc_info=error)
