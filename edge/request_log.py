"""One line per request: method, path, status, milliseconds. Never a body, a header or a query string."""

import time
from collections.abc import Callable, MutableMapping
from typing import Any

import structlog
from litestar.types import ASGIApp, Message, Receive, Scope, Send

_log = structlog.get_logger()

MethodPath = Callable[[MutableMapping[str, Any]], str]


def request_log(app: ASGIApp) -> ASGIApp:
    """The application, with a line logged at the end of each request."""

    async def logged(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        started_s = time.monotonic()
        status = 0  # stays 0 when the client left before an answer began

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await app(scope, receive, watched)
        finally:
            took_ms = round((time.monotonic() - started_s) * 1000, 1)
            _log.info("request", method=scope["method"], path=scope["path"], status=status, took_ms=took_ms)

    return logged
