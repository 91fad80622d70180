"""What a call of the AMQP library means: there a cancellation of ours and the loss of a connection are taken for each other."""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager

CANCEL_AGAIN_S = 0.5
"""After this a task that goes on is cancelled again."""


class BrokerSilentError(ConnectionError):
    """The connection was lost while its answer was waited for."""


@contextmanager
def broker_call() -> Generator[None]:
    """Around calls of the library: `CancelledError` leaves this block if the task was cancelled in it, and only then.

    aiormq cancels those who wait when heartbeats stay away: that becomes `BrokerSilentError`. To a cancellation of ours it
    answers with the loss of the connection, where both happen at once, and may even go on: that becomes `CancelledError`.
    """
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - entered by a coroutine
    before = task.cancelling()
    try:
        yield
    except asyncio.CancelledError as error:
        if task.cancelling() > before:
            raise
        raise BrokerSilentError("the broker is silent") from error
    except Exception as error:
        if task.cancelling() > before:
            raise asyncio.CancelledError from error
        raise
    if task.cancelling() > before:
        raise asyncio.CancelledError


async def end(task: "asyncio.Task[object]") -> None:
    """Cancel a task until it has ended: calls of the library may have swallowed the first time."""
    while not task.done():
        task.cancel()
        await asyncio.wait((task,), timeout=CANCEL_AGAIN_S)
