"""Commands leave: persistent, routed, confirmed, and within a deadline of our own.

The deadline is ours because the library's does not fire while the broker is in alarm (`publish` then hangs). A publish that
ran out of time may still arrive later: consumers are idempotent. A broker that says it is in alarm is not waited for as long.
"""

import asyncio
from datetime import UTC, datetime

import structlog
from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.exceptions import PublishError

from contracts import topology
from contracts.broker_calls import broker_call
from contracts.broker_flow import is_flowing
from contracts.commands import AnyCommand, CancelTask
from contracts.crashpoints import crashpoint
from contracts.events import TaskEnded, event_id
from contracts.failures import Failure, FailureCode
from contracts.message_spans import Passed, published
from contracts.posts import DeadPost, WakeUp
from contracts.trace_context import trace_headers
from contracts.wire import CONTENT_TYPE, encode
from edge.broker import BROKER_ERRORS, close_quietly, complete_topology, until_closed
from edge.settings import EdgeSettings

BLOCKED_POLL_S = 0.1
"""How often the connection is asked whether the broker has stopped taking messages; the library has no call for it."""
BLOCKED_WAIT_S = 1.0
"""How long a message waits for the end of an alarm; then whoever sends it is told."""
_NOT_CONNECTED = "not connected to the broker"
_BLOCKED = "the broker is in alarm and takes no messages"
_NOWHERE = "detections.nowhere"
"""A routing key without a queue: what is sent there is confirmed, and gone."""

_log = structlog.get_logger()


class Outbox:
    """Publishes on a connection of its own."""

    def __init__(self, settings: EdgeSettings) -> None:
        self._settings = settings
        self._connection: AbstractConnection | None = None
        self._channel: AbstractChannel | None = None
        self._asked: AbstractChannel | None = None
        self._asking = asyncio.Lock()
        self._connected = asyncio.Event()
        self._deadlines: set[asyncio.Timeout] = set()
        """Of everybody who waits for a confirm."""
        self.is_blocked = False
        """Whether the broker has said that it takes no messages."""

    @property
    def is_connected(self) -> bool:
        return self._channel is not None

    async def serve(self, connection: AbstractConnection) -> None:
        """Complete the topology and publish on this connection until it is gone."""
        await complete_topology(connection)
        channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        self._connection, self._channel = connection, channel
        self._connected.set()
        watching = asyncio.create_task(self._watch(connection))
        try:
            await until_closed(channel)
        finally:
            watching.cancel()
            self._connected.clear()
            self._connection = self._channel = self._asked = None
            self.is_blocked = False

    async def publish(self, command: AnyCommand) -> None:
        """Return when the command lies in its queue. Raises `Failure` broker_unavailable."""
        message = _message(encode(command), kind=type(command).__name__, task_id=command.task_id, id=command.task_id)
        crashpoint("edge.command.begun")
        await self._send_traced(topology.COMMANDS, message, key=topology.command_key(command))
        crashpoint("edge.command.confirmed")

    async def publish_end(self, event: TaskEnded) -> None:
        """Return when the log has the end of a task that this edge ended. Raises `Failure` broker_unavailable."""
        message = _message(encode(event), kind="TaskEnded", task_id=event.task_id, id=event_id(event))
        crashpoint("edge.end.begun")
        await self._send_traced(topology.EVENTS, message, key=topology.event_key(event))
        crashpoint("edge.end.confirmed")

    async def cancel(self, task_id: str) -> None:
        """Tell every consumer to stop the task; nobody listening is no failure. Raises `Failure` broker_unavailable."""
        message = _message(encode(CancelTask(task_id=task_id)), kind="CancelTask", task_id=task_id, id=None)
        await self._send(topology.CONTROL, message, key="", is_mandatory=False)

    async def wake(self, task_id: str) -> None:
        """Have some edge see what the Annotations service is to be told of a task. Raises `Failure` broker_unavailable."""
        message = _message(encode(WakeUp(task_id=task_id)), kind="WakeUp", task_id=task_id, id=None)
        await self._send("", message, key=topology.OUTBOX)

    async def wake_later(self, wake: WakeUp, *, step: int, delay_s: float) -> None:
        """The same after `delay_s`; step: 0 for the shortest kind of wait. Raises `Failure` broker_unavailable."""
        message = _message(encode(wake), kind="WakeUp", task_id=wake.task_id, id=None)
        message.expiration = delay_s
        await self._send("", message, key=topology.OUTBOX_LATER[step])

    async def bury(self, dead: DeadPost) -> None:
        """Keep a post that came to nothing for the operator. Raises `Failure` broker_unavailable."""
        message = _message(encode(dead), kind="DeadPost", task_id=dead.task_id, id=dead.post.key)
        message.headers.update(topology.failure_headers(dead.reason))
        await self._send("", message, key=topology.DEAD_LETTERS)  # past the notices: no task ends of it

    async def mark_log(self, name: str) -> None:
        """Put a marker at the end of the log. Raises `Failure` broker_unavailable."""
        message = Message(name.encode(), type=topology.LOG_MARKER_TYPE, delivery_mode=DeliveryMode.PERSISTENT)
        await self._send("", message, key=topology.EVENTS_LOG)

    async def probe(self) -> None:
        """Return when the broker has confirmed a message that goes nowhere. Raises `Failure` broker_unavailable."""
        await self._send("", Message(b""), key=_NOWHERE, is_mandatory=False)

    async def has_exchange(self, name: str) -> bool:
        """Whether the broker answers and has this exchange; asked on a channel of its own, which a refusal closes.

        It is kept: with each channel that is opened a connection of aiormq grows by 4 kB until it ends.
        """
        connection = self._connection
        if connection is None:
            return False
        try:
            with broker_call():
                async with self._asking:
                    if self._asked is None or self._asked.is_closed:
                        self._asked = await connection.channel()
                    await self._asked.get_exchange(name, ensure=True)
        except BROKER_ERRORS:
            return False
        return True

    async def _watch(self, connection: AbstractConnection) -> None:
        """Tell those who wait when the broker is in alarm, for as long as the connection stands."""
        while True:
            was_blocked, self.is_blocked = self.is_blocked, not await is_flowing(connection.transport)
            if self.is_blocked:
                latest_s = asyncio.get_running_loop().time() + BLOCKED_WAIT_S
                for deadline in self._deadlines:
                    if not deadline.expired():
                        deadline.reschedule(min(deadline.when() or latest_s, latest_s))
                self._deadlines.clear()
            if self.is_blocked != was_blocked:
                _log.warning("publishing", is_blocked=self.is_blocked)
            await asyncio.sleep(BLOCKED_POLL_S)

    async def _send_traced(self, exchange: str, message: Message, *, key: str) -> None:
        body_bytes, headers = len(message.body), message.headers
        passed = Passed(
            exchange=exchange, routing_key=key, id=message.message_id, body_bytes=body_bytes, headers=headers
        )
        with published(passed):
            message.headers.update(trace_headers())
            await self._send(exchange, message, key=key)

    async def _send(self, exchange: str, message: Message, *, key: str, is_mandatory: bool = True) -> None:
        last = _NOT_CONNECTED
        timeout_s = self._settings.publish_timeout_s
        deadline = asyncio.timeout(min(timeout_s, BLOCKED_WAIT_S) if self.is_blocked else timeout_s)
        try:
            async with deadline:
                self._deadlines.add(deadline)
                while True:
                    await self._connected.wait()
                    last = "the broker does not confirm"
                    refusal = await self._refusal(exchange, message, key=key, is_mandatory=is_mandatory)
                    if refusal is None:
                        return
                    last = refusal
                    await asyncio.sleep(self._settings.publish_retry_s)
        except TimeoutError:
            if self.is_blocked:
                raise Failure(FailureCode.BROKER_UNAVAILABLE, _BLOCKED) from None
            detail = f"{last} (tried for {timeout_s:g} s)"
            raise Failure(FailureCode.BROKER_UNAVAILABLE, detail) from None
        finally:
            self._deadlines.discard(deadline)

    async def _refusal(self, exchange: str, message: Message, *, key: str, is_mandatory: bool) -> str | None:
        """Try once; None when it was confirmed, else why not."""
        channel = self._channel
        if channel is None:
            return _NOT_CONNECTED
        try:
            with broker_call():
                target = await channel.get_exchange(exchange, ensure=False) if exchange else channel.default_exchange
                await target.publish(message, key, mandatory=is_mandatory)
        except PublishError:
            self._connected.clear()
            await close_quietly(channel)  # a queue was deleted: `serve` creates it on the next connection, if it may
            return f"no queue takes {key!r} of exchange {exchange!r}"
        except BROKER_ERRORS as error:
            return f"{type(error).__name__}: {error}"
        return None


def _message(body: bytes, *, kind: str, task_id: str, id: str | None) -> Message:  # noqa: A002 - AMQP's own word
    return Message(
        body,
        content_type=CONTENT_TYPE,
        type=kind,
        message_id=id,
        headers={topology.TASK_ID_HEADER: task_id, **trace_headers()},
        delivery_mode=DeliveryMode.PERSISTENT,
        timestamp=datetime.now(UTC),
        app_id="edge",
    )
