"""KServe v2 over HTTP.

The client of tritonclient keeps connections in gevent's loops, one a thread with two descriptors that nobody closes; so only
its encoding is used, and the connections are the standard library's.
"""

import contextlib
import http.client
import io
import time
from collections import deque
from collections.abc import Mapping, Sequence
from functools import partial
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import msgspec
import tritonclient.http
from tritonclient.utils import InferenceServerException

from engine.kserve import (
    MESSAGE_BYTES_MAX,
    Away,
    Deadlines,
    Described,
    arrays,
    described,
    filled,
    one_line,
    optional,
    understood,
)
from engine.runtime import Tensor
from engine.sources import RemoteModel

_HEADER_LENGTH = "Inference-Header-Content-Length"


class HttpConnection:
    """As many connections as threads ask at once; what broke is not used again."""

    def __init__(self, model: RemoteModel, deadlines: Deadlines) -> None:
        self._model = model
        self._deadlines = deadlines
        version = f"/versions/{model.version}" if model.version else ""
        self._path = f"/v2/models/{quote(model.name)}{version}"
        self._idle: deque[http.client.HTTPConnection] = deque()

    def describe(self) -> Described:
        with understood(self._model):
            metadata = msgspec.json.decode(self._ask(self._path).content)
            with optional():
                return described(metadata, msgspec.json.decode(self._ask(f"{self._path}/config").content))
            return described(metadata, {})

    def check_ready(self) -> None:
        with understood(self._model):
            try:
                self._ask(f"{self._path}/ready")
            except InferenceServerException as not_ready:
                raise Away(f"{self._model}: {one_line(not_ready.message())}") from not_ready

    def infer(self, tensors: Mapping[str, Tensor], outputs: Sequence[str]) -> tuple[Tensor, ...]:
        client = tritonclient.http.InferenceServerClient
        with understood(self._model, is_inference=True):
            body, header_length = client.generate_request_body(
                [filled(tritonclient.http.InferInput, name, tensor) for name, tensor in tensors.items()],
                [tritonclient.http.InferRequestedOutput(name) for name in outputs],
            )
            answer = self._ask(f"{self._path}/infer", body, {_HEADER_LENGTH: str(header_length)})
            result = client.parse_response_body(answer.content, header_length=answer.header_length)
            return arrays(result, outputs)

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()

    def _ask(self, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> "_Answer":
        """Raises `InferenceServerException` with the server's words, `OSError`, `HTTPException`."""
        connection = self._connected()
        within_s = self._deadlines.ask_s if body is None else self._deadlines.infer_s
        connection.sock.settimeout(within_s)  # to send all of the question, too
        answering: Any = partial(_Response, until_s=time.monotonic() + within_s)  # the stubs want a class
        connection.response_class = answering
        try:
            connection.request("GET" if body is None else "POST", path, body, headers or {})
            response = connection.getresponse()
            content = _content(response)
        except BaseException:
            connection.close()
            self.close()  # those that wait are as old
            raise
        if len(content) > MESSAGE_BYTES_MAX:
            connection.close()
            raise InferenceServerException(f"an answer of more than {MESSAGE_BYTES_MAX} bytes", str(response.status))
        if not response.will_close:
            self._idle.append(connection)
        if response.status != HTTPStatus.OK:
            raise InferenceServerException(_error_in(content) or response.reason, str(response.status))
        length = response.headers.get(_HEADER_LENGTH)
        return _Answer(content=content, header_length=int(length) if length else None)

    def _connected(self) -> http.client.HTTPConnection:
        with contextlib.suppress(IndexError):
            return self._idle.pop()
        kind = http.client.HTTPSConnection if self._model.is_encrypted else http.client.HTTPConnection
        connection = kind(self._model.host, self._model.port, timeout=self._deadlines.connect_s)
        connection.connect()
        return connection


class _Response(http.client.HTTPResponse):
    """An answer that ends by a deadline: a timeout of the socket is for one silence only, and a server may drip."""

    def __init__(self, sock: Any, *, method: str | None, until_s: float) -> None:
        super().__init__(sock, method=method)
        self.fp = io.BufferedReader(_Arriving(sock, self.fp, until_s))


class _Arriving(io.RawIOBase):
    """What comes through a socket until then. Raises `TimeoutError` after it."""

    def __init__(self, sock: Any, file: io.BufferedIOBase, until_s: float) -> None:
        """file: of that socket, which it keeps open where the connection ends with the answer."""
        self._socket = sock
        self._file = file
        self._until_s = until_s

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        left_s = self._until_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        self._socket.settimeout(left_s)
        return self._socket.recv_into(buffer)

    def close(self) -> None:
        self._file.close()
        super().close()


def _content(response: http.client.HTTPResponse) -> bytes:
    """The body, of a large one as much as tells that it is too large. Raises `IncompleteRead` if it breaks off."""
    content = response.read(MESSAGE_BYTES_MAX + 1)
    if response.length and len(content) <= MESSAGE_BYTES_MAX:  # `read` itself is content with fewer than were announced
        raise http.client.IncompleteRead(content, response.length)
    return content


class _Answer(msgspec.Struct, frozen=True):
    content: bytes
    header_length: int | None
    """Bytes of JSON before the tensors; None: nothing but JSON."""


class _Error(msgspec.Struct, frozen=True):
    error: str


def _error_in(content: bytes) -> str | None:
    try:
        return msgspec.json.decode(content, type=_Error).error
    except ValueError:
        return None
