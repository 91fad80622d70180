"""One line per request, and nothing in it that was meant for us alone."""

import contextlib
from typing import Any

import structlog

from edge.request_end import request_end


async def lines_of(*, fails: bool = False) -> list[Any]:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if fails:
            raise ConnectionError
        await send({"type": "http.response.start", "status": 202, "headers": []})
        await send({"type": "http.response.body", "body": b"secret answer"})

    async def nothing(*_: Any) -> Any: ...

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/detect",
        "path_template": "/detect",
        "query_string": b"token=secret",
        "headers": [(b"authorization", b"Bearer secret")],
    }
    with structlog.testing.capture_logs() as lines, contextlib.suppress(ConnectionError):
        await request_end(app)(scope, nothing, nothing)  # type: ignore[arg-type]
    return lines


async def test_a_request_is_one_line_without_headers_query_or_body() -> None:
    (line,) = await lines_of()
    assert line.pop("took_ms") >= 0
    assert line == {"event": "request", "log_level": "info", "method": "POST", "path": "/detect", "status": 202}


async def test_a_request_that_breaks_is_logged_too() -> None:
    (line,) = await lines_of(fails=True)
    assert line["status"] == 0
