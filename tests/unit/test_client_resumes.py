"""The client against the upload half of a real edge, over a line that breaks: it goes on by itself."""

import asyncio
import contextlib
import io
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import uvicorn

from contracts.events import TaskEnded
from contracts.storage import MediaRecord, read_record
from detections import Client
from detections.answers import ServiceError, UnreachableError
from detections.rabbitmq import free_port
from detections.resuming import GIVE_UP_AFTER_S, Interrupted, Patience
from detections.sending import send
from detections.uploading import Progress, Upload
from tests.cutting import Line, line_to
from tests.edge_app import Edge, running_edge
from tests.processes import wait_until

CONTENT = bytes(range(251)) * 12_000
FTYP = (16).to_bytes(4, "big") + b"ftypisom\0\0\0\0"
MDAT = (2_000_008).to_bytes(4, "big") + b"mdat" + b"video..." * 250_000
MOOV = (300_008).to_bytes(4, "big") + b"moov" + b"index..." * 37_500
TAIL_FIRST = FTYP + MDAT + MOOV


@asynccontextmanager
async def edge_behind_a_line(root: Path, **limits: Any) -> AsyncGenerator[tuple[Edge, Line]]:
    async with running_edge(root, **limits) as edge:
        config = uvicorn.Config(edge.app, port=0, loop="none", http="httptools", lifespan="off", log_config=None)
        server = uvicorn.Server(config)
        server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign]
        serve = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        async with line_to(server.servers[0].sockets[0].getsockname()[1]) as line:
            yield edge, line
        server.should_exit = server.force_exit = True
        await serve


def video(folder: Path, content: bytes) -> Path:
    path = folder / "clip.mp4"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("content", [CONTENT, TAIL_FIRST], ids=["in order", "tail first"])
async def test_an_upload_that_is_cut_three_times_arrives_once(tmp_path: Path, content: bytes) -> None:
    task_id = str(uuid4())
    told: list[Progress] = []
    async with edge_behind_a_line(tmp_path / "storage") as (edge, line):
        line.cut_after = [150_000, 700_000, 400_000]
        with Client(f"http://127.0.0.1:{line.port}") as client:
            started = await asyncio.to_thread(
                client.submit, video(tmp_path, content), task_id=task_id, on_progress=told.append
            )

        assert line.cuts == 3
        assert started.task_id == task_id
        assert edge.layout.source(started.media_id).read_bytes() == content
        assert {command.task_id for command in edge.outbox.commands} == {task_id}
        assert told[-1] == Progress(sent_bytes=len(content), total_bytes=len(content))


async def test_an_open_file_that_can_be_read_again_is_resumed_too(tmp_path: Path) -> None:
    async with edge_behind_a_line(tmp_path) as (edge, line):
        line.cut_after = [700_000]
        file = io.BytesIO(b"read before" + CONTENT)
        file.read(11)
        with Client(f"http://127.0.0.1:{line.port}") as client:
            started = await asyncio.to_thread(client.submit, file, name="camera.ts")

        record = read_record(edge.layout.media_record(started.media_id), MediaRecord)
        assert record is not None
        assert edge.layout.source(started.media_id).read_bytes() == CONTENT


async def test_an_answer_that_is_lost_is_found_in_the_task(tmp_path: Path) -> None:
    async with edge_behind_a_line(tmp_path / "storage") as (edge, line):
        path = video(tmp_path, CONTENT)
        edge.outbox.is_away = True  # the answer waits for the broker, while everything is at the edge
        with Client(f"http://127.0.0.1:{line.port}") as client:
            submitting = asyncio.create_task(asyncio.to_thread(client.submit, path))
            while not list((tmp_path / "storage" / "media").glob("[!.]*")):
                await asyncio.sleep(0.01)
            line.break_all()
            edge.outbox.is_away = False
            started = await submitting

        assert edge.layout.source(started.media_id).read_bytes() == CONTENT


async def test_a_whole_upload_whose_broker_is_away_is_not_sent_again(tmp_path: Path) -> None:
    async with edge_behind_a_line(tmp_path / "storage", confirm_wait_s=0.1) as (edge, line):
        edge.outbox.is_away = True
        with (
            Client(f"http://127.0.0.1:{line.port}") as client,
            pytest.raises(ServiceError, match="broker_unavailable"),
        ):
            await asyncio.to_thread(client.submit, video(tmp_path, CONTENT))


async def test_an_upload_that_is_given_up_on_purpose_does_not_leave_its_task_waiting(tmp_path: Path) -> None:
    task_id = str(uuid4())
    path = video(tmp_path, CONTENT)

    async with edge_behind_a_line(tmp_path / "storage") as (edge, line):

        def shrink(progress: Progress) -> None:
            if progress.sent_bytes > 1_000_000:
                wait_until(lambda: edge.outbox.commands, timeout_s=30)
                path.write_bytes(b"")

        with Client(f"http://127.0.0.1:{line.port}") as client, pytest.raises(OSError, match="got shorter"):
            await asyncio.to_thread(client.submit, path, task_id=task_id, on_progress=shrink)

        end = read_record(edge.layout.end(task_id), TaskEnded)
        assert end is not None
        assert end.is_cancelled


class LosesWhatItRead(httpx.BaseTransport):
    """An edge that was reset before it read a byte of the body, and then is away when it is gone on with."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.method)
        match self.asked.count(request.method), request.method:
            case _, "POST":
                request.read()
                raise httpx.ReadError("reset")
            case _, "HEAD":
                return httpx.Response(204, headers={"upload-offset": "0", "upload-complete": "?0"})
            case 1, _:
                raise httpx.ConnectError("refused")
            case _:
                request.read()
                return httpx.Response(202, json={"status": "started", "taskId": "t", "mediaId": "m"})


def test_an_upload_of_which_the_edge_has_nothing_yet_is_tried_as_patiently(tmp_path: Path) -> None:
    transport = LosesWhatItRead()
    with (
        Upload(video(tmp_path, CONTENT)) as upload,
        httpx.Client(transport=transport, base_url="http://edge") as http,
    ):
        assert send(http, "http://edge", upload, None).media_id == "m"
    assert transport.asked == ["POST", "HEAD", "PATCH", "HEAD", "PATCH"]


class TakesOverLate(httpx.BaseTransport):
    """A balancer that takes the first connection for an edge that has just gone, and has another one afterwards."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.method)
        if self.asked == ["POST"]:
            assert isinstance(request.stream, httpx.SyncByteStream)
            next(iter(request.stream))
            raise httpx.RemoteProtocolError("Server disconnected without sending a response.")
        if request.method != "POST":
            return httpx.Response(404)
        request.read()
        return httpx.Response(202, json={"status": "started", "taskId": "t", "mediaId": "m"})


def test_a_line_that_breaks_under_the_first_bytes_is_tried_again(tmp_path: Path) -> None:
    transport = TakesOverLate()
    with (
        Upload(video(tmp_path, CONTENT)) as upload,
        httpx.Client(transport=transport, base_url="http://edge") as http,
    ):
        assert send(http, "http://edge", upload, None).media_id == "m"
    assert transport.asked == ["POST", "HEAD", "GET", "POST"]


def test_a_token_that_expired_meanwhile_is_said_and_not_the_broken_line(tmp_path: Path) -> None:
    def edge(request: httpx.Request) -> httpx.Response:
        if request.method != "POST":
            return httpx.Response(401)
        request.read()
        raise httpx.ReadError("reset")

    with (
        Upload(video(tmp_path, CONTENT)) as upload,
        httpx.Client(transport=httpx.MockTransport(edge), base_url="http://edge") as http,
        pytest.raises(ServiceError) as refused,
    ):
        send(http, "http://edge", upload, None)
    assert refused.value.status == 401


def test_an_edge_that_was_never_there_is_said_at_once(tmp_path: Path) -> None:
    with Client(f"http://127.0.0.1:{free_port()}") as client, pytest.raises(UnreachableError):
        client.submit(video(tmp_path, b"content"))


def test_patience_grows_ends_and_begins_anew_with_every_byte() -> None:
    now_s = 0.0
    patience = Patience(clock_s=lambda: now_s)
    error = UnreachableError("http://edge", "gone")
    broken = Interrupted(error)

    delays = [patience.delay_s(broken) for _ in range(12)]
    assert 0.1 <= delays[0] <= 0.2
    assert 2.5 <= delays[-1] <= 5.0
    assert patience.delay_s(Interrupted(error, asked_s=7.0)) == 7.0
    now_s = GIVE_UP_AFTER_S + 1
    patience.stands_at(0)
    with pytest.raises(UnreachableError):
        patience.delay_s(broken)
    patience.stands_at(1)
    assert patience.delay_s(broken) <= 0.2
