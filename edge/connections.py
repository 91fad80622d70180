"""HTTP connections as uvicorn has them, with what it lacks: a deadline and a bound for headers, and interim responses.

Without it a client that sends a header line now and then holds its connection for ever (slowloris). Bodies have their own
deadline where they are read (`upload.bounded`): what counts there is the silence, not the whole.

An offer to speak another protocol (`Upgrade: h2c`, as Java's client makes with its first request) is passed over, and an
answer of unknown length to HTTP/1.0, which knows no chunks, ends with its connection.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from contracts.failures import FailureCode
from edge.failures import PROBLEM_JSON, STATUS, Problem, problem_type, title
from edge.request_end import tell_refused

_PHRASES = {104: "Upload Resumption Supported"}
"""What the standard library does not know yet."""

Send = Callable[[Any], Awaitable[None]]


class HeaderLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What the headers of one request may cost."""

    timeout_s: float
    """From the first byte of a request, or the beginning of its connection, to the end of its headers."""
    bytes_max: int


class _Connection(HttpToolsProtocol):
    """One connection; `guarded` gives it its limits."""

    header_limits: HeaderLimits
    parser: Any
    _deadline: asyncio.TimerHandle | None = None
    _is_in_headers = False
    _header_bytes = 0
    _offer_ends_at: int | None = None
    """In what is being read: the end of headers that offer another protocol."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._headers_came()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._deadline is None and not self._is_answering():
            self._expect_headers()
        self._read(data)
        if self._is_in_headers:
            self._header_bytes += len(data)
            if self._header_bytes > self.header_limits.bytes_max:
                self._refuse(FailureCode.HEADERS_TOO_LARGE, self._too_large())

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._is_in_headers, self._header_bytes = True, 0

    def on_headers_complete(self) -> None:
        self._headers_came()
        if self.parser.should_upgrade() and self._should_upgrade():
            return
        is_old = self.parser.get_http_version() == "1.0"
        if not is_old:
            self.scope.setdefault("state", {})["interim"] = self._interim
        self._begin_answer()
        if is_old:
            _end_with_the_connection(self.cycle)

    def handle_websocket_upgrade(self) -> None:
        """Called behind headers that offer another protocol, in place of their request."""
        upgrade = sys.exc_info()[1]
        self._offer_ends_at = upgrade.args[0] if upgrade else None

    def send_400_response(self, msg: str) -> None:
        self._refuse(FailureCode.MALFORMED_REQUEST, msg)

    def _read(self, data: bytes) -> None:
        """Have it parsed, headers that offer another protocol once more without that (RFC 9110, 7.8: as if it were not there).

        For the parser their request ends with them: it would take the body that follows for the next request.
        """
        rest = data
        while rest:
            self._offer_ends_at = None
            super().data_received(rest)
            if self._offer_ends_at is None:
                return
            rest = rest[self._offer_ends_at :]
            super().data_received(self._head_without_offer())

    def _should_upgrade(self) -> bool:
        """Whether the parser stops behind these headers; of CONNECT, which has no path, it is refused before."""
        return self.parser.get_method() != b"CONNECT"

    def _head_without_offer(self) -> bytes:
        first = b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
        kept = (b"%b: %b" % (name, value) for name, value in self.headers if name != b"upgrade")
        return b"\r\n".join((first, *kept, b"", b""))

    def _begin_answer(self) -> None:
        if sum(len(name) + len(value) for name, value in self.headers) <= self.header_limits.bytes_max:
            super().on_headers_complete()
            return
        app, self.app = self.app, self._answer_too_large
        super().on_headers_complete()
        self.app = app

    def _is_answering(self) -> bool:
        return bool(self.cycle) and not self.cycle.response_complete

    def _expect_headers(self) -> None:
        self._deadline = self.loop.call_later(self.header_limits.timeout_s, self._run_late)

    def _headers_came(self) -> None:
        self._is_in_headers = False
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _run_late(self) -> None:
        """Cut a client that has not sent its headers in time; one that has sent nothing is told nothing."""
        if self._is_answering():
            self._expect_headers()  # pipelined behind a request that is still answered
        elif self._is_in_headers:
            detail = f"the headers did not end within {self.header_limits.timeout_s:g} s"
            self._refuse(FailureCode.HEADERS_STALLED, detail)
        elif not self.transport.is_closing():
            self.transport.close()

    def _refuse(self, code: FailureCode, detail: str) -> None:
        if self.transport.is_closing():
            return
        tell_refused(code.value, int(STATUS[code]))
        body = msgspec.json.encode(_problem(code, detail))
        self.transport.write(_head(STATUS[code], dict(_headers(body))) + body)
        self.transport.close()

    def _interim(self, status: int, headers: Mapping[str, str]) -> None:
        if not self.transport.is_closing():
            self.transport.write(_head(status, headers))

    def _too_large(self) -> str:
        return f"the headers have more than {self.header_limits.bytes_max} bytes"

    async def _answer_too_large(self, _scope: object, _receive: object, send: Send) -> None:
        code = FailureCode.HEADERS_TOO_LARGE
        tell_refused(code.value, int(STATUS[code]))
        body = msgspec.json.encode(_problem(code, self._too_large()))
        headers = [(name.encode(), value.encode()) for name, value in _headers(body).items()]
        await send({"type": "http.response.start", "status": int(STATUS[code]), "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})


def guarded(limits: HeaderLimits) -> type[HttpToolsProtocol]:
    """The protocol of an edge, for uvicorn's `http`."""
    return type("Connection", (_Connection,), {"header_limits": limits})


def _end_with_the_connection(cycle: RequestResponseCycle) -> None:
    """Send what is answered as it is, without chunks: a client of HTTP/1.0 would take them for content (RFC 9112, 6.1)."""
    send = cycle.send

    async def sent(message: Any) -> None:
        if message["type"] == "http.response.start":
            cycle.chunked_encoding = False
        else:
            cycle.expected_content_length = len(message.get("body", b""))
        await send(message)

    cycle.send = sent


def _problem(code: FailureCode, detail: str) -> Problem:
    return Problem(type=problem_type(code), title=title(code), status=STATUS[code], code=code, detail=detail)


def _headers(body: bytes) -> dict[str, str]:
    return {"content-type": PROBLEM_JSON, "content-length": str(len(body)), "connection": "close"}


def _head(status: int, headers: Mapping[str, str]) -> bytes:
    """A status line and headers."""
    phrase = _PHRASES.get(status) or HTTPStatus(status).phrase
    lines = [f"HTTP/1.1 {status} {phrase}", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode("latin-1")
