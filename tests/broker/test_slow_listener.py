"""A listener that stops reading loses nothing, costs nothing, and nobody else notices."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aio_pika
import pytest

from contracts import topology
from contracts.detections import Detection
from contracts.events import FrameDetected
from contracts.wire import encode
from detections.rabbitmq import PrivateRabbit
from tests.edge_server import WAIT_S, EdgeServer, listening, publishing
from tests.events import new_task, report
from tests.processes import is_gone, wait_until

pytestmark = pytest.mark.broker

EVENTS = 4_000
EVENT_BYTES = 8_000
GROWTH_MAX_BYTES = 10_000_000
"""What the edge may grow by, while 32 MB of events wait for one listener."""


class EdgeProcess(EdgeServer, frozen=True):
    pid: int

    @property
    def resident_bytes(self) -> int:
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def edge_process(amqp_url: str, storage: Path, **settings: object) -> Iterator[EdgeProcess]:
    environment = {f"EDGE_{name.upper()}": str(value) for name, value in settings.items()}
    environment |= {"AMQP_URL": amqp_url, "STORAGE_DIR": str(storage), "EDGE_PORT": "0"}
    process = subprocess.Popen(
        [sys.executable, "-m", "edge"], env=os.environ | environment, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        line = next(line for line in process.stdout if "edge listens" in line)
        yield EdgeProcess(json.loads(line)["url"], process.pid)
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


class StalledListener:
    """A client with a small window that reads only when it is told to."""

    def __init__(self, edge: EdgeServer) -> None:
        host, port = edge.url.removeprefix("http://").split(":")
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._socket.settimeout(WAIT_S)
        self._socket.connect((host, int(port)))
        self._socket.sendall(b"GET /detect/stream HTTP/1.1\r\nHost: edge\r\n\r\n")
        self._answer = bytearray()
        while b"id: " not in self._answer:
            self._answer += self._socket.recv(1)

    def read_sequences_until(self, last: int, *, task_id: str) -> list[int]:
        """The sequences of a task's events up to `last`, also if it is told of others in between."""
        while b'"sequence":%d,' % last not in self._answer[-3 * EVENT_BYTES :]:
            piece = self._socket.recv(1 << 16)
            if not piece:
                raise EOFError
            self._answer += piece
        _, _, body = bytes(self._answer).partition(b"\r\n\r\n")
        told = (line for line in _without_chunks(body).split(b"\n") if line.startswith(b"data: "))
        return [int(line.split(b'"sequence":')[1].split(b",")[0]) for line in told if task_id.encode() in line]

    def close(self) -> None:
        self._socket.close()


def _without_chunks(body: bytes) -> bytes:
    """The content of whole chunks, and of the last one as much as there is."""
    content, at = bytearray(), 0
    while (ends := body.find(b"\r\n", at)) >= 0:
        begins = ends + 2
        size = int(body[at:ends], 16)
        content += body[begins : begins + size]
        at = begins + size + 2
    return bytes(content)


def large_report(task_id: str, sequence: int) -> FrameDetected:
    seen = Detection(
        center_x=0.5, center_y=0.5, width=0.1, height=0.1, class_num=1, label="x" * EVENT_BYTES, confidence=0.9
    )
    return FrameDetected(task_id=task_id, media_id=task_id, sequence=sequence, annotations=[seen])


async def publish_many(amqp_url: str, task_id: str, first: int, last: int) -> None:
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel(publisher_confirms=False)
        exchange = await channel.get_exchange(topology.EVENTS, ensure=False)
        for sequence in range(first, last + 1):
            event = large_report(task_id, sequence)
            await exchange.publish(aio_pika.Message(encode(event)), topology.event_key(event))


async def test_a_stalled_listener_catches_up_completely_with_bounded_memory(
    rabbit: PrivateRabbit, tmp_path: Path
) -> None:
    task = new_task()
    async with publishing(rabbit.url):
        pass
    with edge_process(rabbit.url, tmp_path, ring_events_max=200, ring_bytes_max=500_000) as edge:
        stalled = await asyncio.to_thread(StalledListener, edge)
        async with listening(edge) as (stream, _):
            await publish_many(rabbit.url, task, 1, 100)
            seen = [event.sequence for event in await stream.events(100)]
            before_bytes = edge.resident_bytes
            publish = asyncio.create_task(publish_many(rabbit.url, task, 101, EVENTS))
            seen += [event.sequence for event in await stream.events(EVENTS - 100)]
            await publish
        assert seen == list(range(1, EVENTS + 1))
        assert await asyncio.to_thread(stalled.read_sequences_until, EVENTS, task_id=task) == seen
        assert edge.resident_bytes - before_bytes < GROWTH_MAX_BYTES
        stalled.close()


async def test_more_slow_listeners_than_log_readers_all_catch_up(rabbit: PrivateRabbit, tmp_path: Path) -> None:
    task = new_task()
    async with publishing(rabbit.url) as publisher:
        with edge_process(rabbit.url, tmp_path, ring_events_max=5, log_readers_max=1) as edge:
            async with listening(edge) as (stream, opening):
                await publisher.events(*(report(task, sequence) for sequence in range(1, 101)))
                await stream.events(100)

            async def resume() -> list[int]:
                async with listening(edge, last_event_id=opening.id) as (stream, _):
                    return [event.sequence for event in await stream.events(100)]

            assert await asyncio.gather(*(resume() for _ in range(5))) == [list(range(1, 101))] * 5


async def test_listeners_do_not_keep_an_edge_from_stopping(rabbit: PrivateRabbit, tmp_path: Path) -> None:
    """A stream never ends by itself: waited for as other requests are, it would take all of the time that they may take."""
    with edge_process(rabbit.url, tmp_path, stop_timeout_s=3600) as edge:
        async with listening(edge) as (stream, _), listening(edge, taskId=new_task()) as (another, _):
            os.kill(edge.pid, signal.SIGTERM)
            for each in (stream, another):
                with pytest.raises(EOFError):
                    await each.event()
        await asyncio.to_thread(wait_until, lambda: is_gone(edge.pid))
