"""Work for a fleet, and what came of it: what was promised, the whole log, the dead letters, the queues."""

import asyncio
import contextlib
import itertools
import random
import secrets
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path

import aio_pika
import httpx
import msgspec
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from contracts import topology
from contracts.broker_nodes import nodes
from contracts.commands import AnyCommand
from contracts.events import AnyEvent, TaskEnded
from contracts.options import DetectionOptions
from contracts.storage import Layout, read_record
from contracts.wire import decode_event, encode
from detections.rabbitmq import PrivateRabbit
from tests.fault.checker import Accepted, Seen
from tests.fault.fleet import WAIT_S
from tests.media import STATIC, Container, write_video
from tests.processes import wait_until
from tests.virtual_hosts import new_virtual_host

EVERY_FRAME = DetectionOptions(frame_period_recognition=1, frame_recognition_seconds=0)
CONFIG = {"X-Config": '{"frame_period_recognition": 1, "frame_recognition_seconds": 0}'}
ANSWER_TIMEOUT_S = 120.0
CONNECT_TIMEOUT_S = 15.0


def new_task() -> str:
    return str(uuid.uuid4())


def clip_of(folder: Path, *, frames: int, noise: int = 0) -> bytes:
    """A clip of which every frame is reported, in a container that can be read while it arrives."""
    path = folder / f"{frames}-{noise}.mp4"
    return write_video(
        path, frames=frames, squares=STATIC, container=Container.MP4_FRAGMENTED, noise=noise
    ).read_bytes()


@contextlib.contextmanager
def virtual_host(rabbit: PrivateRabbit) -> Iterator[str]:
    """The URL of a virtual host of its own on a broker that others use."""
    url = new_virtual_host(rabbit)
    try:
        yield url
    finally:
        address = f"{rabbit.management_url}/api/vhosts/{url.rpartition('/')[2]}"
        httpx.delete(address, auth=("guest", "guest"), timeout=WAIT_S, trust_env=False).raise_for_status()


def send_video(
    url: str,
    task_id: str,
    content: bytes,
    *,
    halfway: Callable[[], None] | None = None,
    path: str = "/detect/video",
    **headers: str,
) -> int | None:
    """The status of an upload, None if the connection was lost. halfway: what happens between its two halves."""

    def halves() -> Iterator[bytes]:
        yield content[: len(content) // 2]
        if halfway is not None:
            halfway()
        yield content[len(content) // 2 :]

    said = {"X-Filename": "clip.mp4", "X-Task-Id": task_id, "Content-Length": str(len(content)), **CONFIG, **headers}
    try:
        with httpx.Client(timeout=ANSWER_TIMEOUT_S, trust_env=False) as http:
            return http.post(f"{url}{path}", content=halves(), headers=said).status_code
    except httpx.TransportError:
        return None


def wait_for_end(layout: Layout, task_id: str, *, timeout_s: float = WAIT_S) -> TaskEnded:
    """The end of a task as it is written down."""
    wait_until(lambda: layout.end(task_id).exists(), timeout_s=timeout_s)
    end = read_record(layout.end(task_id), TaskEnded)
    assert end is not None
    return end


@contextlib.asynccontextmanager
async def channel_on(amqp_url: str) -> AsyncGenerator[AbstractChannel]:
    """A channel, once the broker is there, or a node of it."""
    named = nodes(amqp_url)
    async with asyncio.timeout(WAIT_S):
        for node in itertools.cycle(random.sample(named, k=len(named))):
            with contextlib.suppress(OSError, aio_pika.exceptions.AMQPError):
                connection = await aio_pika.connect(node, timeout=CONNECT_TIMEOUT_S)
                break
            await asyncio.sleep(0.1)
    async with connection:
        yield await connection.channel(on_return_raises=True)


async def send_command(channel: AbstractChannel, command: AnyCommand) -> None:
    """As another service does it; returns with the broker's confirm."""
    exchange = await channel.get_exchange(topology.COMMANDS, ensure=False)
    message = aio_pika.Message(encode(command), delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
    await exchange.publish(message, topology.command_key(command))


async def read_log(channel: AbstractChannel) -> list[AnyEvent]:
    """Every event of the log, from its beginning."""
    marker = secrets.token_hex(8).encode()
    events: list[AnyEvent] = []
    is_read = asyncio.Event()

    async def take(message: AbstractIncomingMessage) -> None:
        await message.ack()
        if message.type != topology.LOG_MARKER_TYPE:
            events.append(decode_event(message.body))
        elif message.body == marker:
            is_read.set()

    await channel.set_qos(200)
    log = await channel.get_queue(topology.EVENTS_LOG, ensure=False)
    await log.consume(take, arguments={"x-stream-offset": "first"})
    message = aio_pika.Message(marker, type=topology.LOG_MARKER_TYPE, delivery_mode=2)
    await channel.default_exchange.publish(message, topology.EVENTS_LOG)
    async with asyncio.timeout(WAIT_S):
        await is_read.wait()
    return events


async def dead_letters(channel: AbstractChannel) -> list[str]:
    """The task ids of what lies there; it stays there."""
    queue = await channel.get_queue(topology.DEAD_LETTERS, ensure=False)
    found: list[str] = []
    while (message := await queue.get(fail=False)) is not None:
        found.append(msgspec.json.decode(message.body)["taskId"])
    return found


async def waiting_messages(channel: AbstractChannel) -> dict[str, int]:
    """How many messages wait in each queue that has to be empty in the end; those given out are not among them."""
    kept = {topology.EVENTS_LOG, topology.DEAD_LETTERS, *topology.OUTBOX_LATER}
    names = [queue.name for queue in topology.topology().queues if queue.name not in kept]
    queues = [await channel.declare_queue(name, passive=True) for name in names]
    return {queue.name: queue.declaration_result.message_count or 0 for queue in queues}


async def seen_on(amqp_url: str, accepted: list[Accepted]) -> Seen:
    """What the broker knows of a run."""
    async with channel_on(amqp_url) as channel:
        events = await read_log(channel)
    async with channel_on(amqp_url) as channel:
        return Seen(accepted=accepted, events=events, dead_letters=await dead_letters(channel))


async def until_empty(amqp_url: str) -> None:
    """Return when every queue is empty. Raises `AssertionError` naming those that are not."""
    deadline_s = time.monotonic() + WAIT_S
    async with channel_on(amqp_url) as channel:
        while any((left := await waiting_messages(channel)).values()):
            assert time.monotonic() < deadline_s, left
            await asyncio.sleep(0.1)
