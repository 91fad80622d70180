"""A whole system that records traces, and the way of a task through it as a collector sees it; and what its log lines name."""

import asyncio
import os
import secrets
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aio_pika
import httpx
import msgspec
import pytest

from contracts import topology
from contracts.storage import Layout
from detections import Client
from detections.local import LocalStack
from detections.uploading import Progress
from tests.e2e.up import NO_BOX_TIME, clip
from tests.events import new_task
from tests.otlp import Collector, Received, collecting
from tests.processes import wait_until

pytestmark = pytest.mark.e2e

COMMAND = "publish detections.commands:video"
PROCESS = "process detections.commands:video:detections.commands.video"
END = "publish detections.events:end.free"
WRITE = "write /detect/stream"


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as listening:
        yield listening


@pytest.fixture(scope="module")
def traced(
    tmp_path_factory: pytest.TempPathFactory,
    scripted_model: Path,
    new_host: Callable[[], dict[str, str]],
    collector: Collector,
) -> Iterator[LocalStack]:
    """A stack whose spans go to the collector."""
    environ = {
        **new_host(),
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_EXPORTER_OTLP_HEADERS": "x-api-key=planted-secret",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "EDGE_LOG_LEVEL": "debug",
        "CONSUMER_LOG_LEVEL": "debug",
    }
    stack = LocalStack(tmp_path_factory.mktemp("traced") / "storage", model=scripted_model, environ=environ)
    stack.start()
    yield stack
    stack.kill()


def caller() -> tuple[str, dict[str, str]]:
    """The trace of a caller, and what it sends of it."""
    trace_id = secrets.token_hex(16)
    return trace_id, {"traceparent": f"00-{trace_id}-{secrets.token_hex(8)}-01", "tracestate": "theirs=1"}


def send(stack: LocalStack, path: Path, headers: dict[str, str]) -> str:
    """Send a video as a caller with a trace, listen to its end, and return the id of its task."""
    task_id = new_task()
    asks = {"X-Filename": path.name, "X-Task-Id": task_id, "X-Config": msgspec.json.encode(NO_BOX_TIME).decode()}
    with Client(stack.url) as client, client.listen(task_id) as events:
        answer = httpx.post(
            f"{stack.url}/detect/video", content=path.read_bytes(), headers=asks | headers, timeout=60, trust_env=False
        )
        assert answer.status_code == 202, answer.text
        assert [event.sequence for event in events if event.sequence][-1] is not None
    return task_id


def end_written(collector: Collector, task_id: str) -> Received:
    """The span of the last event of a task on its way to a listener."""
    kind = "detections.events:end.free:detections.events.log"
    return collector.wait_for(WRITE, **{"detections.task.id": task_id, "messaging.destination.name": kind})


def test_a_task_is_one_trace_from_its_request_to_its_listener(
    traced: LocalStack, collector: Collector, tmp_path: Path
) -> None:
    trace_id, headers = caller()
    task_id = send(traced, clip(tmp_path, frames=100), headers)
    end = end_written(collector, task_id)
    processed = collector.wait_for(PROCESS, **{"detections.task.id": task_id})

    assert collector.way_up(end, length=5) == [WRITE, END, PROCESS, COMMAND, "POST /detect/video"]
    assert end.trace_id == trace_id
    spans = collector.spans(trace_id)
    assert spans[0].parent_id == headers["traceparent"].split("-")[2], "the caller's trace goes on"
    below = [span.name for span in spans if span.parent_id == processed.span_id]
    assert {"load model", "decode", "infer", "publish detections.events:frame.free", END} == set(below)
    assert below.count("publish detections.events:frame.free") == 16, "of 100 reports: a bounded number"
    assert {span.service for span in spans} == {"detections-edge", "detections-consumer"}
    assert not [span for span in spans if span.has_failed]


def test_spans_say_what_the_conventions_ask_for(traced: LocalStack, collector: Collector, tmp_path: Path) -> None:
    trace_id, headers = caller()
    task_id = send(traced, clip(tmp_path, frames=20), headers)
    collector.way_up(end_written(collector, task_id), length=5)

    by_name = {span.name: span for span in collector.spans(trace_id)}
    asked = by_name["POST /detect/video"].attributes
    assert (asked["http.request.method"], asked["http.route"]) == ("POST", "/detect/video")
    assert asked["http.response.status_code"] == 202
    assert (
        by_name[COMMAND].attributes
        | {
            "messaging.system": "rabbitmq",
            "messaging.operation.name": "publish",
            "messaging.operation.type": "send",
            "messaging.destination.name": "detections.commands:video",
            "messaging.rabbitmq.destination.routing_key": "video",
            "messaging.message.id": task_id,
        }
        == by_name[COMMAND].attributes
    )
    assert by_name[PROCESS].attributes["detections.attempt"] == 1
    assert by_name["decode"].attributes["detections.stage.items"] == 20
    assert by_name["infer"].attributes["detections.stage.items"] == 20
    assert [by_name[name].kind for name in ("POST /detect/video", COMMAND, PROCESS, "decode")] == [2, 4, 5, 1]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["taken over", "handed on"])
def test_a_task_that_another_consumer_goes_on_with_stays_in_its_trace(
    traced: LocalStack, collector: Collector, tmp_path: Path, number: signal.Signals
) -> None:
    path, task_id = clip(tmp_path, frames=60), new_task()
    layout = Layout(traced.storage)
    first: list[int] = []

    def end_the_consumer(progress: Progress) -> None:
        if progress.sent_bytes > path.stat().st_size // 2 and not first:
            wait_until(lambda: layout.results(task_id, epoch=1).exists())
            first.extend(traced.pids("consumer-1"))
            os.kill(first[0], number)

    with Client(traced.url) as client, client.listen(task_id) as events:
        client.submit(path, task_id=task_id, on_progress=end_the_consumer, bytes_per_s_max=path.stat().st_size / 2)
        assert [event.error for event in events][-1] is None
    end = end_written(collector, task_id)
    taker = collector.wait_for(PROCESS, **{"detections.task.id": task_id, "detections.attempt": 2})

    handed_on = [PROCESS, COMMAND] if number == signal.SIGTERM else []
    assert first
    way = [WRITE, END, PROCESS, COMMAND, *handed_on, "POST /detect/video"]
    assert collector.way_up(end, length=len(way)) == way
    assert taker.trace_id == end.trace_id


def test_a_command_that_nobody_understands_takes_its_trace_to_the_dead_letters(
    traced: LocalStack, collector: Collector
) -> None:
    trace_id, headers = caller()
    task_id = new_task()

    async def publish() -> None:
        async with await aio_pika.connect(traced.amqp_url) as connection:
            channel = await connection.channel()
            exchange = await channel.get_exchange(topology.COMMANDS)
            body = msgspec.json.encode({"type": "DetectVideo", "taskId": task_id})
            await exchange.publish(aio_pika.Message(body, headers={**headers}), "video")

    asyncio.run(publish())
    noticed = collector.wait_for(
        "process detections.dead:detections.dead-letters.notices", **{"messaging.system": "rabbitmq"}
    )

    assert noticed.trace_id == trace_id
    assert collector.way_up(noticed, length=3)[1:] == ["publish detections.dead", PROCESS]


def test_what_is_logged_of_a_task_names_it_and_its_trace(
    traced: LocalStack, collector: Collector, tmp_path: Path
) -> None:
    trace_id, headers = caller()
    task_id = send(traced, clip(tmp_path, frames=30), headers)

    wait_until(lambda: ended(lines_of(traced, "consumer-1", task_id)))
    consumers, edges = (lines_of(traced, name, task_id) for name in ("consumer-1", "edge"))
    assert {line["trace_id"] for line in consumers} == {trace_id}
    assert {line["attempt"] for line in consumers} == {1}
    assert all(line["media_id"] for line in (*consumers, *edges))
    (asked,) = [line for line in edges if line.get("path") == "/detect/video"]
    assert asked["trace_id"] == trace_id
    assert asked["media_id"] == ended(consumers)["media_id"] != task_id, "the hash, once it is known"


def test_without_recording_the_callers_trace_is_in_the_logs_and_goes_on(stack: LocalStack, tmp_path: Path) -> None:
    trace_id, headers = caller()
    task_id = send(stack, clip(tmp_path, frames=30), headers)

    wait_until(lambda: ended(lines_of(stack, "consumer-1", task_id)))
    assert {line["trace_id"] for line in lines_of(stack, "consumer-1", task_id)} == {trace_id}
    untraced = send(stack, clip(tmp_path, frames=30), {})
    wait_until(lambda: ended(lines_of(stack, "consumer-1", untraced)))
    assert not [line for line in lines_of(stack, "consumer-1", untraced) if "trace_id" in line]


def test_nothing_secret_is_in_spans_or_logs(traced: LocalStack, collector: Collector) -> None:
    _, headers = caller()
    forged = f"planted-{secrets.token_hex(8)}"
    secret = {"Authorization": f"Bearer {forged}", "X-Refresh-Token": forged}
    answer = httpx.get(f"{traced.url}/tasks/{new_task()}?ticket={forged}", headers=headers | secret, trust_env=False)
    assert answer.status_code == 404
    collector.wait_for("GET /tasks/{task_id}", **{"http.response.status_code": 404})

    password = f":{httpx.URL(traced.amqp_url).password}@".encode()
    written = [*collector.bodies, *(path.read_bytes() for path in traced.logs.glob("*.log"))]
    for text in (forged.encode(), b"planted-secret", password):
        assert not [body for body in written if text in body], text


def lines_of(stack: LocalStack, name: str, task_id: str) -> list[dict[str, Any]]:
    """What a process has logged of a task."""
    text = (stack.logs / f"{name}.log").read_bytes()
    lines = [msgspec.json.decode(line) for line in text.splitlines() if line.startswith(b"{") and line.endswith(b"}")]
    return [line for line in lines if line.get("task_id") == task_id]


def ended(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """The line that says that the task has ended; none yet: empty."""
    return next((line for line in lines if line["event"] == "ended"), {})
