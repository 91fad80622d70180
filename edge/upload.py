"""Bytes on their way from the socket to the disk: counted, bounded, in batches, with back-pressure.

A reader takes chunks from the socket and waits while too many of them are not written yet; a writer takes what has come
together, at the latest 10 ms after the first of it, and writes it in a worker thread. Memory never holds more than
`WAITING_BYTES_MAX`, one chunk, and what is being written.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from typing import Any, NoReturn

import msgspec
from litestar import Request
from litestar.exceptions.http_exceptions import RequestEntityTooLarge

from contracts.failures import Failure, FailureCode
from edge.growing_body import GrowingBody
from edge.metrics import UPLOAD_BYTES
from edge.racing import single_failure

BATCH_BYTES = 256 * 1024
"""A batch of this size is written at once."""
BATCH_AGE_S = 0.010
"""A smaller one at this age."""
WAITING_BYTES_MAX = 1024 * 1024
"""Bytes that wait for the writer; at that the socket is not read until they are taken."""

UPLOADS: set[GrowingBody] = set()
"""The bodies that are being received by this process."""

Receive = Callable[[], Awaitable[Any]]


class UploadLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What one body may cost."""

    bytes_max: int
    idle_s: float
    """Longest silence of a client in the middle of its body."""
    resume_s: int
    """How long a client may take to come back to a resumable upload."""
    confirm_wait_s: float
    """How long an upload that is whole waits for a broker that is away; then the client is told, and the task starts later."""


async def body_chunks(receive: Receive) -> AsyncIterator[bytes]:
    """The chunks of an HTTP body, none of them empty.

    Raises `Failure(upload_aborted)` if the client goes away before its end.
    """
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Failure(FailureCode.UPLOAD_ABORTED, "the client went away in the middle of the body")
        if chunk := message.get("body", b""):
            yield chunk
        if not message.get("more_body", False):
            return


async def small_body(request: Request[Any, Any, Any], *, bytes_max: int, timeout_s: float) -> bytes:
    """The body of a request whose route bounds its size.

    bytes_max: that bound. Raises `Failure`: `too_large`, `upload_stalled` if it takes longer than `timeout_s`.
    """
    try:
        async with asyncio.timeout(timeout_s):
            return await request.body()
    except RequestEntityTooLarge as error:
        raise Failure(FailureCode.TOO_LARGE, f"the body has more than {bytes_max} bytes") from error
    except TimeoutError as error:
        raise Failure(FailureCode.UPLOAD_STALLED, f"the body did not end within {timeout_s:g} s") from error


async def client_gone(receive: Receive) -> NoReturn:
    """Wait for the client of a whole body to lose its patience. Raises `Failure(upload_aborted)` then, returns never."""
    while (await receive())["type"] != "http.disconnect":
        pass
    raise Failure(FailureCode.UPLOAD_ABORTED, "the client went away before its answer")


async def bounded(chunks: AsyncIterator[bytes], limits: UploadLimits, *, before_bytes: int = 0) -> AsyncIterator[bytes]:
    """The chunks, as long as they keep coming and are not too many, those of earlier requests included.

    Raises `Failure`: `too_large`, `upload_stalled`.
    """
    received_bytes = before_bytes
    while (chunk := await _next_chunk(chunks, limits.idle_s)) is not None:
        received_bytes += len(chunk)
        UPLOAD_BYTES.inc(len(chunk))
        if received_bytes > limits.bytes_max:
            raise Failure(FailureCode.TOO_LARGE, f"the body has more than {limits.bytes_max} bytes")
        yield chunk


async def _next_chunk(chunks: AsyncIterator[bytes], idle_s: float) -> bytes | None:
    try:
        async with asyncio.timeout(idle_s):
            return await anext(chunks, None)
    except TimeoutError as error:
        raise Failure(FailureCode.UPLOAD_STALLED, f"no bytes for {idle_s:g} s") from error


def check_announced(total_bytes: int | None, limits: UploadLimits) -> None:
    """Refuse a body by its announced length, before a byte of it is read. Raises `Failure`: `empty_media`, `too_large`."""
    if total_bytes == 0:
        raise Failure(FailureCode.EMPTY_MEDIA, "the body is empty")
    if total_bytes is not None and total_bytes > limits.bytes_max:
        raise Failure(FailureCode.TOO_LARGE, f"{total_bytes} bytes announced, {limits.bytes_max} are allowed")


class Inflow:
    """The way of one body into its file: `put` from the socket, `drain` to the disk."""

    def __init__(self, body: GrowingBody) -> None:
        self.body = body
        self.first_stored = asyncio.Event()
        """Set when the first bytes are on the disk."""
        self._parts: list[bytes] = []
        self._waiting_bytes = 0
        self._is_closed = False
        self._something_came = asyncio.Event()
        self._batch_is_due = asyncio.Event()
        self._has_room = asyncio.Event()
        self._has_room.set()

    async def put(self, chunk: bytes) -> None:
        """Hand a chunk over; waits while the disk is behind."""
        await self._has_room.wait()
        self._parts.append(chunk)
        self._waiting_bytes += len(chunk)
        self._something_came.set()
        if self._waiting_bytes >= BATCH_BYTES:
            self._batch_is_due.set()
        if self._waiting_bytes >= WAITING_BYTES_MAX:
            self._has_room.clear()

    def close(self) -> None:
        """No more will come: `drain` writes what is left and returns."""
        self._is_closed = True
        self._something_came.set()
        self._batch_is_due.set()

    async def drain(self) -> None:
        """Write what is put until `close`. Raises `Failure` as `GrowingBody.append`."""
        while not (self._is_closed and not self._parts):
            await self._something_came.wait()
            await _set_within(self._batch_is_due, BATCH_AGE_S)
            if parts := self._take():
                await asyncio.to_thread(self.body.append, parts)
                self.first_stored.set()

    def _take(self) -> list[bytes]:
        parts, self._parts, self._waiting_bytes = self._parts, [], 0
        self._has_room.set()
        if not self._is_closed:
            self._something_came.clear()
            self._batch_is_due.clear()
        return parts


async def store(chunks: AsyncIterator[bytes], inflow: Inflow) -> None:
    """Write all chunks into the body, also those that came before something went wrong with them.

    Raises `Failure` as `body_chunks`, `bounded` and `GrowingBody.append`.
    """
    with _in_progress(inflow.body):
        await _store(chunks, inflow)


async def _store(chunks: AsyncIterator[bytes], inflow: Inflow) -> None:
    async with single_failure(), asyncio.TaskGroup() as group:
        draining = group.create_task(inflow.drain())
        try:
            async for chunk in chunks:
                await inflow.put(chunk)
        except Failure:
            inflow.close()
            await draining
            raise
        inflow.close()


@contextlib.contextmanager
def _in_progress(body: GrowingBody) -> Generator[None]:
    UPLOADS.add(body)
    try:
        yield
    finally:
        UPLOADS.discard(body)


async def _set_within(event: asyncio.Event, timeout_s: float) -> None:
    """Return when the event is set, at the latest after `timeout_s`."""
    if not event.is_set():
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await event.wait()
