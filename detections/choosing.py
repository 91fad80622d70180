"""A choice of a model goes out, and what each consumer made of it comes back with its heartbeat."""

import asyncio
import contextlib
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import msgspec

from contracts import topology, wire
from contracts.broker_calls import plainly
from contracts.events import ActiveModel, ConsumerSeen, ModelChanged
from contracts.failures import Failure, FailureCode
from detections.broker_connection import broker_failures, connect

if TYPE_CHECKING:
    from aio_pika.abc import AbstractChannel, AbstractExchange, AbstractIncomingMessage

WAIT_S = 120.0
LISTEN_S = 2.0
"""A consumer speaks once a second: after this long everybody is known."""
SILENT_S = 5.0
"""A consumer that was not heard of for so long is not waited for."""
CONNECT_TIMEOUT_S = 15.0


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What one consumer made of it."""

    consumer: str
    model: str | None
    is_serving: bool
    reason: str | None = None

    def __str__(self) -> str:
        if self.is_serving:
            return f"{self.consumer} serves {self.model}"
        kept = f"keeps {self.model}" if self.model else "serves nothing"
        return f"{self.consumer} {kept}: {self.reason}"


class Audience:
    """The consumers that are there, and which of them have answered a choice."""

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self._seen: dict[str, tuple[float, ConsumerSeen]] = {}
        self._told: set[str] | None = None

    def see(self, consumer: ConsumerSeen) -> None:
        """A heartbeat came."""
        if consumer.is_stopping:
            self._seen.pop(consumer.id, None)
        else:
            self._seen[consumer.id] = (self._clock_s(), consumer)

    def is_told(self) -> None:
        """It is announced now. Who starts afterwards loads it with its first command, and owes no answer before."""
        self._told = set(self._seen)

    def answers(self, revision: str | None) -> list[Answer]:
        """Of those that have answered."""
        return [
            _answer(consumer)
            for _, consumer in self._seen.values()
            if consumer.model_outcome is not None and consumer.model_outcome.revision == revision
        ]

    def missing(self, revision: str | None) -> list[Answer]:
        """Those that are there and have not answered."""
        return self._without_answer(revision, "no answer in time", is_silent=False)

    def gone(self, revision: str | None) -> list[Answer]:
        """Those that were there and fell silent before they answered: killed, maybe by the very model."""
        return self._without_answer(revision, "not heard of any more", is_silent=True)

    def _without_answer(self, revision: str | None, reason: str, *, is_silent: bool) -> list[Answer]:
        now_s = self._clock_s()
        return [
            Answer(consumer=_shown(consumer), model=consumer.model, is_serving=False, reason=reason)
            for seen_s, consumer in self._seen.values()
            if (now_s - seen_s >= SILENT_S) is is_silent
            and (self._told is None or consumer.id in self._told)
            and (consumer.model_outcome is None or consumer.model_outcome.revision != revision)
        ]


async def announced(
    choose: Callable[[], Awaitable[ActiveModel]],
    *,
    activate: Callable[[ActiveModel], None],
    amqp_url: str,
    wait_s: float,
    tell: Callable[[Answer], None],
) -> list[Answer]:
    """Choose a model, make it active and announce it, and wait for the consumers; each answer is told as it comes.

    Raises `Failure(broker_unavailable)`, which says if the model was chosen all the same; what the two functions raise.
    """
    from aio_pika.exceptions import AMQPError

    with broker_failures(amqp_url):
        connection = await connect(amqp_url, name="detections models use", timeout_s=CONNECT_TIMEOUT_S)
    async with connection:
        try:
            channel = await connection.channel()
            audience = await _listening(channel)
            control = await channel.get_exchange(topology.CONTROL)
        except AMQPError as error:
            raise Failure(FailureCode.BROKER_UNAVAILABLE, f"the broker is not set up: {error}") from error
        started_s = time.monotonic()
        active = await choose()
        await asyncio.sleep(started_s + LISTEN_S - time.monotonic())
        audience.is_told()
        activate(active)
        await _announce(active, control)
        answers = await _heard(audience, active.revision, wait_s=wait_s, tell=tell)
        if connection.is_closed and not all(answer.is_serving for answer in answers):
            raise Failure(
                FailureCode.BROKER_UNAVAILABLE, f"{active.file} was chosen; the broker went before all answered"
            )
        return answers


async def _announce(active: ActiveModel, control: "AbstractExchange") -> None:
    """Raises `Failure(broker_unavailable)`."""
    import aio_pika
    from aio_pika.exceptions import CONNECTION_EXCEPTIONS

    body = wire.encode(ModelChanged(active=active))
    message = aio_pika.Message(body, content_type=wire.CONTENT_TYPE, type=ModelChanged.__name__)
    try:
        await control.publish(message, routing_key="", timeout=CONNECT_TIMEOUT_S)
    except CONNECTION_EXCEPTIONS as error:
        why = f"not announced: {plainly(str(error)) or type(error).__name__}; who shares its folder finds it by itself"
        raise Failure(FailureCode.BROKER_UNAVAILABLE, f"{active.file} was chosen, but {why}") from error


async def _listening(channel: "AbstractChannel") -> Audience:
    audience = Audience()

    async def hear(message: "AbstractIncomingMessage") -> None:
        with contextlib.suppress(Failure):  # a consumer of another version; it cannot answer
            audience.see(wire.decode_presence(message.body))

    name = topology.own_queue(topology.PRESENCE, f"models {secrets.token_hex(6)}")
    queue = await channel.declare_queue(name, exclusive=True, auto_delete=True)
    await queue.bind(topology.PRESENCE)
    await queue.consume(hear, no_ack=True)
    return audience


async def _heard(
    audience: Audience, revision: str | None, *, wait_s: float, tell: Callable[[Answer], None]
) -> list[Answer]:
    """Every answer, those of consumers that gave none included."""
    told: dict[str, Answer] = {}
    deadline_s = time.monotonic() + wait_s

    def say(answers: list[Answer]) -> None:
        for answer in answers:
            if answer.consumer not in told:  # by now it may have answered a later choice
                told[answer.consumer] = answer
                tell(answer)

    while True:
        await asyncio.sleep(0.05)
        say(audience.answers(revision))
        missing = [answer for answer in audience.missing(revision) if answer.consumer not in told]
        if not missing or time.monotonic() > deadline_s:
            say([*missing, *audience.gone(revision)])
            return list(told.values())


def _answer(consumer: ConsumerSeen) -> Answer:
    failure = consumer.model_outcome.failure if consumer.model_outcome else None
    return Answer(
        consumer=_shown(consumer),
        model=consumer.model,
        is_serving=failure is None,
        reason=f"{failure.code}: {failure.detail}" if failure else None,
    )


def _shown(consumer: ConsumerSeen) -> str:
    """Host and process: what a person can look for."""
    return consumer.id.rpartition(":")[0]
