"""Upload: MB/s into storage through the edge against a bare ASGI sink that writes the same bytes to a file.

Same server, same machine, same run, taking turns. The goal is a ratio of at least 0.9 (STACK 4.1 says why: the page cache is
the bottleneck, not the framework). The edge hashes and digests every byte as it passes; the sink does not.
"""

import argparse
import asyncio
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Self

import httpx

from benchmarks.probes import cpu_seconds, print_head
from detections.local import LocalStack
from detections.rabbitmq import free_port

CHUNK_BYTES = 256 * 1024


async def sink(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """A bare ASGI application: the body into `$SINK_FILE`, batches of 256 KiB written in a thread."""
    if scope["type"] != "http":
        return
    with open(os.environ["SINK_FILE"], "wb", buffering=0) as file:  # noqa: ASYNC230, PTH123 - once, before anything is timed
        async for batch in _batches(receive):
            await asyncio.to_thread(os.writev, file.fileno(), batch)
        await asyncio.to_thread(os.fsync, file.fileno())
    await send({"type": "http.response.start", "status": 202, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def _batches(receive: Any) -> AsyncIterator[list[bytes]]:
    batch: list[bytes] = []
    more = True
    while more:
        message = await receive()
        more = message.get("more_body", False)
        batch.append(message.get("body", b""))
        if sum(map(len, batch)) >= CHUNK_BYTES or not more:
            yield batch
            batch = []


def main() -> None:
    arguments = _arguments()
    print_head(f"Upload, {arguments.megabytes} MB a turn, {arguments.turns} turns")
    with tempfile.TemporaryDirectory() as folder:
        body = Path(folder) / "body.mkv"
        _write_body(body, arguments.megabytes)
        with _Sink(Path(folder)) as bare, LocalStack(Path(folder) / "storage", consumers=0) as stack:
            rates: dict[str, list[float]] = {"sink": [], "edge": []}
            for _ in range(arguments.turns):
                rates["sink"].append(_rate(bare.url, body))
                rates["edge"].append(_rate(f"{stack.url}/detect/video", body))
            _report(rates, cpu={"sink": cpu_seconds(bare.pid), "edge": cpu_seconds(stack.pids("edge")[0])})


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=512)
    parser.add_argument("--turns", type=int, default=7)
    return parser.parse_args()


def _write_body(path: Path, megabytes: int) -> None:
    """Bytes that no decoder takes for a video: the upload is measured, not the decoding."""
    block = os.urandom(1024 * 1024)
    with path.open("wb") as file:
        for _ in range(megabytes):
            file.write(block)


def _rate(url: str, body: Path) -> float:
    """MB/s of one upload, answer included."""
    began = time.perf_counter()
    with body.open("rb") as file:
        answer = httpx.post(
            url,
            content=iter(lambda: file.read(CHUNK_BYTES), b""),
            headers={"X-Filename": body.name, "Content-Length": str(body.stat().st_size)},
            timeout=120,
        )
    answer.raise_for_status()
    return body.stat().st_size / 1e6 / (time.perf_counter() - began)


class _Sink:
    """The bare application on the same server as the edge's."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}/"

    def __enter__(self) -> Self:
        command = [
            sys.executable,
            "-m",
            "uvicorn",
            "benchmarks.upload:sink",
            "--port",
            str(self._port),
            "--log-level",
            "warning",
        ]
        self._process = subprocess.Popen(command, env=os.environ | {"SINK_FILE": str(self._folder / "sunk")})
        self.pid = self._process.pid
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self._port), 0.2).close()
            except OSError:
                time.sleep(0.05)
            else:
                return self
        raise TimeoutError("the sink did not listen within 10 s")

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(10)


def _report(rates: dict[str, list[float]], *, cpu: dict[str, float]) -> None:
    ratios = [edge / bare for edge, bare in zip(rates["edge"], rates["sink"], strict=True)]
    for name, values in rates.items():
        print(
            f"{name}: median {statistics.median(values):.0f} MB/s (lowest {min(values):.0f}), {cpu[name]:.1f} CPU s in all"
        )
    print(f"edge / sink: median of turns {statistics.median(ratios):.2f}, lowest {min(ratios):.2f}")


if __name__ == "__main__":
    main()
