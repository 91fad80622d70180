"""What is told of each request when it ends: one line in the log, and one count under the template of its route.

Never a body, a header or a query string; never a metric under a path, of which clients make as many as they like. Probes and
readings of metrics come every few seconds from machines: their lines are for `debug`.
"""

import time

import structlog
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from edge.metrics import HTTP_FAILURES, HTTP_REQUEST_SECONDS, HTTP_REQUESTS, METHODS, OTHER

UNMATCHED = "unmatched"
"""No route has that path, or not for that method."""
PROBES = ("/health", "/metrics")
"""How the paths begin that machines ask for every few seconds."""
SERVER_ERRORS = 500

_log = structlog.get_logger()


def request_end(app: ASGIApp) -> ASGIApp:
    """The application; each request that ends is logged and counted. What no route takes is told of elsewhere:
    `tell_unmatched`."""

    async def told(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        started_s = time.perf_counter()
        status = 0  # stays 0 when the client left before an answer began

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await app(scope, receive, watched)
        finally:
            _tell(scope, status, time.perf_counter() - started_s)

    return told


def tell_unmatched(method: str, path: str, status: int) -> None:
    """Log and count a request that no route took."""
    _log.info("request", method=method, path=path, status=status)
    HTTP_REQUESTS.labels(UNMATCHED, _known(method), str(status)).inc()


def tell_refused(code: str, status: int) -> None:
    """Log and count a request that was refused before the application saw it."""
    _log.info("request", status=status, code=code)
    HTTP_REQUESTS.labels(UNMATCHED, OTHER, str(status)).inc()
    HTTP_FAILURES.labels(code).inc()


def note_problem(code: str, detail: str, status: int) -> None:
    """What the line of this request says of how it failed; of a client's own fault the code alone: values are in the detail."""
    structlog.contextvars.bind_contextvars(code=code, **({"detail": detail} if status >= SERVER_ERRORS else {}))


def _tell(scope: HTTPScope, status: int, took_s: float) -> None:
    tell = _log.debug if scope["path"].startswith(PROBES) else _log.info
    tell("request", method=scope["method"], path=scope["path"], status=status, took_ms=round(took_s * 1000, 1))
    route, method = scope["path_template"], _known(scope["method"])
    HTTP_REQUESTS.labels(route, method, str(status)).inc()
    HTTP_REQUEST_SECONDS.labels(route, method).observe(took_s)


def _known(method: str) -> str:
    return method if method in METHODS else OTHER
