"""`Client` for asyncio: the same questions, carried with `await`."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Self, TypeVar

import httpx

from contracts.detections import Detection
from contracts.events import DetectionEvent
from detections import calls
from detections.answers import (
    DEFAULT_URL,
    ClientError,
    Health,
    ServiceError,
    Started,
    Task,
    UnreachableError,
)
from detections.callers_trace import carry_trace_too
from detections.calls import Call, mapped
from detections.following import Following, OnGap
from detections.sending import send_in_thread
from detections.uploading import Config, OnProgress, Upload

_Answer = TypeVar("_Answer")


class AsyncClient:
    """`Client` for asyncio; the methods say what they do there."""

    def __init__(self, url: str = DEFAULT_URL, *, token: str | None = None, refresh_token: str | None = None) -> None:
        self.url = calls.address(url)
        self._headers = calls.authorization(token, refresh_token)
        hooks = {"request": [carry_trace_too]}
        self._http = httpx.AsyncClient(base_url=self.url, headers=self._headers, event_hooks=hooks, trust_env=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    async def health(self) -> Health:
        return await self._answer(calls.health())

    async def check_ready(self) -> None:
        await self._answer(calls.readiness())

    async def check_live(self) -> None:
        await self._answer(calls.liveness())

    async def detect(
        self, image: Path | str | bytes, *, config: Config | None = None, name: str | None = None
    ) -> list[Detection]:
        picture = await asyncio.to_thread(calls.read_picture, image, name=name, config=config)
        return await self._answer(calls.detect(), files={"file": (picture.name, picture.content)}, data=picture.fields)

    async def submit(
        self,
        file: Path | str | BinaryIO,
        *,
        config: Config | None = None,
        name: str | None = None,
        task_id: str | None = None,
        on_progress: OnProgress | None = None,
        bytes_per_s_max: float | None = None,
    ) -> Started:
        upload = Upload(file, name=name, task_id=task_id, config=config, bytes_per_s_max=bytes_per_s_max)
        return await send_in_thread(self.url, upload, on_progress, headers=self._headers)

    async def find_shots(
        self,
        file: Path | str | BinaryIO,
        *,
        config: Config | None = None,
        name: str | None = None,
        task_id: str | None = None,
        on_progress: OnProgress | None = None,
        bytes_per_s_max: float | None = None,
    ) -> Started:
        upload = Upload(
            file, name=name, task_id=task_id, config=config, bytes_per_s_max=bytes_per_s_max, is_for_shots=True
        )
        return await send_in_thread(self.url, upload, on_progress, headers=self._headers)

    async def task(self, task_id: str) -> Task:
        return await self._answer(calls.task(task_id))

    async def results(self, task_id: str) -> list[DetectionEvent]:
        return await self._answer(calls.results(task_id))

    async def cancel(self, task_id: str) -> None:
        await self._answer(calls.cancel(task_id))

    async def retry(self, task_id: str) -> Started:
        return await self._answer(calls.retry(task_id))

    async def events(
        self,
        task_id: str | None = None,
        *,
        media_id: str | None = None,
        last_event_id: str = "",
        on_gap: OnGap | None = None,
    ) -> AsyncGenerator[DetectionEvent, None]:
        following = Following(task_id=task_id, media_id=media_id, last_event_id=last_event_id, on_gap=on_gap)
        async with contextlib.aclosing(self._batches(following)) as batches:
            async for batch in batches:
                for event in batch:
                    yield event

    @contextlib.asynccontextmanager
    async def listen(self, task_id: str | None = None) -> AsyncGenerator[AsyncIterator[DetectionEvent], None]:
        following = Following(task_id=task_id, must_exist=False)
        async with contextlib.aclosing(self._batches(following)) as batches:
            first = await anext(batches, [])
            yield _flattened(first, batches)

    async def _batches(self, following: Following) -> AsyncGenerator[list[DetectionEvent], None]:
        while not following.is_over:
            error: ClientError | None = None
            try:
                async with contextlib.aclosing(self._connection(following)) as batches:
                    async for batch in batches:
                        yield batch
            except ClientError as caught:
                error = caught
            if not following.is_over:
                await asyncio.sleep(following.delay_s(error))

    async def _connection(self, following: Following) -> AsyncGenerator[list[DetectionEvent], None]:
        with mapped(self.url):
            async with self._http.stream(
                "GET",
                calls.STREAM,
                params=following.params(),
                headers=following.headers(),
                timeout=calls.timeout(calls.HEARTBEAT_TIMEOUT_S),
            ) as response:
                if not response.is_success:
                    await response.aread()
                calls.check_stream(response)
                async for chunk in response.aiter_bytes():
                    following.receive(chunk)
                    yield following.take()
                    while following.wants_stored and following.task_id:
                        await self._restore(following, following.task_id)
                        yield following.take()
                    if following.is_over:
                        return

    async def _restore(self, following: Following, task_id: str) -> None:
        try:
            task = await self.task(task_id)
        except ServiceError as error:
            following.begin_without(error)
        else:
            following.restore(task, await self.results(task_id))

    async def _answer(self, call: Call[_Answer], **body: Any) -> _Answer:
        for _ in range(call.tries_max - 1):
            with contextlib.suppress(UnreachableError):
                return await self._answer_once(call, body)
            await asyncio.sleep(calls.RETRY_DELAY_S)
        return await self._answer_once(call, body)

    async def _answer_once(self, call: Call[_Answer], body: Mapping[str, Any]) -> _Answer:
        wait = calls.timeout(call.read_timeout_s)
        with mapped(self.url):
            response = await self._http.request(call.method, call.path, headers=call.headers, timeout=wait, **body)
        return call.answer(response)


async def _flattened(
    first: list[DetectionEvent], batches: AsyncIterator[list[DetectionEvent]]
) -> AsyncIterator[DetectionEvent]:
    for event in first:
        yield event
    async for batch in batches:
        for event in batch:
            yield event
