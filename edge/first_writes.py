"""Spans of events on the last part of their way: from the log to the first listener of this edge who is sent them."""

import time

import msgspec

from contracts import tracing
from contracts.events import AnyEvent
from contracts.message_spans import Passed, has_span
from contracts.topology import EVENTS, EVENTS_LOG, event_key
from contracts.trace_context import TraceContext
from contracts.tracing import MEDIA_ID, TASK_ID, Begun, SpanKind
from edge.log import Logged
from edge.ring import Wanted

WAITING_MAX = 1_024
"""Events that may wait for a listener; the oldest go without a span."""


class _Waiting(msgspec.Struct, frozen=True, kw_only=True):
    offset: int
    event: AnyEvent
    body_bytes: int
    trace: TraceContext
    taken_ns: int
    """Unix time."""


class FirstWrites:
    """Who has not been written to anybody yet. Empty where traces are not recorded."""

    def __init__(self) -> None:
        self._waiting: dict[int, _Waiting] = {}

    def took(self, message: Logged) -> None:
        """The edge has read an event that listeners will be shown."""
        event, trace = message.event, message.trace
        if event is None or trace is None or not tracing.is_recording() or not has_span(event):
            return
        if len(self._waiting) >= WAITING_MAX:
            del self._waiting[next(iter(self._waiting))]
        self._waiting[message.offset] = _Waiting(
            offset=message.offset,
            event=event,
            body_bytes=message.body_bytes,
            trace=trace,
            taken_ns=time.time_ns(),
        )

    def wrote(self, offset: int, next_offset: int, wanted: Wanted) -> None:
        """A listener was sent what it wants of the events from one offset to before another."""
        is_short = next_offset - offset < len(self._waiting)  # a listener that keeps up goes on by one or two
        for place in range(offset, next_offset) if is_short else tuple(self._waiting):
            waiting = self._waiting.get(place)
            if waiting is not None and offset <= place < next_offset and wanted.matches(waiting.event):
                del self._waiting[place]
                _record(waiting)


def _record(waiting: _Waiting) -> None:
    event = waiting.event
    passed = Passed(exchange=EVENTS, routing_key=event_key(event), queue=EVENTS_LOG, body_bytes=waiting.body_bytes)
    begun = Begun(
        name="write /detect/stream",
        kind=SpanKind.CONSUMER,
        attributes={
            **passed.attributes("write", "process"),
            "http.route": "/detect/stream",
            "detections.event.offset": waiting.offset,
            TASK_ID: event.task_id,
            MEDIA_ID: event.media_id,
        },
        started_ns=waiting.taken_ns,
    )
    tracing.record(begun, parent=waiting.trace)
