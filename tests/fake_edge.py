"""An edge for the client's tests: CONTRACT section 1 over real HTTP, with the faults that a client has to live through.

It looks at nothing: one report is made for every `REPORT_EVERY_BYTES` of an upload.
"""

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from typing import Any, Self
from urllib.parse import unquote

import msgspec
import uvicorn
from litestar import Litestar, Request, Response, delete, get, post
from litestar.params import FromPath
from litestar.response import Stream

from contracts.detections import Counts, Detection
from contracts.events import DetectionEvent, MediaStatus
from contracts.failures import FailureCode, FailureRecord
from detections.answers import Task, TaskStatus
from detections.rabbitmq import free_port

SEEN = Detection(center_x=0.5, center_y=0.5, width=0.1, height=0.2, class_num=0, label="red", confidence=0.9)
POLL_S = 0.002
REPORT_EVERY_BYTES = 100_000

_AnyRequest = Request[Any, Any, Any]


class Received(msgspec.Struct):
    """An upload as it came in."""

    headers: dict[str, str]
    body: bytes = b""
    is_whole: bool = False

    @property
    def content(self) -> bytes:
        """The file: the tail back at its end."""
        tail = int(self.headers.get("x-tail-bytes", "0"))
        return self.body[tail:] + self.body[:tail]


class CutError(Exception):
    """Makes the server drop a connection in mid-answer."""


class FakeEdge:
    """Runs while it is entered; `url` is where."""

    def __init__(self, *, port: int = 0) -> None:
        self.forget()
        self._port = port or free_port()
        self._server = uvicorn.Server(
            uvicorn.Config(self._app(), host="127.0.0.1", port=self._port, log_level="critical", lifespan="off")
        )
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def forget(self) -> None:
        """As if it had just been started: between tests."""
        self.uploads: dict[str, Received] = {}
        self.cancelled: list[str] = []
        self.tasks: dict[str, Task] = {}
        self.log: list[DetectionEvent] = []
        self.authorizations: set[str | None] = set()
        self.refresh_tokens: set[str | None] = set()
        """Of every request, to whatever route."""
        self.last_event_ids: list[str | None] = []
        """Of every stream that was opened."""
        self.detect_forms: list[dict[str, Any]] = []
        self.cut_after_events: list[int] = []
        """The next streams are cut in the middle of the event after that many; later ones are not."""
        self.first_offset = 0
        """What lies before is no longer in the log: asking for it gives a `gap`."""
        self.refuse_upload_at_bytes: int | None = None
        """Answer 422 and close when so many have come, the task having failed."""
        self.is_full = False
        """Answer 507 and close as soon as a body begins."""
        self.answers_before: list[Response[Any]] = []
        """Given to the next requests in place of the real answers."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        self._thread.start()
        while not self._server.started:
            time.sleep(POLL_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = self._server.force_exit = True
        self._thread.join(5)

    def report(self, task_id: str, sequence: int) -> None:
        """Another report of a task."""
        self.log.append(report(task_id, sequence))
        self.tasks.setdefault(task_id, Task(task_id=task_id, status=TaskStatus.RUNNING, kind="video"))

    def end(self, task_id: str, failure: FailureRecord | None = None) -> None:
        """The last event of a task."""
        reports = len([event for event in self.log if event.task_id == task_id])
        status = TaskStatus.FAILED if failure else TaskStatus.SUCCEEDED
        counts = Counts(decoded=reports, sampled=reports, inferred=reports, reported=reports)
        self.tasks[task_id] = Task(
            task_id=task_id, status=status, media_id=f"m-{task_id}", percent=100, counts=counts, error=failure
        )
        self.log.append(
            DetectionEvent(
                annotations=[],
                media_id=f"m-{task_id}",
                media_status=MediaStatus.ERROR if failure else MediaStatus.AI_PROCESSED,
                media_percent=100,
                task_id=task_id,
                sequence=reports + 1,
                counts=counts,
                error=failure,
            )
        )

    def _app(self) -> Litestar:
        return Litestar([*self._media_routes(), *self._task_routes()], openapi_config=None, before_request=self._note)

    def _note(self, request: _AnyRequest) -> None:
        self.authorizations.add(request.headers.get("authorization"))
        self.refresh_tokens.add(request.headers.get("x-refresh-token"))

    def _media_routes(self) -> list[Any]:
        @get("/health")
        async def health() -> Response[Any]:
            return self._instead() or Response({"status": "healthy", "aiAvailability": "Enabled", "consumers": []})

        @get("/health/ready")
        async def ready() -> Response[Any]:
            return self._instead() or Response({"status": "ready"})

        @post("/detect", request_max_body_size=None)
        async def detect(request: Request[Any, Any, Any]) -> Response[Any]:
            form = await request.form()
            file = form["file"]
            self.detect_forms.append(
                {"name": file.filename, "content": await file.read(), "config": form.get("config")}
            )
            return self._instead() or Response([msgspec.to_builtins(SEEN)], status_code=200)

        @post("/detect/video", request_max_body_size=None)
        async def upload(request: Request[Any, Any, Any]) -> Response[Any]:
            return self._instead() or await self._receive(request)

        @get("/detect/stream")
        async def stream(request: Request[Any, Any, Any]) -> Response[Any] | Stream:
            after = request.headers.get("last-event-id")
            self.last_event_ids.append(after)
            events = self._events(request.query_params.get("taskId"), after)
            return self._instead() or Stream(events, media_type="text/event-stream")

        return [health, ready, detect, upload, stream]

    def _task_routes(self) -> list[Any]:
        @get("/tasks/{task_id:str}")
        async def task(task_id: FromPath[str]) -> Response[Any]:
            return self._instead() or self._task(task_id)

        @get("/tasks/{task_id:str}/results")
        async def results(task_id: FromPath[str]) -> Response[bytes]:
            reports = [event for event in self.log if event.task_id == task_id and event.annotations]
            lines = b"".join(msgspec.json.encode(event) + b"\n" for event in reports)
            return Response(lines, media_type="application/x-ndjson")

        @delete("/tasks/{task_id:str}", status_code=202)
        async def cancel(task_id: FromPath[str]) -> Response[Any]:
            self.cancelled.append(task_id)
            if task_id not in self.tasks:
                return problem(404, "task_not_found", f"no task {task_id}")
            if self.tasks[task_id].status.is_end:
                return problem(409, "task_ended", f"{task_id} has ended")
            self.end(task_id, FailureRecord(code=FailureCode.CANCELLED, detail="cancelled"))
            return Response({}, status_code=202)

        return [task, results, cancel]

    def _instead(self) -> Response[Any] | None:
        return self.answers_before.pop(0) if self.answers_before else None

    def _task(self, task_id: str) -> Response[Any]:
        if task_id not in self.tasks:
            return problem(404, "task_not_found", f"no task {task_id}")
        return Response(msgspec.json.encode(self.tasks[task_id]), media_type="application/json")

    async def _receive(self, request: Request[Any, Any, Any]) -> Response[Any]:
        task_id = request.headers["x-task-id"]
        received = self.uploads[task_id] = Received(headers=dict(request.headers))
        reports = 0
        async for chunk in request.stream():
            if self.is_full:
                return closing(problem(507, "storage_full", "0 bytes free"))
            received.body += chunk
            while len(received.body) >= (reports + 1) * REPORT_EVERY_BYTES:
                reports += 1
                self.report(task_id, reports)
            if self.refuse_upload_at_bytes is not None and len(received.body) >= self.refuse_upload_at_bytes:
                self.end(task_id, FailureRecord(code=FailureCode.NO_VIDEO_STREAM, detail="only sound in it"))
                return closing(problem(422, "no_video_stream", "only sound in it"))
        received.is_whole = True
        self.end(task_id)
        return Response({"status": "started", "mediaId": f"m-{task_id}", "taskId": task_id}, status_code=202)

    async def _events(self, task_id: str | None, after: str | None) -> AsyncIterator[bytes]:
        offset = len(self.log) - 1 if after is None else int(after)
        cut_after = self.cut_after_events.pop(0) if self.cut_after_events else None
        yield b": hello\n\n" if after is not None else f"id: {offset}\n\n".encode()
        if after is not None and offset + 1 < self.first_offset:
            offset = self.first_offset - 1
            yield f"event: gap\ndata: {{}}\nid: {offset}\n\n".encode()
        while True:
            for position, event in enumerate(self.log[offset + 1 :], start=offset + 1):
                offset = position
                if task_id in (None, event.task_id):
                    block = b"id: %d\ndata: %b\n\n" % (position, msgspec.json.encode(event))
                    if cut_after == 0:
                        yield block[: len(block) // 2]
                        raise CutError
                    cut_after = None if cut_after is None else cut_after - 1
                    yield block
            await asyncio.sleep(POLL_S)


def report(task_id: str, sequence: int) -> DetectionEvent:
    """A report as clients see it."""
    return DetectionEvent(
        annotations=[SEEN],
        media_id=task_id,
        media_status=MediaStatus.AI_PROCESSING,
        media_percent=0,
        task_id=task_id,
        sequence=sequence,
    )


def problem(status: int, code: str, detail: str) -> Response[Any]:
    """An RFC 9457 answer."""
    body = {"type": "about:blank", "title": "no", "status": status, "detail": detail, "code": code}
    return Response(msgspec.json.encode(body), status_code=status, media_type="application/problem+json")


def cut_off() -> Stream:
    """An answer that breaks off in its middle."""

    async def pieces() -> AsyncIterator[bytes]:
        yield b'{"status":'
        raise CutError

    return Stream(pieces(), media_type="application/json", status_code=200)


def closing(response: Response[Any]) -> Response[Any]:
    """The answer, after which the server closes whatever is still on its way."""
    response.headers["connection"] = "close"
    return response


def file_name(received: Received) -> str:
    return unquote(received.headers["x-filename"])
