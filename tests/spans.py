"""A recorder of spans that remembers them."""

from typing import Any

from contracts.trace_context import TraceContext
from contracts.tracing import Attributes, Begun

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Remembered:
    """A span that is remembered."""

    def __init__(self, begun: Begun, parent: TraceContext | None, number: int) -> None:
        self.begun = begun
        self.parent = parent
        self.context = TraceContext(trace_id=parent.trace_id if parent else TRACE, span_id=f"{number:016x}", flags=1)
        self.attributes: dict[str, Any] = dict(begun.attributes)
        self.links: list[TraceContext] = []
        self.failed: str | None = None
        self.ended: list[int | None] = []

    def note(self, attributes: Attributes) -> None:
        self.attributes |= attributes

    def link(self, other: TraceContext) -> None:
        self.links.append(other)

    def fail(self, reason: str) -> None:
        self.failed = reason

    def end(self, at_ns: int | None = None) -> None:
        self.ended.append(at_ns)


class Remembering:
    """A recorder for tests."""

    def __init__(self) -> None:
        self.spans: list[Remembered] = []
        self.is_closed = False

    def begin(self, begun: Begun, parent: TraceContext | None) -> Remembered:
        self.spans.append(Remembered(begun, parent, len(self.spans) + 1))
        return self.spans[-1]

    def close(self) -> None:
        self.is_closed = True
