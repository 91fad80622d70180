"""SSE: 1,000 listeners on one edge, every event to every listener.

Two runs: paced (events at a fixed rate: the delay from publishing to the listener's socket) and flood (as fast as the broker
confirms: events delivered per second). The listeners are one process of plain sockets, so the figures include its CPU share.
"""

import argparse
import asyncio
import multiprocessing
import tempfile
import time
import uuid
from multiprocessing.connection import Connection
from pathlib import Path
from urllib.parse import urlsplit

import aio_pika
import msgspec

from benchmarks.probes import cpu_seconds, percentile, print_head, rss_bytes
from contracts import topology, wire
from contracts.detections import Detection
from contracts.events import FrameDetected
from detections.local import LocalStack

IN_FLIGHT_MAX = 50
READ_TIMEOUT_S = 120.0


class Heard(msgspec.Struct):
    """What all listeners heard of one run."""

    delays_s: list[float]
    incomplete: int
    """Listeners that missed an event or heard one twice."""
    took_s: float


def main() -> None:
    arguments = _arguments()
    print_head(f"SSE, {arguments.listeners} listeners on one edge")
    with tempfile.TemporaryDirectory() as folder, LocalStack(Path(folder), consumers=0) as stack:
        edge = stack.pids("edge")[0]
        idle_bytes = rss_bytes(edge)
        for name, count, rate in (("paced, 5 events/s", arguments.paced, 5.0), ("flood", arguments.flood, None)):
            ours, theirs = multiprocessing.Pipe()
            process = multiprocessing.Process(target=_listen, args=(stack.url, arguments.listeners, count, theirs))
            process.start()
            ours.recv()  # all of them are connected
            connected_bytes, cpu_s = rss_bytes(edge), cpu_seconds(edge)
            asyncio.run(_publish(stack.amqp_url, count, rate))
            heard: Heard = ours.recv()
            cpu_s = cpu_seconds(edge) - cpu_s
            process.join()
            _report(name, heard, count * arguments.listeners, cpu_s)
            print(
                f"  edge: {idle_bytes / 1e6:.0f} MB idle, {connected_bytes / 1e6:.0f} MB with listeners "
                f"({(connected_bytes - idle_bytes) / arguments.listeners / 1e3:.0f} kB each), {rss_bytes(edge) / 1e6:.0f} MB after"
            )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--listeners", type=int, default=1000)
    parser.add_argument("--paced", type=int, default=50)
    parser.add_argument("--flood", type=int, default=300)
    return parser.parse_args()


async def _publish(amqp_url: str, count: int, rate: float | None) -> None:
    """`count` reports, each saying in `frameIndex` when it was published (microseconds of the monotonic clock)."""
    seen = [Detection(center_x=0.5, center_y=0.5, width=0.1, height=0.1, class_num=0, label="car", confidence=0.9)] * 3
    task_id = str(uuid.uuid4())
    slots = asyncio.Semaphore(IN_FLIGHT_MAX)
    async with await aio_pika.connect(amqp_url) as connection:
        exchange = await (await connection.channel()).get_exchange(topology.EVENTS)

        async def publish(sequence: int) -> None:
            event = FrameDetected(
                task_id=task_id,
                media_id=task_id,
                sequence=sequence,
                frame_index=time.monotonic_ns() // 1000,
                annotations=seen,
            )
            async with slots:
                await exchange.publish(aio_pika.Message(wire.encode(event)), topology.event_key(event))

        if rate is None:
            for sequence in range(1, count + 1, IN_FLIGHT_MAX):  # in order, or a late one counts as seen already
                for one in range(sequence, min(sequence + IN_FLIGHT_MAX, count + 1)):
                    await publish(one)
        else:
            for sequence in range(1, count + 1):
                await publish(sequence)
                await asyncio.sleep(1 / rate)


def _listen(url: str, listeners: int, count: int, results: Connection) -> None:
    results.send(asyncio.run(_listen_all(url, listeners, count, results)))


async def _listen_all(url: str, listeners: int, count: int, results: Connection) -> Heard:
    connected = [await _connect(url) for _ in range(listeners)]
    results.send("connected")
    began_s = time.monotonic()
    heard = await asyncio.gather(*(_hear(reader, count) for reader, _ in connected))
    for _, writer in connected:
        writer.close()
    delays = [delay for one in heard for delay in one]
    return Heard(delays_s=delays, incomplete=sum(len(one) != count for one in heard), took_s=time.monotonic() - began_s)


async def _connect(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=2**20)
    writer.write(b"GET /detect/stream HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    await reader.readuntil(b"id: ")
    return reader, writer


async def _hear(reader: asyncio.StreamReader, count: int) -> list[float]:
    """The delays of the events one listener heard, until the last one or the timeout."""
    delays: list[float] = []
    needle = b'"frameIndex":'
    try:
        async with asyncio.timeout(READ_TIMEOUT_S):
            while len(delays) < count:
                line = await reader.readline()
                if line.startswith(b"data:"):
                    published = line.split(needle, 1)[1].split(b",", 1)[0].rstrip(b"}\n")
                    delays.append(time.monotonic() - int(published) / 1e6)
    except TimeoutError:
        pass
    return delays


def _report(name: str, heard: Heard, expected: int, cpu_s: float) -> None:
    delays = heard.delays_s
    print(
        f"{name}: {len(delays)} of {expected} deliveries, {heard.incomplete} incomplete listeners, {len(delays) / heard.took_s:.0f}/s, "
        f"delay p50 {percentile(delays, 0.5) * 1e3:.0f} ms, p99 {percentile(delays, 0.99) * 1e3:.0f} ms, "
        f"edge CPU {cpu_s / max(1, len(delays)) * 1e6:.0f} us a delivery",
        flush=True,
    )


if __name__ == "__main__":
    main()
