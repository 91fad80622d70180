"""Spans of messages on the broker, by OpenTelemetry's semantic conventions for RabbitMQ."""

from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import msgspec

from contracts.events import AnyEvent, FrameDetected, TaskEnded
from contracts.topology import TASK_ID_HEADER
from contracts.trace_context import TRACEPARENT, TRACESTATE, TraceContext, continued, read_trace
from contracts.tracing import TASK_ID, Attributes, Begun, Span, SpanKind, is_recording, span

REPORT_SPANS_MAX = 16
"""Reports of a task that have spans; of the others there may be one a frame, and the spans of the stages count them."""


class Passed(msgspec.Struct, frozen=True, kw_only=True):
    """A message on its way through the broker."""

    exchange: str
    """Empty: the default one."""
    routing_key: str = ""
    queue: str = ""
    """Where it was taken from."""
    id: str | None = None
    body_bytes: int
    headers: Mapping[str, Any] = {}

    @property
    def destination(self) -> str:
        """`exchange:routing key` or `exchange:routing key:queue`, without what is empty or said twice."""
        return ":".join(dict.fromkeys(part for part in (self.exchange, self.routing_key, self.queue) if part))

    def attributes(self, operation: str, kind: str) -> Attributes:
        """operation: our word for what is done with it. kind: that of the conventions."""
        known: dict[str, str | int] = {
            "messaging.system": "rabbitmq",
            "messaging.operation.name": operation,
            "messaging.operation.type": kind,
            "messaging.destination.name": self.destination,
            "messaging.message.body.size": self.body_bytes,
        }
        asked = {
            "messaging.rabbitmq.destination.routing_key": self.routing_key,
            "messaging.message.id": self.id,
            TASK_ID: self.headers.get(TASK_ID_HEADER),
        }
        return known | {name: str(value) for name, value in asked.items() if value}


def has_span(event: AnyEvent) -> bool:
    """Whether the way of an event is recorded: of the first reports and of the end."""
    match event:
        case FrameDetected(sequence=sequence):
            return sequence <= REPORT_SPANS_MAX
        case TaskEnded():
            return True
        case _:
            return False


def published(message: Passed) -> AbstractContextManager[Span | None]:
    """A span around the publishing of a message, whose headers are to be those of the trace inside."""
    if not is_recording():
        return nullcontext()
    begun = Begun(
        name=f"publish {message.destination}",
        kind=SpanKind.PRODUCER,
        attributes=message.attributes("publish", "send"),
    )
    return span(begun)


@contextmanager
def processed(message: Passed) -> Generator[Span | None]:
    """The trace of a message around what is done with it, and a span."""
    begun = Begun(
        name=f"process {message.destination}",
        kind=SpanKind.CONSUMER,
        attributes=message.attributes("process", "process"),
    )
    with continued(trace_of(message.headers)), span(begun) as running:
        yield running


def trace_of(headers: Mapping[str, Any]) -> TraceContext | None:
    """The trace that the headers of a message name; long ones come as bytes."""
    named = {name: headers[name] for name in (TRACEPARENT, TRACESTATE) if name in headers}
    return read_trace(
        {name: value.decode("ascii", "replace") if isinstance(value, bytes) else value for name, value in named.items()}
    )
