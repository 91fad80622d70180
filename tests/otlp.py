"""A collector of traces, as small as can be: OTLP over HTTP in, spans by name and by parent out."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.processes import wait_until


class Received(msgspec.Struct, frozen=True, kw_only=True):
    """A span, as it was sent."""

    name: str
    service: str
    trace_id: str
    span_id: str
    parent_id: str
    kind: int
    started_ns: int
    ended_ns: int
    has_failed: bool
    links: list[str]
    """Trace ids."""
    attributes: dict[str, Any]


class Collector:
    """What has come so far."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.bodies: list[bytes] = []
        self._spans: list[Received] = []
        self._lock = threading.Lock()

    def take(self, body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        with self._lock:
            self.bodies.append(body)
            for resource in request.resource_spans:
                service = attributes_of(resource.resource.attributes)["service.name"]
                for scope in resource.scope_spans:
                    self._spans.extend(_received(span, service) for span in scope.spans)

    def spans(self, trace_id: str | None = None) -> list[Received]:
        """In the order in which they began."""
        with self._lock:
            found = [span for span in self._spans if trace_id in (None, span.trace_id)]
        return sorted(found, key=lambda span: span.started_ns)

    def wait_for(self, name: str, **attributes: Any) -> Received:
        """The first span of that name with these attributes."""

        def found() -> list[Received]:
            return [
                span for span in self.spans() if span.name == name and attributes.items() <= span.attributes.items()
            ]

        wait_until(lambda: bool(found()))
        return found()[0]

    def way_up(self, span: Received, *, length: int) -> list[str]:
        """The names from a span upwards, once so many have come: each process sends its spans when it likes."""
        wait_until(lambda: len(self._above(span)) >= length)
        return self._above(span)

    def _above(self, span: Received) -> list[str]:
        by_id = {other.span_id: other for other in self.spans(span.trace_id)}
        names = [span.name]
        while (above := by_id.get(span.parent_id)) is not None:
            names.append(above.name)
            span = above
        return names


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector that listens on 127.0.0.1."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            collector.take(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector = Collector(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def attributes_of(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


def _received(span: Any, service: str) -> Received:
    return Received(
        name=span.name,
        service=service,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        kind=span.kind,
        started_ns=span.start_time_unix_nano,
        ended_ns=span.end_time_unix_nano,
        has_failed=span.status.code == 2,
        links=[link.trace_id.hex() for link in span.links],
        attributes=attributes_of(span.attributes),
    )
