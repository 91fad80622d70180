"""HTTP connections over real sockets: slow and huge headers are cut, others are served, and interim responses are sent."""

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import msgspec
import uvicorn

from edge import metrics
from edge.connections import HeaderLimits, guarded
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
            edge.app,
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


async def test_what_is_no_http_gets_a_problem(tmp_path: Path) -> None:
    async with listening(tmp_path) as (_, port):
        assert problem_of(await answer_to(port, b"\x16\x03\x01 no http at all\r\n\r\n")) == (400, "malformed_request")


async def test_a_request_that_is_cut_off_when_the_edge_stops_is_told_so(tmp_path: Path) -> None:
    head = b"POST /detect/video HTTP/1.1\r\nHost: a\r\nX-Filename: a.mp4\r\nContent-Length: 8\r\n\r\n"
    async with listening(tmp_path, stop_timeout_s=1) as (edge, port):
        answering = asyncio.create_task(answer_to(port, head + b"cont"))
        await until(lambda: edge.outbox.commands)

    assert problem_of(await answering) == (503, "edge_stops")


async def test_an_offer_to_speak_http_2_is_ignored_and_costs_no_body(tmp_path: Path) -> None:
    """As clients make it with every request that goes out in clear, Java's for one."""
    offer = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAB\r\n"
    head = f"POST /detect/video HTTP/1.1\r\nHost: a\r\nX-Filename: a.mp4\r\nContent-Length: 8\r\n{offer}\r\n".encode()
    last = b"GET /tasks/x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    async with listening(tmp_path) as (edge, port):
        for sent in (
            [head, b"contents", last],
            [head + b"cont", b"ents" + last],
            [head[:50], head[50:] + b"contents" + last],
        ):
            answer = await answer_to(port, *sent, then=0.05)
            assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"202", b"404"]
        twice = await answer_to(port, (head + b"contents") * 2 + last)

    assert re.findall(rb"HTTP/1.1 (\d+)", twice) == [b"202", b"202", b"404"]
    assert len(edge.outbox.commands) == 5


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
