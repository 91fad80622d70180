"""A stage for consumer tests: a storage, a way to play the edge, and real consumer processes."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aio_pika
import msgspec
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from aio_pika.exceptions import CONNECTION_EXCEPTIONS

from contracts import topology, wire
from contracts.commands import AnyCommand, CancelTask
from contracts.events import AnyEvent, ConsumerSeen, FrameDetected, TaskEnded
from contracts.storage import (
    EXTENT_BYTES,
    Extent,
    ExtentState,
    Layout,
    Lease,
    Seal,
    create_record,
    pack_extent,
    read_record,
)
from tests.conftest import REPOSITORY

WAIT_S = 60.0
BEAT_S = 1.0


def new_task_id() -> str:
    return str(uuid.uuid4())


class Upload:
    """A growing file, written as the edge writes it."""

    def __init__(self, layout: Layout, task_id: str) -> None:
        self._layout = layout
        self._task_id = task_id
        self._head_bytes = 0
        self._state = ExtentState.WRITING
        layout.body(task_id).parent.mkdir(parents=True)
        self._body = layout.body(task_id).open("xb", buffering=0)
        layout.extent(task_id).write_bytes(bytes(EXTENT_BYTES))
        self.beat()

    def write(self, content: bytes) -> None:
        self._body.write(content)
        self._head_bytes += len(content)
        self.beat()

    def beat(self) -> None:
        """Show that the writer lives."""
        self._say(self._state)

    def seal(self, media_id: str) -> None:
        seal = Seal(media_id=media_id, size_bytes=self._head_bytes, digest="0")
        create_record(self._layout.seal(self._task_id), seal)
        self._say(ExtentState.SEALED)

    def abort(self) -> None:
        self._say(ExtentState.ABORTED)

    def _say(self, state: ExtentState) -> None:
        self._state = state
        extent = Extent(head_bytes=self._head_bytes, state=state, heartbeat_s=time.time())
        file = os.open(self._layout.extent(self._task_id), os.O_WRONLY)
        os.pwrite(file, pack_extent(extent), 0)
        os.close(file)


class ConsumerProcess:
    """`python -m consumers`, really."""

    def __init__(self, url: str, storage: Path, *, model: Path, log: Path, settings: dict[str, str]) -> None:
        self._log = log
        environment = {
            **os.environ,
            "AMQP_URL": url,
            "STORAGE_DIR": str(storage),
            "CONSUMER_MODEL": str(model),
            "CONSUMER_WORKERS": "1",
            **settings,
        }
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "consumers"], env=environment, stdout=output, stderr=output, cwd=REPOSITORY
            )

    @property
    def output(self) -> str:
        return self._log.read_text()

    async def until_ready(self) -> None:
        await until(lambda: '"ready"' in self.output or self.process.poll() is not None)
        assert self.process.poll() is None, self.output

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    async def terminate(self) -> int:
        self.process.terminate()
        await until(lambda: self.process.poll() is not None)
        return self.process.wait()

    def end(self) -> None:
        if self.process.poll() is None:
            self.kill()


class Stage:
    """The broker with its topology, and everything that was said on it since the stage was set."""

    def __init__(self, channel: AbstractChannel, url: str, folder: Path) -> None:
        self.url = url
        self.folder = folder
        self.layout = Layout(folder / "storage")
        self.events: list[AnyEvent] = []
        self.messages: list[AbstractIncomingMessage] = []
        self.dead_letters: list[AbstractIncomingMessage] = []
        self._channel = channel
        self._consumers: list[ConsumerProcess] = []
        self._uploads: list[Upload] = []

    async def listen(self) -> None:
        await topology.declare(self._channel)
        await self.clear(topology.DEAD_LETTERS)
        log = await self._channel.declare_queue(topology.EVENTS_LOG, passive=True)
        dead = await self._channel.declare_queue(topology.DEAD_LETTERS, passive=True)
        await log.consume(self._on_event, arguments={"x-stream-offset": "next"})
        await dead.consume(self._on_dead_letter)

    async def clear(self, *queues: str) -> None:
        """Leave nothing to do, neither for the next consumer nor, by dead letters, for the edge of another test."""
        commands = (topology.IMAGE_COMMANDS, topology.VIDEO_COMMANDS, topology.SHOTS_COMMANDS)
        for name in (*commands, topology.DEAD_LETTER_NOTICES, *queues):
            await (await self._channel.declare_queue(name, passive=True)).purge()

    def consumer(self, *, model: Path, **settings: str) -> ConsumerProcess:
        log = self.folder / f"consumer-{len(self._consumers)}.log"
        consumer = ConsumerProcess(self.url, self.layout.root, model=model, log=log, settings=settings)
        self._consumers.append(consumer)
        return consumer

    def upload(self, task_id: str) -> Upload:
        """A new upload, whose writer lives as long as the stage does."""
        upload = Upload(self.layout, task_id)
        self._uploads.append(upload)
        return upload

    async def beat(self) -> None:
        """Show for ever that the writers of uploads live."""
        while True:
            await asyncio.sleep(BEAT_S)
            for upload in self._uploads:
                upload.beat()

    async def command(self, command: AnyCommand) -> None:
        await self.raw_command(wire.encode(command), key=topology.command_key(command))

    async def raw_command(self, body: bytes, *, key: str) -> None:
        exchange = await self._channel.get_exchange(topology.COMMANDS, ensure=False)
        message = aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await exchange.publish(message, routing_key=key)

    async def cancel(self, task_id: str) -> None:
        exchange = await self._channel.get_exchange(topology.CONTROL, ensure=False)
        await exchange.publish(aio_pika.Message(wire.encode(CancelTask(task_id=task_id))), routing_key="")

    async def delete_exchange(self, name: str) -> None:
        await self._channel.exchange_delete(name)

    def holder_of(self, task_id: str) -> int | None:
        """The process id of the consumer that holds a task."""
        lease = read_record(self.layout.lease(task_id), Lease)
        return None if lease is None else int(lease.owner.split(":")[1])

    async def listen_to_presence(self) -> list[ConsumerSeen]:
        """What consumers say of themselves from now on."""
        seen: list[ConsumerSeen] = []

        async def remember(message: AbstractIncomingMessage) -> None:
            seen.append(wire.decode_presence(message.body))

        queue = await self._channel.declare_queue(exclusive=True)
        await queue.bind(topology.PRESENCE)
        await queue.consume(remember, no_ack=True)
        return seen

    async def ready_messages(self, queue: str) -> int:
        declared = await self._channel.declare_queue(queue, passive=True)
        return declared.declaration_result.message_count or 0

    def of(self, task_id: str) -> list[AnyEvent]:
        return [event for event in self.events if event.task_id == task_id]

    def reports(self, task_id: str) -> list[FrameDetected]:
        return [event for event in self.of(task_id) if isinstance(event, FrameDetected)]

    def ends(self, task_id: str) -> list[TaskEnded]:
        return [event for event in self.of(task_id) if isinstance(event, TaskEnded)]

    async def end_of(self, task_id: str) -> TaskEnded:
        await until(lambda: bool(self.ends(task_id)))
        return self.ends(task_id)[0]

    def close(self) -> None:
        for consumer in self._consumers:
            consumer.end()

    async def _on_event(self, message: AbstractIncomingMessage) -> None:
        self.messages.append(message)
        self.events.append(wire.decode_event(message.body))
        await message.ack()

    async def _on_dead_letter(self, message: AbstractIncomingMessage) -> None:
        self.dead_letters.append(message)
        await message.ack()


@contextlib.asynccontextmanager
async def stage(url: str, folder: Path) -> AsyncIterator[Stage]:
    connection = await aio_pika.connect(url)
    async with connection:
        channel = await connection.channel()
        await channel.set_qos(100)
        built = Stage(channel, url, folder)
        await built.listen()
        beating = asyncio.create_task(built.beat())
        try:
            yield built
        finally:
            beating.cancel()
            built.close()
            with contextlib.suppress(*CONNECTION_EXCEPTIONS):  # a test may have ended its connection
                await built.clear()


async def until(is_so: Callable[[], bool], *, timeout_s: float = WAIT_S) -> None:
    async with asyncio.timeout(timeout_s):
        while not is_so():
            await asyncio.sleep(0.01)


def scripted_model(folder: Path, **changes: object) -> Path:
    """A model that finds red."""
    model = {
        "runtime": "scripted",
        "input": [128, 160],
        "objects": [{"class": 0, "name": "red", "rgb": [255, 0, 0], "confidence": 0.9}],
        "tolerance": 60,
        **changes,
    }
    path = folder / "red.json"
    path.write_bytes(msgspec.json.encode(model))
    return path
