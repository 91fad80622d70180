"""Requests of the Python client go along in the trace in which they are made."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from contracts.trace_context import TraceContext
from detections.async_client import AsyncClient
from detections.callers_trace import active_trace, carry_trace
from detections.client import Client
from tests.fake_edge import FakeEdge

HERE = TraceContext(trace_id=f"{7:032x}", span_id=f"{9:016x}", flags=1)


@contextmanager
def traced() -> Iterator[None]:
    """A program with an active span."""
    span = NonRecordingSpan(SpanContext(7, 9, is_remote=False, trace_flags=TraceFlags(1)))
    with trace.use_span(span):
        yield


def test_the_programs_span_is_where_we_are() -> None:
    assert active_trace({}) is None
    with traced():
        assert active_trace({}) == HERE


def test_without_one_the_environment_may_name_a_trace() -> None:
    environ = {"TRACEPARENT": HERE.headers["traceparent"], "TRACESTATE": "a=1"}
    named = active_trace(environ)
    assert named is not None
    assert named.headers == {"traceparent": environ["TRACEPARENT"], "tracestate": "a=1"}
    with traced():
        assert active_trace(environ) == HERE


def test_a_request_says_so() -> None:
    request = httpx.Request("GET", "http://127.0.0.1")
    carry_trace(request)
    assert "traceparent" not in request.headers
    with traced():
        carry_trace(request)
    assert request.headers["traceparent"] == HERE.headers["traceparent"]


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"x" * 1_000)
    return path


def test_an_upload_goes_along(clip: Path) -> None:
    with FakeEdge() as edge, Client(edge.url) as client, traced():
        started = client.submit(clip)
    assert edge.uploads[started.task_id].headers["traceparent"] == HERE.headers["traceparent"]


def test_an_upload_in_a_thread_goes_along_too(clip: Path) -> None:
    async def submit(url: str) -> str:
        async with AsyncClient(url) as client:
            return (await client.submit(clip)).task_id

    with FakeEdge() as edge, traced():
        task_id = asyncio.run(submit(edge.url))
    assert edge.uploads[task_id].headers["traceparent"] == HERE.headers["traceparent"]
