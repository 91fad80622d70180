"""What a consumer says, as messages for the broker, and the connection that sends them."""

import asyncio
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import Protocol

import aiormq.exceptions
import msgspec
from faststream.exceptions import IncorrectState
from faststream.rabbit import RabbitBroker, RabbitExchange

from contracts import topology, wire
from contracts.broker_calls import broker_call
from contracts.commands import AnyCommand
from contracts.events import AnyEvent, ConsumerSeen, TaskProgressed, event_id
from contracts.failures import FailureRecord
from contracts.message_spans import Passed, has_span, published
from contracts.trace_context import trace_headers

PUBLISH_TIMEOUT_S = 10.0
"""Until a publish counts as failed. Whether the broker has it is then unknown: its readers know messages by their id."""


RECOVERY_POLL_S = 0.1


class Undelivered(Exception):
    """The broker did not confirm a message in time; it may have it or not."""


class Outgoing(msgspec.Struct, frozen=True, kw_only=True):
    """One message and where it goes."""

    exchange: str
    routing_key: str = ""
    type: str
    body: bytes
    id: str | None = None
    headers: dict[str, str] = {}
    is_kept: bool = True
    """True: it survives a restart of the broker and must reach a queue."""
    has_span: bool = False
    """Whether its way is recorded, where traces are."""

    def passed(self) -> Passed:
        return Passed(
            exchange=self.exchange,
            routing_key=self.routing_key,
            id=self.id,
            body_bytes=len(self.body),
            headers=self.headers,
        )


class Sender(Protocol):
    """Whatever can send a message."""

    async def send(self, message: Outgoing) -> None:
        """Return when the broker has confirmed the message. Raises `Undelivered`."""
        ...


def event_message(event: AnyEvent) -> Outgoing:
    """An event of a task, for the log."""
    return Outgoing(
        exchange=topology.EVENTS,
        routing_key=topology.event_key(event),
        type=type(event).__name__,
        body=wire.encode(event),
        id=event_id(event),
        headers={topology.TASK_ID_HEADER: event.task_id},
        is_kept=not isinstance(event, TaskProgressed),
        has_span=has_span(event),
    )


def command_message(command: AnyCommand) -> Outgoing:
    """A command, for another consumer to go on with."""
    return Outgoing(
        exchange=topology.COMMANDS,
        routing_key=topology.command_key(command),
        type=type(command).__name__,
        body=wire.encode(command),
        headers={topology.TASK_ID_HEADER: command.task_id},
        has_span=True,
    )


def dead_letter(body: bytes, failure: FailureRecord) -> Outgoing:
    """A message that led to nothing, untouched, with the reason beside it."""
    return Outgoing(
        exchange=topology.DEAD,
        type="DeadLetter",
        body=body,
        headers=topology.failure_headers(failure),
        has_span=True,
    )


def presence_message(seen: ConsumerSeen) -> Outgoing:
    """A heartbeat; nobody may listen."""
    return Outgoing(exchange=topology.PRESENCE, type="ConsumerSeen", body=wire.encode(seen), is_kept=False)


class RabbitSender:
    """Sends on a connection of its own: a blocked publisher must not freeze acks."""

    def __init__(self, broker: RabbitBroker) -> None:
        self._broker = broker
        self._exchanges = {
            exchange.name: RabbitExchange(exchange.name, declare=False, robust=False)
            for exchange in topology.topology().exchanges
        }

    async def prepare(self) -> None:
        """Look every exchange up once the connection stands.

        The library asks the broker for an exchange at its first use, and messages sent meanwhile overtake each other there.
        """
        for exchange in self._exchanges.values():
            await self._broker.declare_exchange(exchange)

    async def recovered(self) -> None:
        """Return when the connection stands and the broker takes messages on it: it may be in alarm."""
        connection = await self._broker.connect()
        while True:
            await connection.ready()
            if connection.transport is not None:
                return await connection.transport.ready()
            await asyncio.sleep(RECOVERY_POLL_S)

    async def send(self, message: Outgoing) -> None:
        """Return when the broker has confirmed the message. Raises `Undelivered`."""
        try:
            with broker_call():
                async with asyncio.timeout(PUBLISH_TIMEOUT_S):  # the library's own timeout is not honoured (STACK 2.5)
                    with published(message.passed()) if message.has_span else nullcontext():
                        await self._publish(message)
        except (TimeoutError, OSError, RuntimeError, aiormq.exceptions.AMQPError, IncorrectState) as error:
            raise Undelivered(f"{message.type}: {error!r}") from error

    async def _publish(self, message: Outgoing) -> None:
        await self._broker.publish(
            message.body,
            exchange=self._exchanges[message.exchange],
            routing_key=message.routing_key,
            persist=message.is_kept,
            mandatory=message.is_kept,
            headers={**message.headers, **trace_headers()},
            content_type=wire.CONTENT_TYPE,
            message_id=message.id,
            message_type=message.type,
            timestamp=datetime.now(UTC),
        )
