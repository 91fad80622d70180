"""A generator in a thread, read from the event loop."""

import asyncio
import threading
from collections.abc import Generator

import pytest

from consumers.offload import Offload


def counting(stop: threading.Event, seen: list[int], closed: threading.Event) -> Generator[int, None, None]:
    number = 0
    try:
        while not stop.is_set():
            seen.append(number)
            yield number
            number += 1
    finally:
        closed.set()


async def test_items_come_in_order_and_then_the_end() -> None:
    stop = threading.Event()
    async with Offload((number for number in range(100)), ahead_max=3, stop=stop) as items:
        assert [item async for item in items] == list(range(100))

    assert not stop.is_set(), "who reads to the end has stopped nothing"


async def test_the_generator_runs_in_another_thread() -> None:
    def source() -> Generator[str, None, None]:
        yield threading.current_thread().name

    async with Offload(source(), ahead_max=1, stop=threading.Event(), name="elsewhere") as items:
        assert [item async for item in items] == ["elsewhere"]


async def test_what_the_generator_raises_comes_after_the_items_before_it() -> None:
    def source() -> Generator[int, None, None]:
        yield 1
        raise ValueError("torn")

    async with Offload(source(), ahead_max=4, stop=threading.Event()) as items:
        assert await anext(items) == 1
        with pytest.raises(ValueError, match="torn"):
            await anext(items)


async def test_leaving_early_stops_the_thread_and_closes_the_generator() -> None:
    stop, seen, closed = threading.Event(), list[int](), threading.Event()
    async with Offload(counting(stop, seen, closed), ahead_max=2, stop=stop) as items:
        assert await anext(aiter(items)) == 0

    assert closed.is_set()
    assert stop.is_set()


async def test_a_cancelled_reader_leaves_no_thread_behind() -> None:
    stop, seen, closed = threading.Event(), list[int](), threading.Event()

    async def read() -> None:
        async with Offload(counting(stop, seen, closed), ahead_max=2, stop=stop) as items:
            async for _ in items:
                await asyncio.sleep(3600)

    reader = asyncio.create_task(read())
    while not seen:
        await asyncio.sleep(0)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader

    assert closed.is_set()


async def test_a_generator_that_was_never_read_is_closed_too() -> None:
    stop, seen, closed = threading.Event(), list[int](), threading.Event()
    async with Offload(counting(stop, seen, closed), ahead_max=1, stop=stop):
        pass

    assert stop.is_set()


async def test_stopping_lets_the_generator_say_its_last_word() -> None:
    def source(stop: threading.Event) -> Generator[str, None, None]:
        while not stop.is_set():
            yield "on"
        yield "last"

    stop = threading.Event()
    got: list[str] = []
    async with Offload(source(stop), ahead_max=1, stop=stop) as items:
        async for item in items:
            got.append(item)
            stop.set()

    assert got[-1] == "last"
