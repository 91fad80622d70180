"""Something that takes long, done once for all who wait for it."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

_Outcome = TypeVar("_Outcome")


class OneForAll(Generic[_Outcome]):
    """Who asks while it runs waits for the same run; who asks afterwards starts another one."""

    def __init__(self, run: Callable[[], Coroutine[Any, Any, _Outcome]]) -> None:
        self._run = run
        self._running: asyncio.Task[_Outcome] | None = None

    async def outcome(self) -> _Outcome:
        """Raises what the run raises, to everybody who waits."""
        if self._running is None:
            self._running = asyncio.create_task(self._run())
            self._running.add_done_callback(self._forget)
        return await asyncio.shield(self._running)  # one who no longer waits must not take it from the others

    def _forget(self, ended: "asyncio.Task[_Outcome]") -> None:
        self._running = None
        if not ended.cancelled():
            ended.exception()  # looked at, also if nobody waits any more
