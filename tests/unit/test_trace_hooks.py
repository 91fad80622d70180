"""Where edge and consumer begin spans and say whose lines of the log those are."""

import asyncio
import threading
from collections.abc import Generator, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import pytest
import structlog

from consumers.offload import Offload
from consumers.spans import Spans, StageSpan
from contracts.trace_context import TraceContext, continued, current_trace
from contracts.tracing import recorded_by
from edge.first_writes import WAITING_MAX, FirstWrites
from edge.log import Logged
from edge.request_trace import note_task, request_trace
from edge.ring import Wanted
from engine.decode_thread import Looked
from engine.orientation import Size
from tests.events import new_task, progress, report
from tests.spans import SPAN, TRACE, Remembered, Remembering

GOOD = f"00-{TRACE}-{SPAN}-01"
HERE = TraceContext(trace_id=TRACE, span_id=SPAN, flags=1)


@pytest.fixture
def recorder() -> Iterator[Remembering]:
    made = Remembering()
    with recorded_by(made):
        yield made


class Asked:
    """What an application saw of a request."""

    trace: TraceContext | None = None
    ids: dict[str, Any]


async def ask(path: str = "/tasks/7", *, status: int = 200, traceparent: str | None = None) -> Asked:
    asked = Asked()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        asked.trace = current_trace()
        note_task("t")
        note_task("t", "m")
        asked.ids = structlog.contextvars.get_contextvars()
        await send({"type": "http.response.start", "status": status, "headers": []})

    async def nothing(*_: Any) -> Any: ...

    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "path_template": "/tasks/{task_id}",
        "query_string": b"ticket=secret",
        "scheme": "http",
        "http_version": "1.1",
        "server": ("127.0.0.1", 8000),
        "headers": [(b"authorization", b"Bearer secret")]
        + ([(b"traceparent", traceparent.encode())] if traceparent else []),
    }
    await request_trace(app)(scope, nothing, nothing)  # type: ignore[arg-type]
    return asked


async def test_a_request_is_a_span_of_its_callers_trace_about_its_task(recorder: Remembering) -> None:
    asked = await ask(traceparent=GOOD)

    (span,) = recorder.spans
    assert span.begun.name == "GET /tasks/{task_id}"
    assert (span.parent, asked.trace) == (HERE, span.context)
    assert span.attributes["http.response.status_code"] == 200
    assert (span.attributes["detections.task.id"], span.attributes["detections.media.id"]) == ("t", "m")
    assert asked.ids == {"task_id": "t", "media_id": "m"}
    assert span.failed is None
    assert "secret" not in str(span.attributes)


async def test_a_request_that_fails_here_is_a_span_that_failed(recorder: Remembering) -> None:
    await ask(status=503)
    assert [span.failed for span in recorder.spans] == ["503"]


@pytest.mark.parametrize("path", ["/health", "/health/ready", "/metrics", "/detect/stream"])
async def test_probes_and_the_stream_have_no_span_but_their_callers_trace(recorder: Remembering, path: str) -> None:
    assert (await ask(path, traceparent=GOOD)).trace == HERE
    assert recorder.spans == []


async def test_without_a_recorder_a_request_stays_in_its_callers_trace() -> None:
    assert (await ask(traceparent=GOOD)).trace == HERE
    assert (await ask()).trace is None


def logged(offset: int, *, task_id: str = "t", trace: TraceContext | None = HERE) -> Logged:
    return Logged(offset, event=report(task_id, 1), trace=trace, body_bytes=9)


EVERYTHING = Wanted()


def test_the_first_listener_who_is_sent_an_event_ends_its_span(recorder: Remembering) -> None:
    writes = FirstWrites()
    writes.took(logged(5))
    writes.wrote(0, 5, EVERYTHING)
    writes.wrote(5, 6, Wanted(task_id="another"))
    assert recorder.spans == []
    writes.wrote(3, 8, EVERYTHING)
    writes.wrote(3, 8, EVERYTHING)

    (span,) = recorder.spans
    assert (span.begun.name, span.parent) == ("write /detect/stream", HERE)
    assert span.attributes["detections.event.offset"] == 5
    assert span.begun.started_ns is not None


def test_events_without_a_trace_or_a_span_wait_for_nobody(recorder: Remembering) -> None:
    writes = FirstWrites()
    writes.took(logged(1, trace=None))
    writes.took(Logged(2, event=progress("t"), trace=HERE))
    writes.took(Logged(3, marker="end"))
    writes.wrote(0, 9, EVERYTHING)
    assert recorder.spans == []


def test_what_nobody_is_sent_is_forgotten_the_oldest_first(recorder: Remembering) -> None:
    writes = FirstWrites()
    for offset in range(WAITING_MAX + 1):
        writes.took(logged(offset))
    writes.wrote(0, 2, EVERYTHING)
    assert [span.attributes["detections.event.offset"] for span in recorder.spans] == [1]


class TwoFrames:
    """A video of two frames, the second one damaged."""

    damaged, decoded = 1, 1

    def is_partial(self) -> bool:
        return True

    def frames(self) -> Iterator[Any]:
        yield "frame"
        raise ValueError


@contextmanager
def opened(*_: Any, **__: Any) -> Generator[Any]:
    yield TwoFrames()


def stage_of(span: Remembered) -> tuple[str, int, int]:
    return span.begun.name, span.attributes["detections.stage.items"], span.attributes["detections.stage.failed"]


def looked(future: "Future[Any] | None") -> Looked:
    return Looked(frame_index=0, at_s=0.0, percent=0, size=Size(1, 1), detections=future)


def test_a_stage_is_one_span_of_all_its_frames(recorder: Remembering) -> None:
    spans = Spans()
    with spans.measured(opened)(None, limits=None) as video:  # type: ignore[arg-type]
        assert (video.damaged, video.decoded, video.is_partial()) == (1, 1, True)
        with pytest.raises(ValueError):
            list(video.frames())
    futures: list[Future[Any]] = [Future(), Future(), Future()]
    for future in futures:
        spans.offered(looked(future))
    spans.offered(looked(None))
    futures[0].set_result([])
    futures[1].set_exception(ValueError())
    futures[2].cancel()
    with continued(HERE):
        spans.record()

    assert [stage_of(span) for span in recorder.spans] == [("decode", 2, 1), ("infer", 3, 2)]
    assert {span.parent for span in recorder.spans} == {HERE}
    for span in recorder.spans:
        assert span.begun.started_ns is not None
        assert span.ended[0] is not None
        assert span.ended[0] >= span.begun.started_ns


def test_one_that_raises_has_failed(recorder: Remembering) -> None:
    stage = StageSpan("decode")
    with pytest.raises(ValueError), stage.one():
        raise ValueError
    stage.record()
    assert stage_of(recorder.spans[0]) == ("decode", 1, 1)


def test_where_nobody_records_nothing_is_measured() -> None:
    spans = Spans()
    future: Future[Any] = Future()
    spans.offered(looked(future))
    future.set_result([])
    assert spans.measured(opened) is opened  # type: ignore[arg-type]
    assert not future._done_callbacks


async def test_a_thread_that_works_for_a_task_knows_whose_it_is() -> None:
    def work() -> Generator[Any, None, None]:
        yield structlog.contextvars.get_contextvars()["task_id"], current_trace()

    task_id = new_task()
    with structlog.contextvars.bound_contextvars(task_id=task_id), continued(HERE):
        async with Offload(work(), ahead_max=1, stop=threading.Event()) as items:
            said = [item async for item in items]
    await asyncio.sleep(0)
    assert said == [(task_id, HERE)]
