"""Each request counted once, with the seconds it took, under the template of its route: never under its path."""

import time

from litestar.types import ASGIApp, Message, Receive, Scope, Send

from edge.metrics import HTTP_REQUEST_SECONDS, HTTP_REQUESTS, METHODS, OTHER

UNMATCHED = "unmatched"
"""No route has that path, or not for that method."""


def request_metrics(app: ASGIApp) -> ASGIApp:
    """The application, counting. What no route takes does not come here: `count_unmatched`."""

    async def counted(scope: Scope, receive: Receive, send: Send) -> None:
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
            route, method = scope["path_template"], _known(scope["method"])
            HTTP_REQUESTS.labels(route, method, str(status)).inc()
            HTTP_REQUEST_SECONDS.labels(route, method).observe(time.perf_counter() - started_s)

    return counted


def count_unmatched(method: str, status: int) -> None:
    """Count a request that no route took."""
    HTTP_REQUESTS.labels(UNMATCHED, _known(method), str(status)).inc()


def _known(method: str) -> str:
    return method if method in METHODS else OTHER
