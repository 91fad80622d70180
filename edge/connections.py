"""HTTP connections as uvicorn has them, with what it lacks: a deadline and a bound for headers, and interim responses.

Without it a client that sends a header line now and then holds its connection for ever (slowloris). Bodies have their own
deadline where they are read (`upload.bounded`): what counts there is the silence, not the whole.

An offer to speak another protocol (`Upgrade: h2c`, as Java's client makes with its first request) is passed over, and an
answer of unknown length to HTTP/1.0, which knows no chunks, ends with its connection.
"""

import asyncio
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import httptools
import msgspec
from litestar.types import Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from contracts.failures import Failure, FailureCode
from edge.failures import STATUS, closing_headers, problem_of, send_problem
from edge.lingering import LingeringTransport
from edge.request_end import tell_refused

_PHRASES = {104: "Upload Resumption Supported"}
"""What the standard library does not know yet."""


class HeaderLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What the headers of one request may cost."""

    timeout_s: float
    """From the first byte of a request, or the beginning of its connection, to the end of its headers."""
    bytes_max: int


class _Connection(HttpToolsProtocol):
    """One connection; `guarded` gives it its limits."""

    header_limits: HeaderLimits
    transport: LingeringTransport  # type: ignore[assignment]
    parser: Any
    _deadline: asyncio.TimerHandle | None = None
    _is_in_headers = False
    _header_bytes = 0
    _is_stopping = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(LingeringTransport(transport, is_still_sending=self._is_still_sending))  # type: ignore[arg-type]
        self._expect_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._headers_came()
        self.transport.lost()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        self._is_stopping = True
        super().shutdown()

    def data_received(self, data: bytes) -> None:
        if self.transport.is_lingering:
            return
        if self._deadline is None and not self._is_answering():
            self._expect_headers()
        self._unset_keepalive_if_required()
        try:
            self._parse(data)
        except httptools.HttpParserError:
            self._refuse(FailureCode.MALFORMED_REQUEST, "this is no valid HTTP request")
            return
        if self._is_in_headers:
            self._header_bytes += len(data)
            if self._header_bytes > self.header_limits.bytes_max:
                self._refuse(FailureCode.HEADERS_TOO_LARGE, self._too_large())

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._is_in_headers, self._header_bytes = True, 0

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            return  # they come again, without the offer
        self._headers_came()
        is_old = self.parser.get_http_version() == "1.0"
        if not is_old:
            self.scope.setdefault("state", {})["interim"] = self._interim
        self._begin_answer()
        if is_old:
            _end_with_the_connection(self.cycle)

    def on_message_complete(self) -> None:
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def _parse(self, data: bytes) -> None:
        """Tell what the bytes say; an offer of another protocol is passed over (RFC 9110, 7.8).

        For the parser HTTP ends with its headers: it would take the body that follows for the next request.
        Raises `HttpParserError`.
        """
        while data:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as offer:
                data = self._head_without_offer() + data[offer.args[0] :]
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
            else:
                return

    def _head_without_offer(self) -> bytes:
        """The request's head. Raises `HttpParserError` for one that is nothing but an offer."""
        method = self.parser.get_method()
        if method == b"CONNECT":
            raise httptools.HttpParserError("no proxy")
        kept = [b"%b: %b\r\n" % header for header in self.headers if header[0] != b"upgrade"]
        version = self.parser.get_http_version().encode()
        return b"%b %b HTTP/%b\r\n%b\r\n" % (method, self.url, version, b"".join(kept))

    def _begin_answer(self) -> None:
        if sum(len(name) + len(value) for name, value in self.headers) <= self.header_limits.bytes_max:
            super().on_headers_complete()
            return
        app, self.app = self.app, self._answer_too_large
        super().on_headers_complete()
        self.app = app

    def _is_still_sending(self) -> bool:
        """Whether more may come of the request that is answered; an edge that stops waits for nobody's."""
        return not self._is_stopping and (self._is_in_headers or bool(self.cycle and self.cycle.more_body))

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
        body = msgspec.json.encode(problem_of(Failure(code, detail)))
        self.transport.write(_head(STATUS[code], closing_headers(body)) + body)
        self.transport.close()

    def _interim(self, status: int, headers: Mapping[str, str]) -> None:
        if not self.transport.is_closing():
            self.transport.write(_head(status, headers))

    def _too_large(self) -> str:
        return f"the headers have more than {self.header_limits.bytes_max} bytes"

    async def _answer_too_large(self, _scope: object, _receive: object, send: Send) -> None:
        code = FailureCode.HEADERS_TOO_LARGE
        tell_refused(code.value, int(STATUS[code]))
        await send_problem(send, Failure(code, self._too_large()))


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


def _head(status: int, headers: Mapping[str, str]) -> bytes:
    """A status line and headers."""
    phrase = _PHRASES.get(status) or HTTPStatus(status).phrase
    lines = [f"HTTP/1.1 {status} {phrase}", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode("latin-1")
