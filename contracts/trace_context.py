"""The trace that a request, a message or a line of the log belongs to: W3C Trace Context.

It travels as `traceparent` and `tracestate`, in headers of HTTP and of AMQP alike, and is passed on also where nobody records
spans: whoever called us finds our log lines by the trace id, and records the trace around us without a hole.
"""

import re
from collections.abc import Generator, Mapping, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import msgspec

TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"
TRACESTATE_CHARS_MAX = 512
"""A longer one is left out, as the standard allows: it must not grow without a bound from hop to hop."""

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")
_FLAGS_KNOWN = 0x03
"""Sampled, random."""


class TraceContext(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A place in a trace: what happens next is a child of it."""

    trace_id: str
    """32 hexadecimal digits, lower case."""
    span_id: str
    """16 of them."""
    flags: int = 0
    """Bit 0: somebody records this trace."""
    state: str = ""
    """What tracing systems on the way say to each other."""

    @property
    def headers(self) -> dict[str, str]:
        """What a message or a request carries to belong here."""
        traceparent = f"00-{self.trace_id}-{self.span_id}-{self.flags:02x}"
        return {TRACEPARENT: traceparent, TRACESTATE: self.state} if self.state else {TRACEPARENT: traceparent}


_here: ContextVar[TraceContext | None] = ContextVar("trace", default=None)


def read_trace(headers: Mapping[str, Any]) -> TraceContext | None:
    """The trace that headers name; None without one, or if it is malformed. Names are in lower case."""
    parent, state = headers.get(TRACEPARENT), headers.get(TRACESTATE)
    if not isinstance(parent, str):
        return None
    found = _TRACEPARENT.match(parent)
    rest = parent[found.end() :] if found else ""
    if found is None or (rest and (parent.startswith("00") or not rest.startswith("-"))):
        return None
    is_kept = isinstance(state, str) and len(state) <= TRACESTATE_CHARS_MAX and state.isascii() and state.isprintable()
    return TraceContext(
        trace_id=found[1], span_id=found[2], flags=int(found[3], 16) & _FLAGS_KNOWN, state=str(state) if is_kept else ""
    )


def current_trace() -> TraceContext | None:
    """Where we are, None outside of every trace."""
    return _here.get()


def trace_headers() -> dict[str, str]:
    """What is sent from here carries these."""
    here = _here.get()
    return here.headers if here is not None else {}


@contextmanager
def continued(trace: TraceContext | None) -> Generator[None]:
    """Whatever happens inside belongs to this trace; None: to none."""
    token = _here.set(trace)
    try:
        yield
    finally:
        _here.reset(token)


def add_trace_id(_logger: object, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A line of the log with the trace it belongs to, as structlog calls it."""
    here = _here.get()
    if here is not None:
        line.setdefault("trace_id", here.trace_id)
    return line
