"""Listeners of an edge that come back with their last id after every cut, and some that stop reading."""

import asyncio
import contextlib
import random
import socket
import threading
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

import msgspec

from contracts.events import AnyEvent, DetectionEvent, FrameDetected, TaskEnded
from detections.sse import SseEvent, SseParser
from tests.fault.fleet import WAIT_S
from tests.processes import wait_until

COMES_BACK_S = (0.1, 0.6)
"""Between these, by chance."""
READ_BYTES = 64 * 1024
STALLED_BUFFER_BYTES = 4096

Heard = tuple[str, int]
"""Task and number of a report or an end."""

_event = msgspec.json.Decoder(DetectionEvent)


class Listener:
    """Hears every event, over as many connections as it takes."""

    def __init__(self, url: str) -> None:
        self.heard: list[Heard] = []
        self.gaps: list[str] = []
        self.connections = 0
        self.last_event_id = ""
        self._address = urlsplit(url)

    async def run(self) -> None:
        """For ever."""
        while True:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                await self._listen_once()
            await asyncio.sleep(random.uniform(*COMES_BACK_S))

    async def _listen_once(self) -> None:
        parser = SseParser(last_event_id=self.last_event_id)
        reader, writer = await asyncio.open_connection(self._address.hostname, self._address.port, limit=READ_BYTES)
        try:
            writer.write(request(self.last_event_id))
            status = await reader.readuntil(b"\r\n\r\n")
            if b" 200 " not in status.partition(b"\r\n")[0]:
                return
            self.connections += 1
            while part := await reader.read(READ_BYTES):
                for event in parser.feed(part):
                    self._take(event)
                self.last_event_id = parser.last_event_id
        finally:
            writer.close()

    def _take(self, event: SseEvent) -> None:
        if event.name == "gap":
            self.gaps.append(event.data)
            return
        told = _event.decode(event.data)
        if told.sequence is not None:
            self.heard.append((told.task_id, told.sequence))


class Stalled:
    """Asks for every event and reads none of them."""

    def __init__(self, url: str) -> None:
        self._address = urlsplit(url)
        self._socket: socket.socket | None = None

    def connect(self) -> None:
        """Anew; what was there before is gone with its edge."""
        self.close()
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, STALLED_BUFFER_BYTES)
        self._socket.settimeout(WAIT_S)
        self._socket.connect((self._address.hostname, self._address.port))
        self._socket.sendall(request(""))

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()


class Audience:
    """Listeners in a thread of their own."""

    def __init__(self, url: str, *, live: int, stalled: int) -> None:
        self.live = [Listener(url) for _ in range(live)]
        self.stalled = [Stalled(url) for _ in range(stalled)]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._tasks: list[asyncio.Task[None]] = []

    def begin(self) -> None:
        """Return when each of them hears what comes from now on."""
        self._thread.start()
        self._loop.call_soon_threadsafe(self._listen)
        wait_until(lambda: all(one.last_event_id for one in self.live), timeout_s=WAIT_S)
        self.stall()

    def stall(self) -> None:
        """Connect those that do not read, when there is an edge (again)."""
        for one in self.stalled:
            with contextlib.suppress(OSError):
                one.connect()

    def until_all_heard(self, expected: Sequence[Heard]) -> None:
        """Raises `AssertionError` if somebody heard something else, or another way."""
        with contextlib.suppress(AssertionError):
            wait_until(lambda: all(len(one.heard) >= len(expected) for one in self.live), timeout_s=WAIT_S)
        wrong = [said for one in self.live if (said := difference(one, expected))]
        assert not wrong, f"{len(wrong)} of {len(self.live)}: {wrong[0]}"

    def end(self) -> None:
        for one in self.stalled:
            one.close()
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(self._leave(), self._loop).result(WAIT_S)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(WAIT_S)
        self._loop.close()

    def _listen(self) -> None:
        self._tasks = [self._loop.create_task(one.run()) for one in self.live]

    async def _leave(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@contextlib.contextmanager
def audience(url: str, *, live: int, stalled: int = 0) -> Iterator[Audience]:
    """All of them are gone when the block ends."""
    made = Audience(url, live=live, stalled=stalled)
    try:
        made.begin()
        yield made
    finally:
        made.end()


def request(last_event_id: str) -> bytes:
    """In HTTP/1.0, whose bodies are not cut into chunks."""
    resumed = f"Last-Event-ID: {last_event_id}\r\n" if last_event_id else ""
    return f"GET /detect/stream HTTP/1.0\r\nHost: edge\r\nAccept: text/event-stream\r\n{resumed}\r\n".encode()


def to_be_heard(log: Sequence[AnyEvent]) -> list[Heard]:
    """Reports and ends in the order of the log: each once, nothing that an older taker says, and nothing from before the
    first report of a task that came."""
    heard: dict[Heard, None] = {}
    epochs: dict[str, int] = {}
    first: dict[str, int] = {}
    ended: set[str] = set()
    for event in log:
        epoch = epochs.get(event.task_id, 0)
        match event:
            case _ if event.task_id in ended:
                pass
            case TaskEnded():
                ended.add(event.task_id)
                heard[event.task_id, event.sequence] = None
            case FrameDetected() if event.epoch >= epoch:
                epochs[event.task_id] = event.epoch
                if event.sequence >= first.setdefault(event.task_id, event.sequence):
                    heard.setdefault((event.task_id, event.sequence))
            case _:
                epochs[event.task_id] = max(epoch, event.epoch)
    return list(heard)


def difference(listener: Listener, expected: Sequence[Heard]) -> str:
    """Where what it heard differs from what it was to hear; empty if it does not."""
    if listener.gaps:
        return f"gaps: {listener.gaps}"
    if listener.heard == list(expected):
        return ""
    pairs = zip(listener.heard, expected, strict=False)
    at = next((number for number, (heard, due) in enumerate(pairs) if heard != due), None)
    if at is None:
        return f"heard {len(listener.heard)} of {len(expected)}, over {listener.connections} connections"
    return (
        f"event {at}: heard {listener.heard[at]}, due was {expected[at]}, of {len(listener.heard)} and {len(expected)}"
    )
