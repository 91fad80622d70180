"""Carrying one upload. Synchronous on purpose, for both clients: an edge may answer and close before the body has ended
(too large, storage full, the task has failed), and asyncio's transport closes without reading that answer.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, InvalidStateError
from typing import TypeVar

import httpx

from detections import calls
from detections.answers import ClientError, Started, Task, UnreachableError
from detections.uploading import OnProgress, Progress, Upload

_Result = TypeVar("_Result")


def send(http: httpx.Client, url: str, upload: Upload, on_progress: OnProgress | None) -> Started:
    """Send all of it. Raises `ServiceError` (also the task's own failure), `UnreachableError`, `OSError` of the file."""
    call = calls.submit(upload)
    wait = calls.timeout(call.read_timeout_s)
    try:
        with calls.mapped(url):
            response = http.request(
                call.method, call.path, headers=call.headers, content=_body(upload, on_progress), timeout=wait
            )
    except UnreachableError as error:
        raise calls.reason(error, _task_or_none(http, upload.task_id)) from error
    return call.answer(response)


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
        with upload, httpx.Client(base_url=url, headers=headers, trust_env=False) as http:
            return send(http, url, upload, tell)

    try:
        return await _in_thread(work)
    finally:
        upload.stop()


def _body(upload: Upload, on_progress: OnProgress | None) -> Iterator[bytes]:
    for chunk in upload.chunks():
        upload.wait()
        yield chunk
        upload.count(chunk, on_progress)


def _task_or_none(http: httpx.Client, task_id: str) -> Task | None:
    call = calls.task(task_id)
    with contextlib.suppress(ClientError, httpx.HTTPError):
        return call.answer(http.request(call.method, call.path, timeout=calls.timeout(call.read_timeout_s)))
    return None


async def _in_thread(work: Callable[[], _Result]) -> _Result:
    """The result of `work`. A thread of its own that nobody waits for: a cancelled upload to a stalled edge ends later."""
    future: Future[_Result] = Future()

    def run() -> None:
        with contextlib.suppress(InvalidStateError):  # nobody waits any more
            try:
                future.set_result(work())
            except BaseException as error:  # noqa: BLE001 - it is raised in the other thread
                future.set_exception(error)

    threading.Thread(target=run, name="upload", daemon=True).start()
    return await asyncio.wrap_future(future)
