"""HTTP connections over real sockets: slow and huge headers are cut, others are served, and interim responses are sent."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest
import uvicorn

from edge import lingering, metrics
from edge.connections import HeaderLimits, guarded
from edge.heads import answering_heads
from tests.edge_app import Edge, running_edge, until

WAIT_S = 30.0


@asynccontextmanager
async def listening(
    root: Path, *, timeout_s: float = 30.0, bytes_max: int = 4_096, stop_timeout_s: int | None = None
) -> AsyncGenerator[tuple[Edge, int]]:
    """stop_timeout_s: how long requests have at the end; None: none is waited for."""
    async with running_edge(root) as edge:
        protocol = guarded(HeaderLimits(timeout_s=timeout_s, bytes_max=bytes_max))
        config = uvicorn.Config(
            answering_heads(edge.app),
            port=0,
            loop="none",
            http=protocol,
            lifespan="off",
            log_config=None,
            timeout_graceful_shutdown=stop_timeout_s,
        )
        server = uvicorn.Server(config)
        server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign]
        serve = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        yield edge, server.servers[0].sockets[0].getsockname()[1]
        server.should_exit, server.force_exit = True, stop_timeout_s is None
        await serve


async def answer_to(port: int, *parts: bytes, then: float = 0.0) -> bytes:
    """Everything that the server sends until it closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    async with asyncio.timeout(WAIT_S):
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(then)
        answer = await reader.read()
    writer.close()
    return answer


def problem_of(answer: bytes) -> tuple[int, str]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head
    assert b"connection: close" in head.lower()
    problem = msgspec.json.decode(body)
    assert problem["status"] == int(head.split()[1])
    return problem["status"], problem["code"]


async def test_headers_that_never_end_are_cut_while_others_are_served(tmp_path: Path) -> None:
    async with listening(tmp_path, timeout_s=2.0) as (_, port):
        slow = asyncio.create_task(
            answer_to(port, b"GET /tasks/x HTTP/1.1\r\n", b"Host: a\r\n", b"X-A: b\r\n", then=0.2)
        )
        good = await answer_to(port, b"GET /tasks/x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")

        assert problem_of(good) == (404, "task_not_found")
        assert problem_of(await slow) == (408, "headers_stalled")


async def test_a_connection_that_says_nothing_is_closed_without_a_word(tmp_path: Path) -> None:
    async with listening(tmp_path, timeout_s=0.3) as (_, port):
        assert await answer_to(port) == b""
        assert await answer_to(port, b"\r\n", b"\r\n") == b""


async def test_a_body_that_takes_longer_than_headers_may_is_taken(tmp_path: Path) -> None:
    async with listening(tmp_path, timeout_s=1.0) as (edge, port):
        head = b"POST /detect/video HTTP/1.1\r\nHost: a\r\nX-Filename: a.mp4\r\nContent-Length: 8\r\nConnection: close\r\n\r\n"
        answer = await answer_to(port, head, b"four", b"more", then=1.1)

        assert answer.startswith(b"HTTP/1.1 202 ")
        assert len(edge.outbox.commands) == 1


async def test_headers_that_are_too_large_are_refused_in_one_piece_and_in_many(tmp_path: Path) -> None:
    async with listening(tmp_path) as (_, port):
        line = b"X-A: " + b"b" * 995
        request = b"GET /tasks/x HTTP/1.1\r\nHost: a\r\n" + b"\r\n".join([line] * 6)
        whole = await answer_to(port, request + b"\r\n\r\n")
        endless = await answer_to(port, request)

        assert problem_of(whole) == (431, "headers_too_large")
        assert problem_of(endless) == (431, "headers_too_large")


def refused(name: str, **labels: str) -> float:
    return metrics.REGISTRY.get_sample_value(name, labels) or 0.0


async def test_what_is_refused_for_its_headers_is_counted_as_a_request_and_as_a_failure(tmp_path: Path) -> None:
    whole = b"GET / HTTP/1.1\r\nHost: a\r\nX-A: " + b"a" * 5_000 + b"\r\n\r\n"
    answered = {"route": "unmatched", "method": "other", "status": "431"}
    requests = refused("detections_http_requests_total", **answered)
    failures = refused("detections_http_failures_total", code="headers_too_large")
    async with listening(tmp_path) as (_, port):
        await answer_to(port, whole)
        await answer_to(port, b"GET / HTTP/1.1\r\nX-A: " + b"a" * 8_000)

    assert refused("detections_http_requests_total", **answered) == requests + 2
    assert refused("detections_http_failures_total", code="headers_too_large") == failures + 2


REFUSED_AT_ONCE = (
    b"POST /detect/video HTTP/1.1\r\nHost: a\r\nX-Filename: a.mp4\r\nX-Config: nonsense\r\n"
    b"Content-Length: 1000000000\r\n\r\n"
)
"""A body of which the client has still much to send when it is refused."""
CHUNK = bytes(256 * 1024)


async def test_a_client_that_sends_on_although_it_is_refused_gets_the_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lingering, "LINGER_S", WAIT_S)
    async with listening(tmp_path) as (_, port):
        answer = await answer_to(port, REFUSED_AT_ONCE, *[CHUNK] * 40)

        assert problem_of(answer) == (400, "malformed_options")


async def test_a_client_that_never_stops_sending_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lingering, "LINGER_S", 0.2)
    async with listening(tmp_path) as (_, port), asyncio.timeout(WAIT_S):
        with pytest.raises(ConnectionError):
            await answer_to(port, REFUSED_AT_ONCE, *itertools.repeat(CHUNK, 100_000))


async def test_what_comes_behind_a_refused_request_is_not_taken_for_another(tmp_path: Path) -> None:
    async with listening(tmp_path) as (_, port):
        answer = await answer_to(port, REFUSED_AT_ONCE, b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")

        assert answer.count(b"HTTP/1.1 ") == 1


async def test_what_is_no_http_gets_a_problem(tmp_path: Path) -> None:
    async with listening(tmp_path) as (_, port):
        assert problem_of(await answer_to(port, b"\x16\x03\x01 no http at all\r\n\r\n")) == (400, "malformed_request")


async def test_a_request_that_is_cut_off_when_the_edge_stops_is_told_so(tmp_path: Path) -> None:
    head = b"POST /detect/video HTTP/1.1\r\nHost: a\r\nX-Filename: a.mp4\r\nContent-Length: 8\r\n\r\n"
    async with listening(tmp_path, stop_timeout_s=1) as (edge, port):
        answering = asyncio.create_task(answer_to(port, head + b"cont"))
        await until(lambda: edge.outbox.commands)

    assert problem_of(await answering) == (503, "edge_stops")


async def test_a_connection_is_no_tunnel(tmp_path: Path) -> None:
    async with listening(tmp_path) as (_, port):
        tunnel = await answer_to(port, b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\n")
        assert problem_of(tunnel) == (400, "malformed_request")


async def test_a_client_of_the_draft_is_told_where_to_go_on_before_it_has_sent_anything(tmp_path: Path) -> None:
    task_id = str(uuid4())
    head = (
        "POST /detect/video HTTP/1.1\r\nHost: a\r\nX-Filename: a.mp4\r\nContent-Length: 8\r\n"
        f"X-Task-Id: {task_id}\r\nUpload-Complete: ?1\r\nConnection: close\r\n"
    )
    async with listening(tmp_path) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.timeout(WAIT_S):
            writer.write(f"{head}Upload-Draft-Interop-Version: 8\r\n\r\n".encode())
            interim = await reader.readuntil(b"\r\n\r\n")
            writer.write(b"contents")
            final = await reader.read()
        writer.close()
        other = await answer_to(
            port, f"{head}Upload-Draft-Interop-Version: 7\r\n\r\ncontents".replace(task_id, str(uuid4())).encode()
        )

    lines = interim.decode().lower().split("\r\n")
    assert lines[0] == "http/1.1 104 upload resumption supported"
    assert f"location: /uploads/{task_id}" in lines
    assert "upload-draft-interop-version: 8" in lines
    assert any(line.startswith("upload-limit: max-size=") for line in lines)
    assert final.startswith(b"HTTP/1.1 202 ")
    assert b"upload-complete: ?1" in final
    assert other.startswith(b"HTTP/1.1 202 ")


OFFER = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
VIDEO = b"POST /detect/video HTTP/1.1\r\nHost: a\r\nX-Filename: a.mp4\r\n"


HIDDEN = b"GET /tasks/hidden HTTP/1.1\r\nHost: a\r\n\r\n"
LAST = b"GET /tasks/x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


def statuses(answers: bytes) -> list[int]:
    return [int(part.split()[0]) for part in answers.split(b"HTTP/1.1 ")[1:]]


@pytest.mark.parametrize("then", [0.0, 0.1])
@pytest.mark.parametrize(
    ("framing", "body"),
    [
        (b"Content-Length: %d" % len(HIDDEN), HIDDEN),
        (b"Transfer-Encoding: chunked", b"%x\r\n%b\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN)),
    ],
)
async def test_a_body_behind_an_offer_of_another_protocol_is_a_body_and_no_request(
    tmp_path: Path, framing: bytes, body: bytes, then: float
) -> None:
    async with listening(tmp_path) as (edge, port):
        head = VIDEO + OFFER + framing + b"\r\n\r\n"
        parts = [head[:20], head[20:], body, LAST]
        answers = await answer_to(port, *(parts if then else [b"".join(parts)]), then=then)

        assert statuses(answers) == [202, 404]
        (command,) = edge.outbox.commands
        assert edge.layout.body(command.task_id).read_bytes() == HIDDEN


async def test_requests_that_all_offer_another_protocol_are_answered_one_by_one(tmp_path: Path) -> None:
    async with listening(tmp_path) as (_, port):
        get = b"GET /tasks/x HTTP/1.1\r\nHost: a\r\n" + OFFER + b"\r\n"
        answers = await answer_to(port, get * 20 + LAST)

        assert statuses(answers) == [404] * 21


async def test_a_client_that_knows_no_chunks_is_sent_none(tmp_path: Path) -> None:
    async with listening(tmp_path) as (_, port):
        posted = await answer_to(port, VIDEO + b"Content-Length: 8\r\nConnection: close\r\n\r\nfourmore")
        task_id = msgspec.json.decode(posted.partition(b"\r\n\r\n")[2])["taskId"]
        get = b"GET /tasks/%b%b HTTP/1.0\r\nConnection: keep-alive\r\nAccept: application/json\r\n\r\n"
        unmeasured = await answer_to(port, get % (task_id.encode(), b"/results"))
        measured = await answer_to(port, get % (task_id.encode(), b""))

        assert b"transfer-encoding" not in unmeasured.lower()
        assert msgspec.json.decode(unmeasured.partition(b"\r\n\r\n")[2]) == []
        assert msgspec.json.decode(measured.partition(b"\r\n\r\n")[2])["taskId"] == task_id


async def test_a_head_is_answered_as_a_get_without_a_body(tmp_path: Path) -> None:
    async with listening(tmp_path) as (_, port):
        posted = await answer_to(port, VIDEO + b"Content-Length: 8\r\nConnection: close\r\n\r\nfourmore")
        task_id = msgspec.json.decode(posted.partition(b"\r\n\r\n")[2])["taskId"].encode()
        head = b"HEAD /%b HTTP/1.1\r\nHost: a\r\n\r\n"
        paths = (b"tasks/" + task_id, b"tasks/" + task_id + b"/results", b"tasks/x", b"uploads/" + task_id)
        answers = await answer_to(port, *(head % path for path in paths), LAST, then=0.1)

        assert statuses(answers) == [200, 200, 404, 404, 404]
        assert answers.count(b"{") == 1  # of the GET that came last


@pytest.mark.parametrize(
    ("path", "method"), [("/health", "GET"), ("/", "GET"), ("/uploads/x", "HEAD"), ("/detect/stream", "HEAD")]
)
async def test_a_head_stays_one_where_it_means_something_else_or_a_get_has_no_end(path: str, method: str) -> None:
    seen: list[Any] = []

    async def app(scope: Any, *_: Any) -> None:
        seen.append(scope["method"])

    await answering_heads(app)({"type": "http", "method": "HEAD", "path": path}, None, None)  # type: ignore[arg-type]
    assert seen == [method]
