"""Carrying one upload. Synchronous on purpose, for both clients: an edge may answer and close before the body has ended
(too large, storage full, the task has failed), and asyncio's transport closes without reading that answer.
"""

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, InvalidStateError
from http import HTTPStatus
from typing import TypeVar

import httpx

from detections import calls
from detections.answers import ClientError, ServiceError, Started, Task, UnreachableError
from detections.callers_trace import carry_trace
from detections.calls import Call
from detections.resuming import PASSING, Interrupted, Patience
from detections.uploading import OnProgress, Progress, Upload

CANCEL_TIMEOUT_S = 5.0
"""How long an upload that is broken off may take to tell the edge; a second Ctrl-C does not wait."""

_OVER = frozenset((HTTPStatus.NOT_FOUND, HTTPStatus.GONE))
"""What is answered of an upload that nobody can go on with any more: its task tells the rest."""

_Result = TypeVar("_Result")


def send(http: httpx.Client, url: str, upload: Upload, on_progress: OnProgress | None) -> Started:
    """Send all of it, over broken connections if the file can be read again.

    Raises `ServiceError` (also the task's own failure), `UnreachableError`, `OSError` of the file.
    """
    patience = Patience()
    next_call: Call[Started] | Started = calls.submit(upload)
    try:
        while isinstance(next_call, Call):
            try:
                return _carry(http, url, next_call, upload, on_progress)
            except Interrupted as broken:
                next_call = _after(broken, http, url, upload, patience)
    except ClientError:
        raise
    except BaseException:  # stopped, Ctrl-C, the file, the caller's own: nobody goes on with it, its task need not wait
        _cancel(http, upload.task_id)
        raise
    return next_call


def _carry(
    http: httpx.Client, url: str, call: Call[Started], upload: Upload, on_progress: OnProgress | None
) -> Started:
    """One request. Raises `Interrupted` for what may pass, `ClientError` for what will not."""
    wait = calls.timeout(call.read_timeout_s)
    headers = httpx.Headers(call.headers, encoding="utf-8")  # a configuration may name anything
    try:
        with calls.mapped(url):
            response = http.request(
                call.method, call.path, headers=headers, content=_body(upload, on_progress), timeout=wait
            )
    except UnreachableError as error:
        if upload.is_resumable and upload.has_begun:
            raise Interrupted(error) from error
        raise calls.reason(error, _task_or_none(http, upload.task_id)) from error
    if upload.is_resumable:
        calls.raise_if_passing(response)
    return call.answer(response)


def _after(
    broken: Interrupted, http: httpx.Client, url: str, upload: Upload, patience: Patience
) -> Call[Started] | Started:
    """What to send next; `Started` if the edge has all of it already. Raises `ClientError` when that is hopeless."""
    while True:
        upload.pause(patience.delay_s(broken))
        try:
            with calls.mapped(url):
                call = calls.standing(upload.task_id)
                standing = call.answer(http.request(call.method, call.path, timeout=calls.timeout(call.read_timeout_s)))
        except UnreachableError as error:
            broken = Interrupted(error)
        except ServiceError as error:
            if error.status in _OVER:
                return _without(broken.error, error, http, upload)
            if error.status not in PASSING | {HTTPStatus.CONFLICT}:  # a HEAD has no body to say which
                raise
        else:
            if standing.is_complete:
                return _started(broken.error, http, upload)
            patience.stands_at(standing.offset_bytes)
            upload.go_on_at(standing.offset_bytes)
            return calls.append(upload)


def _without(broken: ClientError, refusal: ServiceError, http: httpx.Client, upload: Upload) -> Call[Started] | Started:
    """The same for an upload that the edge has no longer, or never had: then it begins again."""
    if refusal.status == HTTPStatus.NOT_FOUND and _task_or_none(http, upload.task_id) is None:
        upload.go_on_at(0)
        return calls.submit(upload)
    return _started(broken, http, upload)


def _started(broken: ClientError, http: httpx.Client, upload: Upload) -> Started:
    task = _task_or_none(http, upload.task_id)
    if task is None or task.error is not None or task.media_id is None:
        raise calls.reason(broken, task) from broken
    return Started(task_id=upload.task_id, media_id=task.media_id)


async def send_in_thread(
    url: str, upload: Upload, on_progress: OnProgress | None, *, headers: dict[str, str]
) -> Started:
    """The same without holding up the event loop, on which `on_progress` is called. Cancelled, it breaks the upload off.

    headers: those of every request.
    """
    loop = asyncio.get_running_loop()

    def tell(progress: Progress) -> None:
        if on_progress is not None:
            loop.call_soon_threadsafe(on_progress, progress)

    def work() -> Started:
        hooks = {"request": [carry_trace]}
        with upload, httpx.Client(base_url=url, headers=headers, event_hooks=hooks, trust_env=False) as http:
            return send(http, url, upload, tell)

    return await _in_thread(work, stop=upload.stop)


def _body(upload: Upload, on_progress: OnProgress | None) -> Iterator[bytes]:
    upload.has_begun = True  # the transport has a connection when it asks for a body
    for chunk in upload.chunks():
        upload.wait()
        yield chunk
        upload.count(chunk, on_progress)


def _task_or_none(http: httpx.Client, task_id: str) -> Task | None:
    call = calls.task(task_id)
    with contextlib.suppress(ClientError, httpx.HTTPError):
        return call.answer(http.request(call.method, call.path, timeout=calls.timeout(call.read_timeout_s)))
    return None


def _cancel(http: httpx.Client, task_id: str) -> None:
    call = calls.cancel(task_id)
    with contextlib.suppress(httpx.HTTPError):
        http.request(call.method, call.path, timeout=calls.timeout(CANCEL_TIMEOUT_S))


async def _in_thread(work: Callable[[], _Result], *, stop: Callable[[], None]) -> _Result:
    """The result of `work`, in a thread of its own. Cancelled, it is stopped and has `CANCEL_TIMEOUT_S` to tell the edge."""
    future: Future[_Result] = Future()
    loop, ended = asyncio.get_running_loop(), asyncio.Event()

    def run() -> None:
        with contextlib.suppress(InvalidStateError):  # nobody waits any more
            try:
                future.set_result(work())
            except BaseException as error:  # noqa: BLE001 - it is raised in the other thread
                future.set_exception(error)
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(ended.set)

    here = contextvars.copy_context()  # the trace of whoever asks
    threading.Thread(target=here.run, args=(run,), name="upload", daemon=True).start()
    try:
        return await asyncio.wrap_future(future)
    except asyncio.CancelledError:
        stop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CANCEL_TIMEOUT_S):
                await ended.wait()
        raise
