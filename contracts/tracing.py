"""Spans: what took how long in a trace, for OpenTelemetry if the environment asks for it.

Nothing of OpenTelemetry is imported and nothing is recorded unless one of its standard variables says where spans go.
"""

import os
from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from enum import Enum, auto
from typing import Protocol

import msgspec

from contracts.settings import ConfigurationError
from contracts.trace_context import TraceContext, continued, current_trace

DISABLED = "OTEL_SDK_DISABLED"
EXPORTER = "OTEL_TRACES_EXPORTER"
ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
PROTOCOL = "http/protobuf"
"""The one that is spoken."""
TASK_ID, MEDIA_ID, ATTEMPT = "detections.task.id", "detections.media.id", "detections.attempt"
"""Attributes of our own."""

Attributes = Mapping[str, str | int | float | bool]


class SpanKind(Enum):
    """As OpenTelemetry has them."""

    SERVER = auto()
    PRODUCER = auto()
    CONSUMER = auto()
    INTERNAL = auto()


class Begun(msgspec.Struct, frozen=True, kw_only=True):
    """What a span says when it begins."""

    name: str
    kind: SpanKind = SpanKind.INTERNAL
    attributes: Attributes = {}
    started_ns: int | None = None
    """Unix time; None: now."""


class Span(Protocol):
    """A span that has begun."""

    @property
    def context(self) -> TraceContext: ...

    def note(self, attributes: Attributes) -> None:
        """Say more about it."""
        ...

    def link(self, other: TraceContext) -> None:
        """Say that another trace has to do with it."""
        ...

    def fail(self, reason: str) -> None:
        """Say that it went wrong; reason: one of few."""
        ...

    def end(self, at_ns: int | None = None) -> None:
        """at_ns: Unix time; None: now."""
        ...


class Recorder(Protocol):
    """Whoever records spans."""

    def begin(self, begun: Begun, parent: TraceContext | None) -> Span: ...

    def close(self) -> None:
        """Hand over what is recorded, within a bounded time."""
        ...


class _Recording:
    """Who records the spans of this process, if anybody does."""

    def __init__(self) -> None:
        self.recorder: Recorder | None = None


_recording = _Recording()
_span_here: ContextVar[Span | None] = ContextVar("span", default=None)


@contextmanager
def recording(environ: Mapping[str, str] = os.environ, *, service: str) -> Generator[None]:
    """Record spans inside if the environment asks for it, under this name of the service unless it says another.

    Raises `ConfigurationError` if it asks for what is not there.
    """
    asked_by = _asked_by(environ)
    if asked_by is None:
        yield
        return
    try:
        from contracts.span_export import Exporting
    except ImportError as error:
        message = f"{asked_by} asks for traces: install the extra `tracing` ({error.name} is missing)"
        raise ConfigurationError(message) from error
    with recorded_by(Exporting(service)):
        yield


@contextmanager
def recorded_by(recorder: Recorder) -> Generator[None]:
    """Have all spans of this process recorded by this one."""
    _recording.recorder = recorder
    try:
        yield
    finally:
        _recording.recorder = None
        recorder.close()


def is_recording() -> bool:
    """Whether anybody records spans here."""
    return _recording.recorder is not None


def span(begun: Begun) -> AbstractContextManager[Span | None]:
    """A span around what happens inside, child of where we are; None if nobody records."""
    recorder = _recording.recorder
    return nullcontext() if recorder is None else _around(recorder, begun)


def record(begun: Begun, *, parent: TraceContext | None = None, ended_ns: int | None = None) -> None:
    """A span of what is over. parent: None for where we are. ended_ns: Unix time; None: now."""
    if (recorder := _recording.recorder) is not None:
        recorder.begin(begun, parent or current_trace()).end(ended_ns)


def note(attributes: Attributes) -> None:
    """Say more about the span around us, if there is one."""
    if (here := _span_here.get()) is not None:
        here.note(attributes)


def link(other: TraceContext) -> None:
    """Say that another trace has to do with the span around us, if there is one."""
    if (here := _span_here.get()) is not None:
        here.link(other)


@contextmanager
def _around(recorder: Recorder, begun: Begun) -> Generator[Span]:
    running = recorder.begin(begun, current_trace())
    token = _span_here.set(running)
    try:
        with continued(running.context):
            yield running
    except BaseException as error:
        running.fail(str(getattr(error, "code", type(error).__name__)))
        raise
    finally:
        _span_here.reset(token)
        running.end()


def _asked_by(environ: Mapping[str, str]) -> str | None:
    """The variable that asks for traces, None if none does. Raises `ConfigurationError`."""
    if environ.get(DISABLED, "").strip().lower() == "true":
        return None
    exporter = environ.get(EXPORTER, "").strip()
    if exporter not in ("", "otlp", "none"):
        raise ConfigurationError(f"{EXPORTER}={exporter!r}: spans can go by otlp or to none")
    asked_by = next((name for name in (*ENDPOINTS, EXPORTER) if environ.get(name, "").strip()), None)
    if asked_by is None or exporter == "none":
        return None
    for name in PROTOCOLS:
        if environ.get(name, "").strip() not in ("", PROTOCOL):
            raise ConfigurationError(f"{name}={environ[name]!r}: spans are sent by {PROTOCOL} alone")
    return asked_by
