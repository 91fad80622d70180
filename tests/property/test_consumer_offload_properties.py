"""Offload keeps order and bounds whatever the sizes are."""

import asyncio
import threading
from collections.abc import Generator

from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.offload import Offload


@given(items=st.lists(st.integers(), max_size=60), ahead_max=st.integers(1, 8))
@settings(max_examples=50)
def test_everything_comes_once_and_in_order(items: list[int], ahead_max: int) -> None:
    async def read() -> list[int]:
        source = (item for item in items)
        async with Offload(source, ahead_max=ahead_max, stop=threading.Event()) as offloaded:
            return [item async for item in offloaded]

    assert asyncio.run(read()) == items


@given(count=st.integers(1, 40), ahead_max=st.integers(1, 8), reads=st.integers(0, 40))
@settings(max_examples=50)
def test_the_thread_is_never_further_ahead_than_allowed(count: int, ahead_max: int, reads: int) -> None:
    made = 0
    ahead: list[int] = []

    def source() -> Generator[int, None, None]:
        nonlocal made
        for number in range(count):
            made += 1
            yield number

    async def read() -> int:
        stop = threading.Event()
        got = 0
        async with Offload(source(), ahead_max=ahead_max, stop=stop) as offloaded:
            async for _ in offloaded:
                got += 1
                ahead.append(made - got)
                await asyncio.sleep(0)
                if got > reads:
                    break
        return got

    got = asyncio.run(read())

    assert got == min(count, reads + 1)
    assert max(ahead) <= ahead_max + 1  # and the one in its hands
    assert made <= got + ahead_max + 1


@given(reads=st.integers(0, 20), ahead_max=st.integers(1, 4))
@settings(max_examples=50)
def test_leaving_at_any_point_closes_the_generator(reads: int, ahead_max: int) -> None:
    closed = threading.Event()

    def source() -> Generator[int, None, None]:
        try:
            number = 0
            while True:
                yield number
                number += 1
        finally:
            closed.set()

    async def read() -> int:
        before = threading.active_count()
        async with Offload(source(), ahead_max=ahead_max, stop=threading.Event()) as offloaded:
            got = 0
            while got <= reads:
                await anext(offloaded)
                got += 1
        await asyncio.sleep(0)
        return threading.active_count() - before

    asyncio.run(read())

    assert closed.is_set()
