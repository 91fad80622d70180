"""Out of the thread, bounded: a synchronous generator runs in a thread of its own and is read as an async iterator."""

import asyncio
import contextvars
import threading
from collections import deque
from collections.abc import Generator
from types import TracebackType
from typing import Generic, Self, TypeVar

_Item = TypeVar("_Item")


class Offload(Generic[_Item]):
    """The items of a generator that runs in its own thread, at most `ahead_max` of them before they are asked for.

    Used as `async with Offload(...) as items: async for item in items`. Leaving the block before the end sets `stop`,
    which the generator has to honour, closes it in its thread, and waits for the thread: nothing runs on afterwards.
    What the generator raises is raised to the reader, after the items before it.
    """

    def __init__(
        self, source: Generator[_Item, None, None], *, ahead_max: int, stop: threading.Event, name: str = "offload"
    ) -> None:
        self._source = source
        self._stop = stop
        self._room = threading.Semaphore(ahead_max)  # full: the thread waits, and with it the decoder
        self._items: deque[_Item] = deque()
        self._error: BaseException | None = None
        self._is_over = False
        self._is_closing = False
        self._news = asyncio.Event()
        self._ended = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        here = contextvars.copy_context()  # whose task it is, for the log
        self._thread = threading.Thread(target=here.run, args=(self._run,), name=name, daemon=True)

    async def __aenter__(self) -> Self:
        self._thread.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._is_over:
            self._stop.set()
        self._is_closing = True
        self._room.release()  # a thread that waits for room wakes up and sees the stop
        await self._ended.wait()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> _Item:
        while not self._items:
            if self._is_over:
                if self._error is not None:
                    error, self._error = self._error, None
                    raise error
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        item = self._items.popleft()
        self._room.release()
        return item

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            self._produce()
        except BaseException as raised:  # noqa: BLE001 - carried to the reader, whatever it is
            error = raised
        self._loop.call_soon_threadsafe(self._end, error)

    def _produce(self) -> None:
        try:
            for item in self._source:
                self._room.acquire()
                if self._is_closing:
                    return
                self._loop.call_soon_threadsafe(self._add, item)
        finally:
            self._source.close()

    def _add(self, item: _Item) -> None:
        self._items.append(item)
        self._news.set()

    def _end(self, error: BaseException | None) -> None:
        self._error = error
        self._is_over = True
        self._news.set()
        self._ended.set()
