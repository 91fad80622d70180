"""`POST /detect/video`: everything that may be wrong with an upload, before and in the middle of its body."""

import asyncio
import errno
import os
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from contracts.commands import AnyCommand
from contracts.events import TaskEnded
from contracts.failures import FailureCode, FailureRecord
from contracts.media import MediumKind
from contracts.storage import ExtentState, Lease, create_record, read_extent, read_record
from edge.growing_body import GrowingBody, UploadPlan
from edge.sniffing import kind_by_content
from edge.upload import WAITING_BYTES_MAX, Inflow
from tests.edge_app import WAIT_S, Answer, Edge, names_in, running_edge, until

NAME = {"X-Filename": "clip.mp4"}


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 400, "malformed_request"),
        ({"X-Filename": ""}, 400, "malformed_request"),
        ({"X-Filename": "a%00b.mp4"}, 400, "malformed_request"),
        ({"X-Filename": "a%0Ab.mp4"}, 400, "malformed_request"),
        ({"X-Filename": "x" * 5000 + ".mp4"}, 400, "malformed_request"),
        ({"X-Filename": "%FF.mp4"}, 400, "malformed_request"),
        ({"X-Filename": "a.txt"}, 400, "unsupported_media"),
        ({"X-Filename": "a.jpg"}, 400, "unsupported_media"),
        ({"X-Filename": "mp4"}, 400, "unsupported_media"),
        (NAME | {"X-Config": "{"}, 400, "malformed_options"),
        (NAME | {"X-Config": '{"frame_period_recognition": 0}'}, 422, "options_out_of_range"),
        (NAME | {"X-Task-Id": "x"}, 400, "malformed_request"),
        (NAME | {"X-Task-Id": "../../etc"}, 400, "malformed_request"),
        (NAME | {"X-Task-Id": str(uuid4()).upper()}, 400, "malformed_request"),
        (NAME | {"X-Config": "{}", "x-config": '{"tiling": "off"}'}, 400, "malformed_request"),
        (NAME | {"Upload-Complete": "?0", "upload-complete": "?1"}, 400, "malformed_request"),
        (NAME | {"X-Tail-Bytes": "10", "Transfer-Encoding": "chunked"}, 411, "length_required"),
        *(
            (NAME | {"X-Tail-Bytes": tail, "Content-Length": "100"}, 400, "malformed_request")
            for tail in ("0", "-1", "100", "x", "1e3", "٣", str(65 * 1024 * 1024))
        ),
        (NAME | {"Content-Type": "multipart/form-data; boundary=b"}, 415, "unsupported_content_type"),
        (NAME | {"Content-Length": "0"}, 400, "empty_media"),
        (NAME | {"Content-Length": "1000001"}, 413, "too_large"),
        (NAME | {"Content-Length": "100, 100"}, 400, "malformed_request"),
    ],
)
async def test_what_is_wrong_with_the_headers_is_said_before_the_body_is_read(
    tmp_path: Path, headers: dict[str, str], status: int, code: str
) -> None:
    async with running_edge(tmp_path, upload_bytes_max=1_000_000) as edge:
        headers = {name: value.encode("utf-8").decode("latin-1") for name, value in headers.items()}
        answer = await edge.request("POST", "/detect/video", headers=headers).answer()  # without a body

        assert (answer.status, answer.json()["code"]) == (status, code), answer.body
        assert answer.headers["connection"] == "close"
        assert answer.json()["instance"] == "/detect/video"
        assert names_in(tmp_path / "uploads") == []


@pytest.mark.parametrize("name", ["..%2F..%2Fetc%2Fx.mp4", "%2Fetc%2Fx.mp4", "C%3A%5Cx.mp4", "%C3%BC.mp4", "ü.mp4"])
async def test_a_name_that_would_be_a_path_is_only_data(tmp_path: Path, name: str) -> None:
    async with running_edge(tmp_path) as edge:
        headers = {"X-Filename": name.encode("utf-8").decode("latin-1")}
        answer = await edge.send("POST", "/detect/video", b"content", headers=headers)
        assert answer.status == 202
        record = edge.parts.tasks.record(answer.json()["taskId"])
        assert record.command.medium.path == f"uploads/{record.task_id}/body"
        assert record.command.medium.name is not None
        assert record.command.medium.name.endswith(".mp4")


async def test_a_chunked_body_without_a_byte_is_empty(tmp_path: Path) -> None:
    async with running_edge(tmp_path) as edge:
        answer = await edge.send("POST", "/detect/video", headers=NAME | {"Transfer-Encoding": "chunked"})
        assert (answer.status, answer.json()["code"]) == (400, "empty_media")
        assert names_in(tmp_path / "uploads") == []
        assert edge.outbox.commands == []


@pytest.mark.parametrize(("sent", "announced"), [(b"abc", "5"), (b"abcdefg", "5")])
async def test_a_body_that_is_not_as_long_as_announced_fails_with_its_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sent: bytes, announced: str
) -> None:
    monkeypatch.setattr("edge.announce.LEASE_WAIT_S", 0.0)
    task_id = str(uuid4())
    async with running_edge(tmp_path) as edge:
        headers = NAME | {"X-Task-Id": task_id, "Content-Length": announced}
        call = edge.request("POST", "/detect/video", headers=headers)
        call.send(sent[:2])
        await until(lambda: edge.outbox.commands)
        call.send(sent[2:])
        call.end()
        answer = await call.answer()
        await edge.parts.background.settle()

        assert (answer.status, answer.json()["code"]) == (400, "length_mismatch")
        assert await failure_of(edge, task_id) == "length_mismatch"
        assert read_extent(edge.layout.extent(task_id)).state is ExtentState.ABORTED
        reason = read_record(edge.layout.abort(task_id), FailureRecord)
        assert reason is not None
        assert reason.code is FailureCode.LENGTH_MISMATCH


async def test_a_client_that_falls_silent_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.announce.LEASE_WAIT_S", 0.0)
    task_id = str(uuid4())
    async with running_edge(tmp_path, upload_idle_s=1.0) as edge:  # time for its task to be there
        call = edge.request("POST", "/detect/video", headers=NAME | {"X-Task-Id": task_id})
        call.send(b"some")
        answer = await call.answer()
        await edge.parts.background.settle()
        assert (answer.status, answer.json()["code"]) == (408, "upload_stalled")
        assert await failure_of(edge, task_id) == "upload_stalled"


async def test_an_upload_that_breaks_off_while_its_task_is_written_down_ends_that_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.announce.LEASE_WAIT_S", 0.0)
    task_id, writes, may_write = str(uuid4()), threading.Event(), threading.Event()
    async with running_edge(tmp_path) as edge:
        create = edge.parts.tasks.create

        def create_slowly(command: AnyCommand) -> None:
            writes.set()
            may_write.wait(WAIT_S)
            create(command)

        monkeypatch.setattr(edge.parts.tasks, "create", create_slowly)
        call = edge.request("POST", "/detect/video", headers=NAME | {"X-Task-Id": task_id})
        call.send(b"some")
        await asyncio.to_thread(writes.wait, WAIT_S)
        call.disconnect()
        answer = asyncio.create_task(call.answer())
        await asyncio.wait((answer,), timeout=0.2)  # it must not be over before the task is there
        may_write.set()
        await answer
        await edge.parts.background.settle()

        assert await failure_of(edge, task_id) == "upload_aborted"


async def test_a_body_that_grows_beyond_what_is_allowed_is_cut_off(tmp_path: Path) -> None:
    async with running_edge(tmp_path, upload_bytes_max=1000) as edge:
        call = edge.request("POST", "/detect/video", headers=NAME | {"Transfer-Encoding": "chunked"})
        call.send(bytes(1001))
        assert (await call.answer()).status == 413


async def test_a_disk_that_fills_up_in_the_middle_is_said_and_ends_the_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.announce.LEASE_WAIT_S", 0.0)
    task_id = str(uuid4())
    async with running_edge(tmp_path) as edge:
        answer = await cut_off_by_a_full_disk(edge, {"X-Task-Id": task_id})
        assert (answer.status, answer.json()["code"]) == (507, "storage_full")
        assert await failure_of(edge, task_id) == "storage_full"


async def test_a_disk_without_room_for_the_reason_still_ends_the_upload(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, record: object) -> bool:
        if path.name == "abort":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return create_record(path, record)

    monkeypatch.setattr("edge.announce.LEASE_WAIT_S", 0.0)
    monkeypatch.setattr("edge.task_store.create_record", full)
    task_id = str(uuid4())
    async with running_edge(tmp_path) as edge:
        answer = await cut_off_by_a_full_disk(edge, {"X-Task-Id": task_id, "Upload-Complete": "?1"})

        assert (answer.status, answer.json()["code"]) == (507, "storage_full")
        assert read_extent(edge.layout.extent(task_id)).state is ExtentState.ABORTED
        asked = await edge.send("HEAD", f"/uploads/{task_id}", headers={"transfer-encoding": "none"})
        assert asked.status == 410  # nobody holds its lock any more


async def test_a_client_with_as_many_uploads_as_it_may_have_waits_and_others_do_not(tmp_path: Path) -> None:
    async with running_edge(tmp_path, uploads_per_client_max=1) as edge:
        first = edge.request("POST", "/detect/video", headers=NAME)
        first.send(b"some")
        await until(lambda: edge.outbox.commands)
        refused = await edge.send("POST", "/detect/video", b"more", headers=NAME)
        other = edge.request("POST", "/detect/video", headers=NAME, address="127.0.0.2")
        other.send(b"more")
        other.end()
        first.end()

        assert (refused.status, refused.json()["code"], refused.headers["retry-after"]) == (
            429,
            "too_many_requests",
            "5",
        )
        assert [(await call.answer()).status for call in (first, other)] == [202, 202]
        assert (await edge.send("POST", "/detect/video", b"again", headers=NAME)).status == 202


async def test_an_upload_that_would_not_fit_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.intake.ATTEND_S", 3600.0)  # the look at the disk during the upload comes too late
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    async with running_edge(tmp_path, free_bytes_min=free) as edge:
        call = edge.request("POST", "/detect/video", headers=NAME | {"Content-Length": str(10**9)})
        assert (await call.answer()).status == 507


async def test_a_task_that_is_held_is_left_to_its_holder_when_the_client_goes_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.announce.LEASE_WAIT_S", 0.0)
    task_id = str(uuid4())
    async with running_edge(tmp_path) as edge:
        call = edge.request("POST", "/detect/video", headers=NAME | {"X-Task-Id": task_id})
        call.send(b"some")
        await until(lambda: edge.outbox.commands)
        lease = Lease(owner="c", epoch=1, heartbeat_at=edge.parts.tasks.record(task_id).created_at)
        create_record(edge.layout.lease(task_id), lease)
        call.disconnect()
        await call.answer()
        await edge.parts.background.settle()
        assert read_extent(edge.layout.extent(task_id)).state is ExtentState.ABORTED
        assert not edge.layout.end(task_id).exists()


async def test_a_client_that_goes_away_before_its_first_byte_leaves_nothing(tmp_path: Path) -> None:
    task_id = str(uuid4())
    async with running_edge(tmp_path) as edge:
        call = edge.request("POST", "/detect/video", headers=NAME | {"X-Task-Id": task_id})
        call.disconnect()
        await call.answer()
        assert names_in(tmp_path / "uploads") == []
        again = await edge.send("POST", "/detect/video", b"content", headers=NAME | {"X-Task-Id": task_id})
        assert again.status == 202


async def test_an_end_that_the_feed_did_not_tell_is_found_in_the_storage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.intake.ATTEND_S", 0.005)
    task_id = str(uuid4())
    async with running_edge(tmp_path) as edge:
        call = edge.request("POST", "/detect/video", headers=NAME | {"X-Task-Id": task_id})
        call.send(b"some")
        await until(lambda: edge.outbox.commands)
        failure = FailureRecord(code=FailureCode.CANCELLED, detail="by a client")
        create_record(
            edge.layout.end(task_id), TaskEnded(task_id=task_id, media_id=task_id, sequence=1, failure=failure)
        )
        answer = await call.answer()
        assert (answer.status, answer.json()["code"]) == (422, "cancelled")


async def test_an_idle_upload_shows_that_it_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.intake.ATTEND_S", 0.005)
    task_id = str(uuid4())
    async with running_edge(tmp_path) as edge:
        call = edge.request("POST", "/detect/video", headers=NAME | {"X-Task-Id": task_id})
        call.send(b"some")
        await until(lambda: edge.outbox.commands)
        before = read_extent(edge.layout.extent(task_id))
        await until(lambda: read_extent(edge.layout.extent(task_id)).heartbeat_s > before.heartbeat_s)
        call.end()
        assert (await call.answer()).status == 202


async def test_an_upload_shows_that_it_lives_while_the_disk_is_busy_with_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.intake.ATTEND_S", 0.005)
    syncs, may_sync = threading.Event(), threading.Event()

    def sync_slowly(_: int) -> None:
        syncs.set()
        may_sync.wait(WAIT_S)

    task_id = str(uuid4())
    async with running_edge(tmp_path, disk_threads=1) as edge:
        call = edge.request("POST", "/detect/video", headers=NAME | {"X-Task-Id": task_id})
        call.send(b"some")
        await until(lambda: edge.outbox.commands)
        with monkeypatch.context() as slow:
            slow.setattr("os.fsync", sync_slowly)
            other = asyncio.create_task(edge.send("POST", "/detect/video", b"other", headers=NAME))
            await until(syncs.is_set)
            before = read_extent(edge.layout.extent(task_id))
            try:
                await until(lambda: read_extent(edge.layout.extent(task_id)).heartbeat_s > before.heartbeat_s + 0.1)
            finally:
                may_sync.set()
        call.end()
        assert [(await call.answer()).status, (await other).status] == [202, 202]


async def test_an_edge_that_is_stopped_aborts_what_it_was_receiving(tmp_path: Path) -> None:
    task_id = str(uuid4())
    async with running_edge(tmp_path) as edge:
        call = edge.request("POST", "/detect/video", headers=NAME | {"X-Task-Id": task_id})
        call.send(b"some")
        await until(lambda: edge.outbox.commands)
        call.cut()
    # the edge has ended: it waited for its requests to clean up
    assert read_extent(edge.layout.extent(task_id)).state is ExtentState.ABORTED
    assert edge.layout.abort(task_id).exists()


async def test_a_socket_that_is_faster_than_the_disk_is_made_to_wait(tmp_path: Path) -> None:
    inflow = Inflow(GrowingBody(tmp_path, UploadPlan()))  # nobody drains it
    for _ in range(WAITING_BYTES_MAX // 65_536):
        await asyncio.wait_for(inflow.put(bytes(65_536)), 60)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(inflow.put(b"x"), 0.05)


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"\x00\x00\x00\x18ftypisom", MediumKind.VIDEO),
        (b"\x00\x00\x00\x18mdatxxxx", MediumKind.VIDEO),
        (b"\x1aE\xdf\xa3\x01", MediumKind.VIDEO),
        (b"RIFF\x00\x00\x00\x00AVI LIST", MediumKind.VIDEO),
        (b"FLV\x01\x05", MediumKind.VIDEO),
        ((b"\x47" + bytes(187)) * 4, MediumKind.VIDEO),
        (bytes(50) + (b"\x47" + bytes(187)) * 4, MediumKind.VIDEO),
        ((bytes(4) + b"\x47" + bytes(187)) * 4, MediumKind.VIDEO),
        (b"\x00\x00\x01\xba\x44", MediumKind.VIDEO),
        (b"\xff\xd8\xff\xe0", MediumKind.IMAGE),
        (b"\x89PNG\r\n\x1a\n", MediumKind.IMAGE),
        (b"BM", MediumKind.IMAGE),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", MediumKind.IMAGE),
        (b"II*\x00", MediumKind.IMAGE),
        (b"MM\x00*", MediumKind.IMAGE),
        (b"", None),
        (b"G", None),
        (b"GIF89a", None),
        (b"\x00\x00\x00\x20ftypavif\x00\x00", None),
        (b"\x00\x00\x00\x24ftypheic\x00\x00", None),
        (b"<svg xmlns=", None),
        (b"#EXTM3U\n", None),
        (b"RIFF\x00\x00\x00\x00WAVE", None),
        (bytes(1024), None),
        (b"\x47" * 300, None),
    ],
)
def test_the_first_bytes_tell_the_kind(head: bytes, kind: MediumKind | None) -> None:
    assert kind_by_content(head) is kind


async def cut_off_by_a_full_disk(edge: Edge, headers: dict[str, str]) -> Answer:
    """What an upload is told for which there is no room any more after its first bytes."""
    call = edge.request("POST", "/detect/video", headers=NAME | headers)
    call.send(b"some")
    await until(lambda: edge.outbox.commands)
    with files_of_at_most(64 * 1024):
        call.send(bytes(128 * 1024))
        answer = await call.answer()
    await edge.parts.background.settle()
    return answer


async def failure_of(edge: Edge, task_id: str) -> str:
    view = (await edge.send("GET", f"/tasks/{task_id}")).json()
    assert view["status"] == "Failed"
    return view["error"]["code"]


@contextmanager
def files_of_at_most(size_bytes: int) -> Iterator[None]:
    """The kernel refuses to make a file longer, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
