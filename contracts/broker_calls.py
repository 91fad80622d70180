"""What a call of the AMQP library means: there a cancellation of ours and the loss of a connection are taken for each other."""

import asyncio
import re
from collections.abc import Generator
from contextlib import contextmanager

CANCEL_AGAIN_S = 0.5
"""After this a task that goes on is cancelled again."""


_HOST_REFUSED = re.compile(r"Expected one of \['Connection\.OpenOk'\], got <[^>]*>")
"""What aiormq makes of the broker's reason, which it does not pass on."""
_OBJECT = re.compile(r"<[\w.]+\.(\w+) object at 0x[0-9a-f]+>")
"""`<aio_pika.channel.Channel object at 0x7efe7bdf8890> closed`: another text each time."""


class BrokerSilentError(ConnectionError):
    """The connection was lost while its answer was waited for."""


def plainly(text: str) -> str:
    """What the library says of a broker, so that a person can read it, and the same each time."""
    text = _HOST_REFUSED.sub(
        "the broker refuses the virtual host: it is not there, down, full, or not for this user", text
    )
    return _OBJECT.sub(r"the \1", text)


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
