"""The service from Python: `Client`, and the same for asyncio, `AsyncClient`.

What is asked and how answers are read lies in `calls`, how an upload goes in `uploading` and `sending`, how a listener
resumes in `following`. Here is only the carrying, and in `async_client` the same with `await`; httpx does the sockets.

    client = Client("http://127.0.0.1:8000")
    started = client.submit("clip.mp4")
    for event in client.events(started.task_id):
        print(event.video_time, event.annotations)
"""

import contextlib
import itertools
import time
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Self, TypeVar

import httpx

from contracts.detections import Detection
from contracts.events import DetectionEvent
from detections import calls
from detections.answers import (
    DEFAULT_URL,
    ClientError,
    ConsumerHealth,
    Health,
    ServiceError,
    Started,
    Task,
    TaskStatus,
    UnreachableError,
    UnusableError,
)
from detections.async_client import AsyncClient
from detections.callers_trace import carry_trace
from detections.calls import Call, mapped
from detections.following import Following, OnGap
from detections.sending import send
from detections.uploading import Config, OnProgress, Progress, Upload

__all__ = [
    "AsyncClient",
    "Client",
    "ClientError",
    "ConsumerHealth",
    "Health",
    "Progress",
    "ServiceError",
    "Started",
    "Task",
    "TaskStatus",
    "UnreachableError",
    "UnusableError",
]

_Answer = TypeVar("_Answer")


class Client:
    """One edge, or a balancer before several. Every method raises `ServiceError` or `UnreachableError`."""

    def __init__(self, url: str = DEFAULT_URL, *, token: str | None = None, refresh_token: str | None = None) -> None:
        """token: the bearer token of an edge that asks who calls, or that tells an Annotations service in our name.

        refresh_token: what the edge gets another one for, should the first expire before all is told.
        Raises `UnusableError` for one that can be none, and for a URL that can be none.
        """
        self.url = calls.address(url)
        headers = calls.authorization(token, refresh_token)
        hooks = {"request": [carry_trace]}
        self._http = httpx.Client(base_url=self.url, headers=headers, event_hooks=hooks, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def health(self) -> Health:
        """What the consumers say of themselves."""
        return self._answer(calls.health())

    def check_ready(self) -> None:
        """Raises `ServiceError` with the reason while the edge could not do any work."""
        self._answer(calls.readiness())

    def check_live(self) -> None:
        """Raises `UnreachableError` while there is no edge."""
        self._answer(calls.liveness())

    def detect(
        self, image: Path | str | bytes, *, config: Config | None = None, name: str | None = None
    ) -> list[Detection]:
        """The objects in one image; returns when they are known. Raises `OSError` if the file cannot be read."""
        picture = calls.read_picture(image, name=name, config=config)
        return self._answer(calls.detect(), files={"file": (picture.name, picture.content)}, data=picture.fields)

    def submit(
        self,
        file: Path | str | BinaryIO,
        *,
        config: Config | None = None,
        name: str | None = None,
        task_id: str | None = None,
        on_progress: OnProgress | None = None,
        bytes_per_s_max: float | None = None,
    ) -> Started:
        """Stream a video; detections flow while it is sent (`listen` before, with the same `task_id`).

        Returns when the edge has all of it. Raises `OSError` if the file cannot be read.
        """
        with Upload(file, name=name, task_id=task_id, config=config, bytes_per_s_max=bytes_per_s_max) as upload:
            return send(self._http, self.url, upload, on_progress)

    def find_shots(
        self,
        file: Path | str | BinaryIO,
        *,
        config: Config | None = None,
        name: str | None = None,
        task_id: str | None = None,
        on_progress: OnProgress | None = None,
        bytes_per_s_max: float | None = None,
    ) -> Started:
        """As `submit`, to find the video's shots and not its objects; for both, `submit` it with `shots` in the config."""
        with Upload(
            file, name=name, task_id=task_id, config=config, bytes_per_s_max=bytes_per_s_max, is_for_shots=True
        ) as upload:
            return send(self._http, self.url, upload, on_progress)

    def task(self, task_id: str) -> Task:
        """Where a task stands."""
        return self._answer(calls.task(task_id))

    def results(self, task_id: str) -> list[DetectionEvent]:
        """The task's reports so far, in order."""
        return self._answer(calls.results(task_id))

    def cancel(self, task_id: str) -> None:
        """Stop a task; what it reported stays."""
        self._answer(calls.cancel(task_id))

    def retry(self, task_id: str) -> Started:
        """Do a failed task again, as another task; asked for again, it is the same one."""
        return self._answer(calls.retry(task_id))

    def events(
        self,
        task_id: str | None = None,
        *,
        media_id: str | None = None,
        last_event_id: str = "",
        on_gap: OnGap | None = None,
    ) -> Iterator[DetectionEvent]:
        """Events as they come, over broken connections. Of a task: all of its reports, however late, up to its end.

        on_gap: called when events are lost for good (never with a task).
        """
        for batch in self._batches(
            Following(task_id=task_id, media_id=media_id, last_event_id=last_event_id, on_gap=on_gap)
        ):
            yield from batch

    @contextlib.contextmanager
    def listen(self, task_id: str | None = None) -> Generator[Iterator[DetectionEvent], None, None]:
        """The same, listening when it returns, so that nothing is missed of a task submitted afterwards."""
        batches = self._batches(Following(task_id=task_id, must_exist=False))
        with contextlib.closing(batches):
            first = next(batches, [])
            yield itertools.chain.from_iterable(itertools.chain([first], batches))

    def _batches(self, following: Following) -> Generator[list[DetectionEvent], None, None]:
        """What each piece of the stream brought; the first comes as soon as the edge listens for us."""
        while not following.is_over:
            error: ClientError | None = None
            try:
                yield from self._connection(following)
            except ClientError as caught:
                error = caught
            if not following.is_over:
                time.sleep(following.delay_s(error))

    def _connection(self, following: Following) -> Generator[list[DetectionEvent], None, None]:
        with (
            mapped(self.url),
            self._http.stream(
                "GET",
                calls.STREAM,
                params=following.params(),
                headers=following.headers(),
                timeout=calls.timeout(calls.HEARTBEAT_TIMEOUT_S),
            ) as response,
        ):
            if not response.is_success:
                response.read()
            calls.check_stream(response)
            for chunk in response.iter_bytes():
                following.receive(chunk)
                yield following.take()
                while following.wants_stored and following.task_id:
                    self._restore(following, following.task_id)
                    yield following.take()
                if following.is_over:
                    return

    def _restore(self, following: Following, task_id: str) -> None:
        try:
            task = self.task(task_id)
        except ServiceError as error:
            following.begin_without(error)
        else:
            following.restore(task, self.results(task_id))

    def _answer(self, call: Call[_Answer], **body: Any) -> _Answer:
        for _ in range(call.tries_max - 1):
            with contextlib.suppress(UnreachableError):
                return self._answer_once(call, body)
            time.sleep(calls.RETRY_DELAY_S)
        return self._answer_once(call, body)

    def _answer_once(self, call: Call[_Answer], body: Mapping[str, Any]) -> _Answer:
        wait = calls.timeout(call.read_timeout_s)
        with mapped(self.url):
            response = self._http.request(call.method, call.path, headers=call.headers, timeout=wait, **body)
        return call.answer(response)
