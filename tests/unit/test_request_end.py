"""One line per request, and nothing in it that was meant for us alone."""

import contextlib
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.contextvars import merge_contextvars

from edge.request_end import request_end
from tests.edge_app import running_edge


async def lines_of(*, path: str = "/detect", fails: bool = False) -> list[Any]:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if fails:
            raise ConnectionError
        await send({"type": "http.response.start", "status": 202, "headers": []})
        await send({"type": "http.response.body", "body": b"secret answer"})

    async def nothing(*_: Any) -> Any: ...

    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "path_template": path,
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


@pytest.mark.parametrize("path", ["/health", "/health/ready", "/metrics"])
async def test_who_asks_every_few_seconds_does_not_fill_the_log(path: str) -> None:
    (line,) = await lines_of(path=path)
    assert line["log_level"] == "debug"


async def line_of_a_request(folder: Path, method: str, path: str, *, name: str = "a.mp4", **limits: Any) -> Any:
    async with running_edge(folder, **limits) as edge:
        with structlog.testing.capture_logs([merge_contextvars]) as lines:
            await edge.send(method, path, b"body", headers={"x-filename": name})
    (line,) = [line for line in lines if line["event"] == "request"]
    return line


async def test_a_refused_request_names_its_code_and_not_what_the_client_sent(tmp_path: Path) -> None:
    line = await line_of_a_request(tmp_path, "POST", "/detect/video", name="secret.txt")

    assert (line["status"], line["code"]) == (400, "unsupported_media")
    assert "detail" not in line


async def test_a_failure_on_our_side_says_why(tmp_path: Path) -> None:
    line = await line_of_a_request(tmp_path, "POST", "/detect/video", free_bytes_min=1 << 60)

    assert (line["status"], line["code"]) == (507, "storage_full")
    assert f"{1 << 60} are kept free" in line["detail"]


async def test_a_path_without_a_route_is_one_line_which_is_of_no_request_before_it(tmp_path: Path) -> None:
    with structlog.contextvars.bound_contextvars(task_id="of the request before"):
        line = await line_of_a_request(tmp_path, "GET", "/nowhere")

    assert line == {"event": "request", "log_level": "info", "method": "GET", "path": "/nowhere", "status": 404}
