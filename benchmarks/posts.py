"""Posts to the Annotations service: how many a second, with one medium and with 16 media in flight.

The tasks lie ready in the storage, each report with a frame; a wake-up each sets the edge to work on them. The service is the
double, a process on the same cores, so the CPU seconds of the edge say more than the rate.
"""

import argparse
import asyncio
import os
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import aio_pika
import httpx
import jwt
import msgspec
from aio_pika.exceptions import AMQPError

from benchmarks.probes import cpu_seconds, print_head
from contracts import topology
from contracts.commands import DetectVideo
from contracts.detections import Counts, Detection
from contracts.events import FrameDetected, TaskEnded
from contracts.media import Medium, MediumKind
from contracts.posts import WakeUp
from contracts.results import Checkpoint, Reported
from contracts.storage import Layout, TaskRecord, create_record
from contracts.wire import encode
from detections.annotations_double import KEY
from detections.local import FAKE, LocalStack
from edge.auth import Caller
from edge.tokens import Tokens
from edge.vault import Sealer, Vault

TIMEOUT_S = 300.0
STATUSES = 2
"""Posts of a task beside its reports: that it is looked at, and that it has ended."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reports", type=int, default=800, help="in all, of each run")
    parser.add_argument("--frame-bytes", type=int, default=100_000)
    arguments = parser.parse_args()
    print_head(f"Posts, each with a frame of {arguments.frame_bytes // 1000} kB")
    with (
        tempfile.TemporaryDirectory() as folder,
        LocalStack(Path(folder), consumers=0, environ={"ANNOTATIONS_URL": FAKE}) as stack,
    ):
        asyncio.run(_wait_for_broker(stack.amqp_url))
        for media in (1, 16, 1, 16):
            asyncio.run(
                _run(stack, media=media, reports=arguments.reports // media, frame=os.urandom(arguments.frame_bytes))
            )


async def _run(stack: LocalStack, *, media: int, reports: int, frame: bytes) -> None:
    layout = Layout(stack.storage)
    bearer = jwt.encode({"sub": "bench", "exp": time.time() + 3600}, KEY, algorithm="HS256")
    tokens = Tokens(layout, Vault(Sealer("", layout)), _refuse)
    async with httpx.AsyncClient(base_url=stack.annotations_url or "", trust_env=False) as double:
        tasks = [str(uuid4()) for _ in range(media)]
        for task_id in tasks:
            record = {"id": f"m-{task_id}", "path": "a.mp4"}
            await double.post("/api/media", json=record, headers={"Authorization": f"Bearer {bearer}"})
            _write(layout, task_id, reports=reports, frame=frame)
            await tokens.keep(task_id, Caller(user_id="bench", bearer=bearer))
        (edge,) = stack.pids("edge")
        calls, cpu_s, began_s = await _calls(double), cpu_seconds(edge), time.monotonic()
        await _wake(stack.amqp_url, tasks)
        expected = calls + media * (reports + STATUSES)
        while await _calls(double) < expected:
            if time.monotonic() - began_s > TIMEOUT_S:
                raise TimeoutError(f"{await _calls(double) - calls} of {expected - calls} posts in {TIMEOUT_S} s")
            await asyncio.sleep(0.05)
    took_s, posts = time.monotonic() - began_s, expected - calls
    cpu_ms = (cpu_seconds(edge) - cpu_s) / posts * 1e3
    print(
        f"- {media} in flight: {posts / took_s:.0f} posts/s ({posts} posts), {cpu_ms:.2f} ms CPU of the edge each",
        flush=True,
    )


def _write(layout: Layout, task_id: str, *, reports: int, frame: bytes) -> None:
    """A task that has ended, as a consumer leaves it."""
    media_id = f"m-{task_id}"
    medium = Medium(root="videos", path="a.mp4", kind=MediumKind.VIDEO, media_id=media_id)
    command = DetectVideo(task_id=task_id, medium=medium, owner="bench", is_posted=True)
    create_record(
        layout.task_record(task_id), TaskRecord(task_id=task_id, command=command, created_at=datetime.now(UTC))
    )
    layout.frame(task_id, 1).parent.mkdir()
    seen = [Detection(center_x=0.5, center_y=0.5, width=0.1, height=0.1, class_num=0, label="car", confidence=0.9)] * 5
    with layout.results(task_id, epoch=1).open("wb") as file:
        for sequence in range(1, reports + 1):
            layout.frame(task_id, sequence).write_bytes(frame)
            event = FrameDetected(
                task_id=task_id, media_id=media_id, sequence=sequence, video_time="00:00:01.000", annotations=seen
            )
            done = Checkpoint(frame_index=sequence, at_s=1.0, counts=Counts(), sequence=sequence)
            file.writelines(msgspec.json.encode(record) + b"\n" for record in (Reported(event=event), done))
    create_record(layout.end(task_id), TaskEnded(task_id=task_id, media_id=media_id, sequence=reports + 1))


async def _wake(amqp_url: str, tasks: list[str]) -> None:
    async with await aio_pika.connect(amqp_url) as connection:
        exchange = (await connection.channel()).default_exchange
        for task_id in tasks:
            await exchange.publish(aio_pika.Message(encode(WakeUp(task_id=task_id))), topology.OUTBOX)


async def _wait_for_broker(amqp_url: str) -> None:
    deadline_s = time.monotonic() + TIMEOUT_S
    while True:
        try:
            async with await aio_pika.connect(amqp_url) as connection:
                return await topology.declare(await connection.channel())
        except (AMQPError, OSError):  # it starts, or its streams are not there yet
            if time.monotonic() > deadline_s:
                raise
            await asyncio.sleep(0.5)


async def _calls(double: httpx.AsyncClient) -> int:
    return int((await double.get("/double/seen")).json()["calls"])


async def _refuse(_: str) -> None:
    raise AssertionError("the token lives longer than the benchmark")


if __name__ == "__main__":
    main()
