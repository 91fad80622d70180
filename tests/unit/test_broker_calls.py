"""Calls of the AMQP library, which takes our cancellations and the loss of a connection for each other."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import pytest

from contracts import broker_calls
from contracts.broker_calls import BrokerSilentError, broker_call, end, plainly

Call = Callable[[], Awaitable[None]]


async def answers_with_the_loss() -> None:
    """As aiormq does when the connection goes while somebody is cancelled."""
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        raise ConnectionResetError from None


async def swallows() -> None:
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.Event().wait()


async def is_cancelled_by_itself() -> None:
    """As aiormq's waiters are when heartbeats stay away."""
    waiter = asyncio.get_running_loop().create_future()
    waiter.cancel()
    await waiter


async def called(call: Call) -> None:
    with broker_call():
        await call()


@pytest.mark.parametrize("call", [asyncio.Event().wait, answers_with_the_loss, swallows])
async def test_a_cancellation_leaves_whatever_the_library_makes_of_it(call: Call) -> None:
    task = asyncio.create_task(called(call))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait((task,))
    assert task.cancelled()


async def test_a_waiter_that_the_library_cancelled_is_a_lost_connection() -> None:
    with pytest.raises(BrokerSilentError):
        await called(is_cancelled_by_itself)


async def test_a_timeout_around_a_call_is_one_though_the_library_says_otherwise() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await called(answers_with_the_loss)


async def test_a_timeout_inside_is_one_too() -> None:
    with pytest.raises(TimeoutError), broker_call():
        async with asyncio.timeout(0):
            await asyncio.Event().wait()


async def test_errors_pass_also_in_a_task_that_was_cancelled_before() -> None:
    async def is_refused() -> None:
        raise ConnectionRefusedError

    async def cleans_up() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await called(is_refused)

    task = asyncio.create_task(cleans_up())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait((task,))
    assert isinstance(task.exception(), ConnectionRefusedError)


async def test_a_task_is_cancelled_until_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker_calls, "CANCEL_AGAIN_S", 0.0)

    async def goes_on() -> None:
        for _ in range(3):
            await swallows()

    task = asyncio.create_task(goes_on())
    await asyncio.sleep(0)
    await end(task)
    assert task.done()


async def test_ending_what_failed_says_nothing() -> None:
    async def fails() -> None:
        raise ValueError

    task = asyncio.create_task(fails())
    await end(task)
    assert task.done()


def test_what_a_library_shows_of_its_objects_is_left_out() -> None:
    assert plainly("<aio_pika.channel.Channel object at 0x7efe7bdf8890> closed") == "the Channel closed"
