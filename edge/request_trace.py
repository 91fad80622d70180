"""The trace of a request: the caller's goes on (`traceparent`), and where traces are recorded the request has a span."""

from typing import Any

import structlog
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from contracts import tracing
from contracts.trace_context import TRACEPARENT, TRACESTATE, continued, read_trace
from contracts.tracing import MEDIA_ID, TASK_ID, Attributes, Begun, SpanKind
from edge.request_end import PROBES, SERVER_ERRORS

_NEVER_ENDING = "/detect/stream"
"""Its span would last as long as somebody listens; the events that are written there have spans of their own."""
_NAMES = {name.encode(): name for name in (TRACEPARENT, TRACESTATE)}


def request_trace(app: ASGIApp) -> ASGIApp:
    """The application, each request in its trace; what is logged meanwhile says so."""

    async def traced(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        structlog.contextvars.clear_contextvars()  # a request that came behind another one may run in its context
        with continued(read_trace(_headers(scope))):
            if _has_span(scope) and tracing.is_recording():
                await _spanned(app, scope, receive, send)
            else:
                await app(scope, receive, send)

    return traced


def note_task(task_id: str, media_id: str | None = None) -> None:
    """What is logged and recorded from here on, in this request, is about a task.

    media_id: None while it is not known; it then has the task's id, as in its events.
    """
    media_id = media_id or task_id
    structlog.contextvars.bind_contextvars(task_id=task_id, media_id=media_id)
    tracing.note({TASK_ID: task_id, MEDIA_ID: media_id})


async def _spanned(app: ASGIApp, scope: Any, receive: Receive, send: Send) -> None:
    begun = Begun(name=f"{scope['method']} {_route(scope)}", kind=SpanKind.SERVER, attributes=_attributes(scope))
    with tracing.span(begun) as span:

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start" and span is not None:
                status = message["status"]
                span.note({"http.response.status_code": status})
                if status >= SERVER_ERRORS:
                    span.fail(str(status))
            await send(message)

        await app(scope, receive, watched)


def _has_span(scope: Any) -> bool:
    path = scope["path"]
    return path != _NEVER_ENDING and not path.startswith(PROBES)


def _route(scope: Any) -> str:
    return scope.get("path_template") or "unknown"


def _attributes(scope: Any) -> Attributes:
    """Never a query: tickets are in it."""
    host, port = scope.get("server") or ("", None)
    return {
        "http.request.method": scope["method"],
        "http.route": _route(scope),
        "url.path": scope["path"],
        "url.scheme": scope["scheme"],
        "network.protocol.version": scope["http_version"],
        "server.address": host,
        **({"server.port": port} if port else {}),
    }


def _headers(scope: Any) -> dict[str, str]:
    return {_NAMES[name]: value.decode("latin-1") for name, value in scope["headers"] if name in _NAMES}
