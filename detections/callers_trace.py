"""A request carries the trace in which it is made: of the program's OpenTelemetry, or the one its environment names.

Nothing is imported for it: whoever traces has loaded OpenTelemetry already.
"""

import os
import sys
from collections.abc import Mapping

import httpx

from contracts.trace_context import TRACEPARENT, TRACESTATE, TraceContext, read_trace


def active_trace(environ: Mapping[str, str] = os.environ) -> TraceContext | None:
    """The trace that is active here; `TRACEPARENT` in the environment is what a traced shell or job leaves there."""
    return _of_opentelemetry() or read_trace({name: environ.get(name.upper()) for name in (TRACEPARENT, TRACESTATE)})


def carry_trace(request: httpx.Request) -> None:
    """What httpx calls with each request."""
    if (trace := active_trace()) is not None:
        request.headers.update(trace.headers)


async def carry_trace_too(request: httpx.Request) -> None:
    """The same for asyncio."""
    carry_trace(request)


def _of_opentelemetry() -> TraceContext | None:
    opentelemetry = sys.modules.get("opentelemetry.trace")
    if opentelemetry is None:
        return None
    here = opentelemetry.get_current_span().get_span_context()
    if not here.is_valid:
        return None
    return TraceContext(
        trace_id=f"{here.trace_id:032x}",
        span_id=f"{here.span_id:016x}",
        flags=int(here.trace_flags),
        state=here.trace_state.to_header(),
    )
