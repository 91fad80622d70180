"""Several things under way at once: the first that fails, or the first that is done, decides."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Coroutine
from typing import Any, TypeVar

_Result = TypeVar("_Result")


@contextlib.asynccontextmanager
async def single_failure() -> AsyncGenerator[None, None]:
    """Around a task group: the first failure itself leaves it, not a group of exceptions."""
    try:
        yield
    except BaseExceptionGroup as group:
        raise _first_in(group) from None


async def first_of(*works: Coroutine[Any, Any, _Result]) -> _Result:
    """What the first to finish returns or raises; the others are cancelled. Of several, the one named first counts."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return next(task for task in tasks if task.done()).result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _first_in(group: BaseExceptionGroup[BaseException]) -> BaseException:
    first = group.exceptions[0]
    return _first_in(first) if isinstance(first, BaseExceptionGroup) else first
