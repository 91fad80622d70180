"""What threads do for the event loop."""

import asyncio
from typing import TypeVar

_Result = TypeVar("_Result")


async def to_its_end(running: "asyncio.Task[_Result]") -> _Result:
    """What becomes of work in a thread. A cancellation leaves it only when that is done: what it made is there then."""
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.gather(running, return_exceptions=True)
        raise
