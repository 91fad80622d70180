"""Waiting in the event loop for a stop that threads look at, too."""

import asyncio
import threading

POLL_S = 0.05
"""How often it is looked at."""


async def stopped(stop: threading.Event) -> None:
    """Return when it is set."""
    while not stop.is_set():  # noqa: ASYNC110 - threads look at it, so it is none of asyncio
        await asyncio.sleep(POLL_S)
