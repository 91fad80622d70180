"""The trace in headers and in the log, spans where somebody records, and nothing of OpenTelemetry where nobody asks."""

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from contracts.message_spans import REPORT_SPANS_MAX, Passed, has_span, processed, published, trace_of
from contracts.settings import ConfigurationError
from contracts.trace_context import TraceContext, add_trace_id, continued, current_trace, read_trace, trace_headers
from contracts.tracing import Begun, is_recording, note, record, recorded_by, recording, span
from tests.conftest import REPOSITORY
from tests.events import end, progress, report
from tests.spans import SPAN, TRACE, Remembering

GOOD = f"00-{TRACE}-{SPAN}-01"
ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}


def trace(span_id: str = SPAN) -> TraceContext:
    return TraceContext(trace_id=TRACE, span_id=span_id, flags=1)


def test_a_trace_comes_out_of_headers_as_it_went_in() -> None:
    there = TraceContext(trace_id=TRACE, span_id=SPAN, flags=1, state="a=1,b=2")

    assert read_trace(there.headers) == there
    assert there.headers == {"traceparent": GOOD, "tracestate": "a=1,b=2"}


@pytest.mark.parametrize(
    "traceparent",
    [
        "",
        "00",
        GOOD.upper(),
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"{GOOD}-more",
        f"{GOOD}0",
        f"01-{TRACE}-{SPAN}-01more",
        f"00-{TRACE}-{SPAN}",
        f"{GOOD}\n",
        7,
        None,
    ],
)
def test_a_malformed_trace_is_none(traceparent: Any) -> None:
    assert read_trace({"traceparent": traceparent}) is None


def test_a_later_version_of_the_standard_is_read_as_far_as_it_is_known() -> None:
    assert read_trace({"traceparent": f"42-{TRACE}-{SPAN}-ff-more"}) == msgspec.structs.replace(trace(), flags=3)


@pytest.mark.parametrize("state", ["x" * 513, "a=1\nb=2", "ä=1", 5])
def test_a_state_that_no_header_should_hold_is_left_out(state: Any) -> None:
    assert read_trace({"traceparent": GOOD, "tracestate": state}) == trace()


def test_headers_of_a_message_may_be_bytes() -> None:
    assert trace_of({"traceparent": GOOD.encode(), "x-death": [{}]}) == trace()


def test_what_is_sent_and_logged_inside_of_a_trace_names_it() -> None:
    with continued(trace()):
        assert trace_headers() == {"traceparent": GOOD}
        assert add_trace_id(None, "info", {"event": "x"}) == {"event": "x", "trace_id": TRACE}
        with continued(None):
            assert trace_headers() == {}
    assert current_trace() is None
    assert add_trace_id(None, "info", {"event": "x"}) == {"event": "x"}


def test_where_nobody_records_a_span_is_nothing_and_the_trace_goes_on() -> None:
    with continued(trace()), published(Passed(exchange="e", body_bytes=1)) as nothing:
        note({"a": 1})
        record(Begun(name="over"))
        assert nothing is None
        assert current_trace() == trace()


def test_a_span_is_a_child_of_where_we_are_and_what_is_inside_is_its_child() -> None:
    recorder = Remembering()
    with recorded_by(recorder), processed(Passed(exchange="e", queue="q", body_bytes=1, headers=trace().headers)):
        note({"a": 1})
        with span(Begun(name="inner")):
            headers = trace_headers()
        record(Begun(name="over", started_ns=5), ended_ns=7)

    outer, inner, over = recorder.spans
    assert [outer.begun.name, inner.begun.name, over.begun.name] == ["process e:q", "inner", "over"]
    assert (outer.parent, inner.parent, over.parent) == (trace(), outer.context, outer.context)
    assert headers == inner.context.headers
    assert outer.attributes["a"] == 1
    assert (outer.ended, inner.ended, over.ended) == ([None], [None], [7])
    assert recorder.is_closed
    assert not is_recording()


def test_a_span_whose_inside_fails_says_why_and_ends() -> None:
    recorder = Remembering()
    with recorded_by(recorder), pytest.raises(ZeroDivisionError), span(Begun(name="bad")):
        raise ZeroDivisionError
    (bad,) = recorder.spans
    assert (bad.failed, bad.ended) == ("ZeroDivisionError", [None])
    assert current_trace() is None


def test_a_message_is_described_by_the_conventions() -> None:
    passed = Passed(
        exchange="e",
        routing_key="k",
        queue="q",
        id="7",
        body_bytes=3,
        headers={"x-task-id": "t", "authorization": "no"},
    )
    assert passed.attributes("process", "process") == {
        "messaging.system": "rabbitmq",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "e:k:q",
        "messaging.message.body.size": 3,
        "messaging.rabbitmq.destination.routing_key": "k",
        "messaging.message.id": "7",
        "detections.task.id": "t",
    }


@pytest.mark.parametrize(("exchange", "key", "name"), [("", "q", "q"), ("e", "", "e:q"), ("e", "q", "e:q")])
def test_a_destination_says_nothing_empty_and_nothing_twice(exchange: str, key: str, name: str) -> None:
    assert Passed(exchange=exchange, routing_key=key, queue="q", body_bytes=0).destination == name


def test_of_many_reports_only_the_first_have_spans_and_the_end_always() -> None:
    assert has_span(report("t", REPORT_SPANS_MAX))
    assert not has_span(report("t", REPORT_SPANS_MAX + 1))
    assert not has_span(progress("t"))
    assert has_span(end("t", 1_000))


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_SERVICE_NAME": "mine", "OTEL_TRACES_SAMPLER": "always_on"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": " "},
        ENDPOINT | {"OTEL_SDK_DISABLED": "TRUE"},
        ENDPOINT | {"OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_nothing_is_recorded_unless_the_environment_asks_for_it(environ: Mapping[str, str]) -> None:
    with recording(environ, service="s"):
        assert not is_recording()


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        (ENDPOINT | {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "OTEL_EXPORTER_OTLP_PROTOCOL='grpc'"),
        ({"OTEL_TRACES_EXPORTER": "jaeger"}, "OTEL_TRACES_EXPORTER='jaeger'"),
    ],
)
def test_what_cannot_be_done_is_a_configuration_error(environ: Mapping[str, str], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said), recording(environ, service="s"):
        pass


def run(code: str, **environ: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True, env=environ
    )
    return done.stdout.strip()


LOADED = """
loaded = sorted(name for name in sys.modules if name.startswith("opentelemetry"))
print(loaded)"""


def test_without_the_variables_opentelemetry_is_never_loaded() -> None:
    code = f"""
import sys, edge.app, consumers.app, detections.cli, detections.client, contracts.message_spans
from contracts.tracing import Begun, recording, span
with recording(service="s"), span(Begun(name="x")):
    pass
{LOADED}"""
    looks = ["opentelemetry", "opentelemetry.semconv"]  # two empty packages: FastStream looks whether they are there
    assert run(code) in (str(looks), "[]")


def test_with_them_it_is() -> None:
    code = f"""
import sys
from contracts.tracing import recording
with recording(service="s"):
    pass
{LOADED}"""
    assert "opentelemetry.sdk.trace" in run(code, **ENDPOINT)


def test_a_missing_extra_is_said_by_name() -> None:
    code = """
import sys
sys.modules["opentelemetry"] = None
import edge.__main__, consumers.__main__
print(edge.__main__.main())
consumers.__main__.main()
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False, env=ENDPOINT
    )
    said = "OTEL_EXPORTER_OTLP_ENDPOINT asks for traces: install the extra `tracing` (opentelemetry is missing)"
    assert done.stderr.splitlines() == [said, f"consumers: {said}"]
    assert (done.stdout, done.returncode) == ("2\n", 1)


@pytest.mark.parametrize(
    ("environ", "name"),
    [({}, "s"), ({"OTEL_SERVICE_NAME": "mine"}, "mine"), ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=ours"}, "ours")],
)
def test_a_service_is_called_as_the_environment_says(environ: dict[str, str], name: str) -> None:
    code = """
import json
from contracts.span_export import _resource
print(json.dumps(dict(_resource('s').attributes)))"""
    said = json.loads(run(code, **environ))
    assert said["service.name"] == name
    assert said["service.instance.id"]
