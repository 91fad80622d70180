"""Spans recorded by OpenTelemetry and sent by OTLP over HTTP. The one module that knows it, loaded where it is asked for.

Where spans go, how many are kept and what they are called is said by OpenTelemetry's own variables, which its SDK reads.
"""

import logging
import os
import socket
import threading

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import NonRecordingSpan, SpanContext, Status, StatusCode, TraceFlags, TraceState

from contracts.trace_context import TraceContext
from contracts.tracing import Attributes, Begun, Span, SpanKind

CLOSE_S = 3.0
"""For the last spans to leave; a collector that is away must not hold up the end of a process."""

_KINDS = {
    SpanKind.SERVER: trace.SpanKind.SERVER,
    SpanKind.PRODUCER: trace.SpanKind.PRODUCER,
    SpanKind.CONSUMER: trace.SpanKind.CONSUMER,
    SpanKind.INTERNAL: trace.SpanKind.INTERNAL,
}


class Exporting:
    """Records spans, and sends them from a thread of its own; while the collector is away, the latest are kept (2,048)."""

    def __init__(self, service: str) -> None:
        """service: its name, unless the environment says another."""
        logging.getLogger("opentelemetry").setLevel(logging.ERROR)  # a line for each try again, else
        self._provider = TracerProvider(resource=_resource(service), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("detections")

    def begin(self, begun: Begun, parent: TraceContext | None) -> Span:
        context = None if parent is None else trace.set_span_in_context(NonRecordingSpan(_known(parent)))
        return _Running(
            self._tracer.start_span(
                begun.name,
                context=context or trace.set_span_in_context(trace.INVALID_SPAN),
                kind=_KINDS[begun.kind],
                attributes=begun.attributes,
                start_time=begun.started_ns,
                record_exception=False,  # its text may hold what is nobody's business
            )
        )

    def close(self) -> None:
        """Send what is left, for `CLOSE_S` at most."""
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        closing.join(CLOSE_S)


class _Running:
    def __init__(self, span: trace.Span) -> None:
        self._span = span
        known = span.get_span_context()
        self.context = TraceContext(
            trace_id=trace.format_trace_id(known.trace_id),
            span_id=trace.format_span_id(known.span_id),
            flags=int(known.trace_flags),
            state=known.trace_state.to_header(),
        )

    def note(self, attributes: Attributes) -> None:
        self._span.set_attributes(attributes)

    def link(self, other: TraceContext) -> None:
        self._span.add_link(_known(other))

    def fail(self, reason: str) -> None:
        self._span.set_attribute("error.type", reason)
        self._span.set_status(Status(StatusCode.ERROR))

    def end(self, at_ns: int | None = None) -> None:
        self._span.end(at_ns)


def _known(context: TraceContext) -> SpanContext:
    return SpanContext(
        int(context.trace_id, 16),
        int(context.span_id, 16),
        is_remote=True,
        trace_flags=TraceFlags(context.flags),
        trace_state=TraceState.from_header([context.state]) if context.state else None,
    )


def _resource(service: str) -> Resource:
    attributes = {"service.instance.id": f"{socket.gethostname()}:{os.getpid()}"}
    is_named = os.environ.get("OTEL_SERVICE_NAME") or "service.name=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    return Resource.create(attributes if is_named else attributes | {"service.name": service})
