"""A lost connection does not end a resumable upload: `HEAD` and `PATCH /uploads/{id}`, and one task over all of it."""

import asyncio
import errno
import os
import threading
from pathlib import Path
from uuid import uuid4

import pytest

from contracts.commands import AnyCommand
from contracts.events import TaskEnded
from contracts.failures import FailureCode
from contracts.storage import Extent, ExtentState, MediaRecord, read_extent, read_record
from edge.auth import Auth
from edge.growing_body import GrowingBody, UploadPlan
from edge.jwts import Expected, SharedKey, Verifier
from edge.resumable import ResumableUploads
from tests.edge_app import WAIT_S, Answer, Edge, names_in, running_edge, until
from tests.signing import SHARED_KEY, bearer

BODY = bytes(range(251)) * 40
CONTENT = BODY[:10_000]
HASH = "0b2b9bae52e05426"  # CONTRACT section 5, bytes i % 251 of length 10,000


def _creation(task_id: str, **more: str) -> dict[str, str]:
    headers = {"X-Filename": "clip.mp4", "X-Task-Id": task_id, "Upload-Complete": "?1", "Content-Length": "10000"}
    return headers | {name.replace("_", "-"): value for name, value in more.items()}


async def cut_after(edge: Edge, task_id: str, *parts: bytes, **headers: str) -> None:
    """Begin an upload and lose its connection once those parts are stored."""
    call = edge.request("POST", "/detect/video", headers=_creation(task_id, **headers))
    for part in parts:
        call.send(part)
    await until(lambda: edge.outbox.commands and not edge.layout.unpublished(task_id).exists())
    call.disconnect()
    await call.answer()


async def append(edge: Edge, task_id: str, *parts: bytes, offset: int, is_whole: bool = True, **more: str) -> Answer:
    headers = {
        "Upload-Offset": str(offset),
        "Upload-Complete": "?1",
        "Content-Type": "application/partial-upload",
    } | {name.replace("_", "-"): value for name, value in more.items()}
    return await edge.send("PATCH", f"/uploads/{task_id}", *parts, headers=headers, is_whole=is_whole)


async def standing(edge: Edge, task_id: str) -> Answer:
    return await edge.send("HEAD", f"/uploads/{task_id}", headers={"transfer-encoding": "none"})


async def test_an_upload_whose_connection_was_lost_goes_on_where_it_stands_and_is_one_task(tmp_path: Path) -> None:
    task_id = str(uuid4())
    async with running_edge(tmp_path) as edge:
        await cut_after(edge, task_id, CONTENT[:4000])
        lost = read_extent(edge.layout.extent(task_id))
        assert (lost.state, lost.head_bytes, lost.resume_s) == (ExtentState.WRITING, 4000, 120)

        told = await standing(edge, task_id)
        assert told.status == 204
        assert told.headers["upload-offset"] == "4000"
        assert (told.headers["upload-complete"], told.headers["upload-length"]) == ("?0", "10000")
        assert told.headers["cache-control"] == "no-store"
        assert "max-age=120" in told.headers["upload-limit"]

        answer = await append(edge, task_id, CONTENT[4000:7000], CONTENT[7000:], offset=4000)
        assert answer.status == 202, answer.body
        assert answer.json() == {"status": "started", "mediaId": HASH, "taskId": task_id}
        assert answer.headers["location"] == f"/tasks/{task_id}"
        assert answer.headers["upload-complete"] == "?1"
        assert edge.layout.source(HASH).read_bytes() == CONTENT
        assert [command.task_id for command in edge.outbox.commands] == [task_id]
        assert not edge.layout.end(task_id).exists()


async def test_the_digest_of_a_resumed_upload_is_that_of_an_undisturbed_one(tmp_path: Path) -> None:
    task_id = str(uuid4())
    async with running_edge(tmp_path) as edge:
        await cut_after(edge, task_id, CONTENT[:100])
        await append(edge, task_id, CONTENT[100:5000], offset=100, is_whole=False, Content_Length="9900")
        answer = await append(edge, task_id, CONTENT[5000:], offset=5000)
        resumed = read_record(edge.layout.media_record(HASH), MediaRecord)
        whole = await edge.send("POST", "/detect/video", CONTENT, headers={"X-Filename": "clip.mp4"})

        assert answer.json()["mediaId"] == whole.json()["mediaId"] == HASH  # another digest would have another id
        record = read_record(edge.layout.media_record(HASH), MediaRecord)
        assert resumed is not None
        assert record is not None
        assert resumed.digest == record.digest


async def test_whoever_goes_on_with_a_newer_token_has_it_kept(tmp_path: Path) -> None:
    task_id = str(uuid4())
    first, newer, of_otto = bearer("anna"), bearer("anna", jti="newer"), bearer("otto")
    async with running_edge(tmp_path, annotations_url="http://annotations.test") as edge:
        await cut_after(edge, task_id, CONTENT[:100], **first)
        assert await edge.tokens.bearer(task_id) == first["Authorization"].removeprefix("Bearer ")
        part = await append(edge, task_id, CONTENT[100:5000], offset=100, Upload_Complete="?0", **newer)
        assert part.status == 204, part.body
        assert await edge.tokens.bearer(task_id) == newer["Authorization"].removeprefix("Bearer ")

        answer = await append(edge, task_id, CONTENT[5000:], offset=5000, **of_otto)
        assert answer.status == 202, answer.body
        assert await edge.tokens.bearer(task_id) == newer["Authorization"].removeprefix("Bearer ")


@pytest.mark.parametrize("cut_at", [40, 100, 5000])
async def test_an_upload_with_its_tail_first_goes_on_in_its_tail_and_after_it(tmp_path: Path, cut_at: int) -> None:
    task_id = str(uuid4())
    sent = CONTENT[-100:] + CONTENT[:-100]
    async with running_edge(tmp_path) as edge:
        await cut_after(edge, task_id, sent[:cut_at], X_Tail_Bytes="100")
        told = await standing(edge, task_id)
        answer = await append(edge, task_id, sent[cut_at:], offset=cut_at)

        assert told.headers["upload-offset"] == str(cut_at)
        assert answer.json()["mediaId"] == HASH
        assert edge.layout.source(HASH).read_bytes() == CONTENT


async def test_another_edge_goes_on_with_what_one_left_that_died(tmp_path: Path) -> None:
    task_id = str(uuid4())
    async with running_edge(tmp_path) as first:
        await cut_after(first, task_id, CONTENT[:4000])
        left = first.outbox.commands
    async with running_edge(tmp_path) as second:
        told = await standing(second, task_id)
        answer = await append(second, task_id, CONTENT[4000:], offset=int(told.headers["upload-offset"]))

        assert answer.json()["mediaId"] == HASH
        assert (len(left), second.outbox.commands) == (1, [])  # it was announced, and is not again


async def test_an_edge_that_dies_before_it_told_the_broker_leaves_that_to_the_next(tmp_path: Path) -> None:
    task_id = str(uuid4())
    async with running_edge(tmp_path, confirm_wait_s=0.1) as first:
        first.outbox.is_away = True
        call = first.request("POST", "/detect/video", headers=_creation(task_id))
        call.send(CONTENT[:4000])
        await until(lambda: first.layout.task_record(task_id).exists())
        call.disconnect()
        await call.answer()
    async with running_edge(tmp_path) as second:
        answer = await append(second, task_id, CONTENT[4000:], offset=4000)

        assert answer.status == 202
        assert [command.task_id for command in second.outbox.commands] == [task_id]


async def test_whoever_is_wrong_about_the_offset_is_told_it(tmp_path: Path) -> None:
    task_id = str(uuid4())
    async with running_edge(tmp_path) as edge:
        await cut_after(edge, task_id, CONTENT[:4000])
        for offset in (0, 3999, 4001):
            answer = await append(edge, task_id, CONTENT[offset:], offset=offset)
            problem = answer.json()
            assert (answer.status, problem["code"]) == (409, "upload_offset_mismatch")
            assert problem["type"] == "https://iana.org/assignments/http-problem-types#mismatching-upload-offset"
            assert (problem["expected-offset"], problem["provided-offset"]) == (4000, offset)
            assert answer.headers["upload-offset"] == "4000"
        assert edge.layout.body(task_id).read_bytes() == CONTENT[:4000]


async def test_of_two_writers_the_second_is_refused_and_writes_nothing(tmp_path: Path) -> None:
    task_id = str(uuid4())
    async with running_edge(tmp_path) as edge:
        await cut_after(edge, task_id, CONTENT[:4000])
        headers = {
            "Upload-Offset": "4000",
            "Upload-Complete": "?1",
            "Content-Type": "application/partial-upload",
            "Content-Length": "6000",
        }
        first = edge.request("PATCH", f"/uploads/{task_id}", headers=headers)
        first.send(CONTENT[4000:5000])
        await until(lambda: read_extent(edge.layout.extent(task_id)).head_bytes == 5000)
        second = await append(edge, task_id, bytes(5000), offset=5000)
        first.send(CONTENT[5000:])
        first.end()

        assert (second.status, second.json()["code"]) == (409, "upload_busy")
        assert (await first.answer()).json()["mediaId"] == HASH


async def test_asking_for_the_offset_cuts_a_connection_that_only_seems_to_live(tmp_path: Path) -> None:
    task_id = str(uuid4())
    async with running_edge(tmp_path) as edge:
        half_open = edge.request("POST", "/detect/video", headers=_creation(task_id))
        half_open.send(CONTENT[:4000])
        await until(lambda: edge.outbox.commands)
        told = await standing(edge, task_id)
        answer = await append(edge, task_id, CONTENT[4000:], offset=4000)

        assert told.headers["upload-offset"] == "4000"
        assert (await half_open.answer()).status == 400
        assert answer.json()["mediaId"] == HASH


async def test_an_upload_comes_in_parts(tmp_path: Path) -> None:
    task_id = str(uuid4())
    async with running_edge(tmp_path) as edge:
        headers = _creation(task_id, Upload_Complete="?0", Content_Length="0", Upload_Length="10000")
        created = await edge.send("POST", "/detect/video", headers=headers)
        assert (created.status, created.headers["location"]) == (201, f"/uploads/{task_id}")
        assert edge.outbox.commands == []
        part = await append(edge, task_id, CONTENT[:6000], offset=0, Upload_Complete="?0")
        assert (part.status, part.headers["upload-complete"], part.headers["upload-offset"]) == (204, "?0", "6000")
        assert [command.task_id for command in edge.outbox.commands] == [task_id]
        part = await append(edge, task_id, CONTENT[6000:], offset=6000, Upload_Complete="?0")
        assert part.headers["upload-offset"] == "10000"
        last = await append(edge, task_id, offset=10_000)
        assert (last.status, last.json()["mediaId"]) == (202, HASH)


async def test_an_upload_for_whose_record_there_is_no_room_leaves_its_task_id_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, record: object) -> bool:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    task_id = str(uuid4())
    async with running_edge(tmp_path) as edge:
        with monkeypatch.context() as without_room:
            without_room.setattr("edge.storage.create_record", full)
            refused = await edge.send("POST", "/detect/video", CONTENT, headers=_creation(task_id))
        answer = await edge.send("POST", "/detect/video", CONTENT, headers=_creation(task_id))

        assert (refused.status, refused.json()["code"]) == (507, "storage_full")
        assert answer.status == 202, answer.body


async def test_a_part_is_answered_while_the_broker_is_away_and_its_task_is_announced_later(tmp_path: Path) -> None:
    task_id = str(uuid4())
    async with running_edge(tmp_path, confirm_wait_s=0.02) as edge:
        edge.outbox.is_away = True
        headers = _creation(task_id, Upload_Complete="?0", Content_Length="4000", Upload_Length="10000")
        created = await edge.send("POST", "/detect/video", CONTENT[:4000], headers=headers)
        part = await append(edge, task_id, CONTENT[4000:6000], offset=4000, Upload_Complete="?0")
        edge.outbox.is_away = False
        await until(lambda: edge.outbox.commands)

        assert (created.status, created.headers["upload-offset"]) == (201, "4000")
        assert (part.status, part.headers["upload-offset"]) == (204, "6000")


async def test_a_complete_upload_says_so_and_takes_no_more(tmp_path: Path) -> None:
    task_id = str(uuid4())
    async with running_edge(tmp_path) as edge:
        await edge.send("POST", "/detect/video", CONTENT, headers=_creation(task_id))
        told = await standing(edge, task_id)
        refused = await append(edge, task_id, offset=10_000)

        assert (told.headers["upload-complete"], told.headers["upload-offset"]) == ("?1", "10000")
        assert told.headers["location"] == f"/tasks/{task_id}"
        assert (refused.status, refused.json()["code"]) == (400, "upload_completed")
        assert refused.json()["type"] == "https://iana.org/assignments/http-problem-types#completed-upload"


async def test_an_upload_is_complete_only_once_its_task_is_written_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task_id, writes, may_write = str(uuid4()), threading.Event(), threading.Event()
    async with running_edge(tmp_path) as edge:
        create = edge.parts.tasks.create

        def create_slowly(command: AnyCommand) -> None:
            writes.set()
            may_write.wait(WAIT_S)
            create(command)

        monkeypatch.setattr(edge.parts.tasks, "create", create_slowly)
        sending = asyncio.create_task(edge.send("POST", "/detect/video", CONTENT, headers=_creation(task_id)))
        await asyncio.to_thread(writes.wait, WAIT_S)
        await asyncio.wait((sending,), timeout=0.5)  # an edge that dies here must not leave what nobody looks at
        before = read_extent(edge.layout.extent(task_id))
        may_write.set()

        assert before.state is ExtentState.WRITING
        assert (await sending).status == 202


async def test_an_upload_that_is_sealed_while_it_is_asked_for_is_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task_id = str(uuid4())
    async with running_edge(tmp_path) as edge:
        await cut_after(edge, task_id, CONTENT[:4000])
        uploads = edge.parts.uploads
        writer = uploads.resumable.reopen(uploads.resumable.record(task_id), offset_bytes=4000)

        def read_and_sealed(path: Path) -> Extent:
            extent = read_extent(path)
            writer.end(ExtentState.SEALED)
            return extent

        writer.append([CONTENT[4000:]])
        monkeypatch.setattr("edge.resumable.read_extent", read_and_sealed)
        told = await standing(edge, task_id)

        assert (told.headers["upload-complete"], told.headers["upload-offset"]) == ("?1", "10000")


async def test_a_length_that_ends_before_its_own_part_is_refused_and_the_upload_stays(tmp_path: Path) -> None:
    task_id = str(uuid4())
    async with running_edge(tmp_path) as edge:
        headers = {"X-Filename": "clip.mp4", "X-Task-Id": task_id, "Upload-Complete": "?0"}
        await edge.send("POST", "/detect/video", CONTENT[:4000], headers=headers | {"Transfer-Encoding": "chunked"})
        refused, answer = [
            await append(edge, task_id, CONTENT[4000:], offset=4000, Transfer_Encoding="chunked", Upload_Length=length)
            for length in ("3999", "10000")
        ]

        assert (refused.status, refused.json()["code"]) == (400, "upload_length_inconsistent")
        assert answer.json()["mediaId"] == HASH


@pytest.mark.parametrize(
    ("more", "status", "code"),
    [
        ({"Content_Type": "application/octet-stream"}, 400, "unsupported_content_type"),
        ({"Upload_Offset": "four"}, 400, "malformed_request"),
        ({"Upload_Offset": "-1"}, 400, "malformed_request"),
        ({"Upload_Complete": "1"}, 400, "malformed_request"),
        ({"Upload_Length": "9999"}, 400, "upload_length_inconsistent"),
        ({"Content_Length": "5999"}, 400, "upload_length_inconsistent"),
        ({"Upload_Complete": "?0", "Content_Length": "6001"}, 400, "upload_length_inconsistent"),
    ],
)
async def test_what_is_wrong_with_an_append_is_said_before_its_body_is_read(
    tmp_path: Path, more: dict[str, str], status: int, code: str
) -> None:
    task_id = str(uuid4())
    async with running_edge(tmp_path) as edge:
        await cut_after(edge, task_id, CONTENT[:4000])
        headers = {"Content_Length": "6000"} | more
        answer = await append(edge, task_id, offset=4000, is_whole=False, **headers)
        again = await append(edge, task_id, CONTENT[4000:], offset=4000)

        assert (answer.json()["code"], answer.status) == (code, 415 if code == "unsupported_content_type" else status)
        assert again.status == 202


async def test_whoever_sends_too_much_is_told_how_much_may_be_sent(tmp_path: Path) -> None:
    task_id = str(uuid4())
    chunked = {"Upload-Complete": "?0", "Transfer-Encoding": "chunked"}
    async with running_edge(tmp_path, upload_bytes_max=9_000) as edge:
        announced = await edge.send("POST", "/detect/video", headers=_creation(str(uuid4())))
        named = {"X-Filename": "clip.mp4", "X-Task-Id": task_id}
        await edge.send("POST", "/detect/video", CONTENT[:4000], headers=named | chunked)
        sent = await append(edge, task_id, CONTENT[4000:], offset=4000, Transfer_Encoding="chunked")

        assert [answer.status for answer in (announced, sent)] == [413, 413]
        assert {answer.headers["upload-limit"] for answer in (announced, sent)} == {"max-size=9000, max-age=120"}


async def test_an_offset_that_comes_twice_is_refused(tmp_path: Path) -> None:
    task_id = str(uuid4())
    headers = {"Content-Type": "application/partial-upload", "Upload-Complete": "?1", "Content-Length": "6000"}
    async with running_edge(tmp_path) as edge:
        await cut_after(edge, task_id, CONTENT[:4000])
        twice = headers | {"Upload-Offset": "4000", "upload-offset": "4001"}
        answer = await edge.request("PATCH", f"/uploads/{task_id}", headers=twice).answer()

        assert (answer.status, answer.json()["code"]) == (400, "malformed_request")


async def test_an_upload_without_the_header_is_not_resumable(tmp_path: Path) -> None:
    task_id = str(uuid4())
    async with running_edge(tmp_path) as edge:
        call = edge.request("POST", "/detect/video", headers={"X-Filename": "clip.mp4", "X-Task-Id": task_id})
        call.send(CONTENT[:4000])
        await until(lambda: edge.outbox.commands)
        call.disconnect()
        await call.answer()

        assert read_extent(edge.layout.extent(task_id)).state is ExtentState.ABORTED
        assert (await standing(edge, task_id)).status == 404
        assert (await standing(edge, "..%2F..")).status == 404


async def test_an_upload_whose_client_stays_away_is_abandoned_with_its_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.announce.LEASE_WAIT_S", 0.0)
    task_id = str(uuid4())
    async with running_edge(tmp_path, upload_resume_s=1) as edge:
        await cut_after(edge, task_id, CONTENT[:4000])
        await until(lambda: edge.layout.end(task_id).exists())
        end = read_record(edge.layout.end(task_id), TaskEnded)
        answer = await append(edge, task_id, CONTENT[4000:], offset=4000)

        assert end is not None
        assert end.failure is not None
        assert end.failure.code is FailureCode.UPLOAD_ABANDONED
        assert read_extent(edge.layout.extent(task_id)).state is ExtentState.ABORTED
        assert (answer.status, answer.json()["code"]) == (410, "upload_gone")


async def test_what_is_no_upload_does_not_keep_others_from_being_abandoned(tmp_path: Path) -> None:
    task_id = str(uuid4())
    (tmp_path / "uploads").mkdir()
    (tmp_path / "uploads" / "0").write_bytes(b"a stray file")
    async with running_edge(tmp_path, upload_resume_s=1) as edge:
        await cut_after(edge, task_id, CONTENT[:4000])
        await until(lambda: read_extent(edge.layout.extent(task_id)).state is ExtentState.ABORTED)


async def test_an_upload_that_never_became_a_task_leaves_nothing_when_it_is_abandoned(tmp_path: Path) -> None:
    async with running_edge(tmp_path, upload_resume_s=1) as edge:
        headers = _creation(str(uuid4()), Upload_Complete="?0", Content_Length="0")
        await edge.send("POST", "/detect/video", headers=headers)
        await until(lambda: names_in(tmp_path / "uploads") == [])


async def test_an_edge_that_stops_says_that_its_client_may_come_back(tmp_path: Path) -> None:
    task_id = str(uuid4())
    async with running_edge(tmp_path) as edge:
        call = edge.request("POST", "/detect/video", headers=_creation(task_id))
        call.send(CONTENT[:4000])
        await until(lambda: edge.outbox.commands)
        call.cut()
        cut = await call.answer()
    async with running_edge(tmp_path) as edge:
        answer = await append(edge, task_id, CONTENT[4000:], offset=4000)

        assert (cut.status, cut.json()["code"], cut.headers["retry-after"]) == (503, "edge_stops", "5")
        assert answer.status == 202


async def test_a_client_that_falls_silent_may_come_back(tmp_path: Path) -> None:
    task_id = str(uuid4())
    async with running_edge(tmp_path, upload_idle_s=0.2) as edge:
        call = edge.request("POST", "/detect/video", headers=_creation(task_id))
        call.send(CONTENT[:4000])
        stalled = await call.answer()
        answer = await append(edge, task_id, CONTENT[4000:], offset=4000)

        assert (stalled.status, stalled.json()["code"]) == (408, "upload_stalled")
        assert answer.status == 202


async def test_a_writer_whose_process_lives_is_never_written_over_by_another(tmp_path: Path) -> None:
    task_id = str(uuid4())
    async with running_edge(tmp_path) as edge:
        await cut_after(edge, task_id, CONTENT[:4000])
        uploads = ResumableUploads(edge.layout)
        held = uploads.reopen(uploads.record(task_id), offset_bytes=4000)
        refused = await append(edge, task_id, CONTENT[4000:], offset=4000)
        held.release()
        answer = await append(edge, task_id, CONTENT[4000:], offset=4000)

        assert (refused.status, answer.status) == (409, 202)


def test_bytes_that_the_extent_does_not_promise_are_written_again(tmp_path: Path) -> None:
    """A writer that dies between the two leaves more in the file than it has told of."""
    plan = UploadPlan(total_bytes=10, resume_s=5)
    body = GrowingBody(tmp_path, plan)
    body.append([b"0123"])
    body.release()
    with (tmp_path / "body").open("ab") as file:
        file.write(b"????")
    again = GrowingBody(tmp_path, plan, is_new=False)

    assert again.received_bytes == 4
    again.append([b"456789"])
    assert again.finish().size_bytes == 10
    assert (tmp_path / "body").read_bytes() == b"0123456789"


def test_bytes_that_the_extent_does_not_promise_are_no_part_of_a_file_that_ends_before_them(tmp_path: Path) -> None:
    body = GrowingBody(tmp_path, UploadPlan(resume_s=5))
    body.append([b"0123"])
    body.release()
    with (tmp_path / "body").open("ab") as file:
        file.write(b"????")
    again = GrowingBody(tmp_path, UploadPlan(resume_s=5), is_new=False)
    again.append([b"4"])

    assert again.finish().size_bytes == 5
    assert (tmp_path / "body").read_bytes() == b"01234"


@pytest.mark.parametrize("beside_bytes", [0, 7, 10_000])
def test_the_digest_knows_every_byte_however_slowly_it_catches_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, beside_bytes: int
) -> None:
    monkeypatch.setattr("edge.growing_body.CATCH_UP_BYTES", beside_bytes)
    plan = UploadPlan(total_bytes=10_000, tail_bytes=100, resume_s=5)
    sent = CONTENT[-100:] + CONTENT[:-100]
    (tmp_path / "cut").mkdir()
    (tmp_path / "whole").mkdir()
    whole = GrowingBody(tmp_path / "whole", plan)
    whole.append([sent])
    GrowingBody(tmp_path / "cut", plan).release()
    for start in range(0, 10_000, 2_500):
        body = GrowingBody(tmp_path / "cut", plan, is_new=False)
        body.append([sent[start : start + 1_000]])
        body.append([sent[start + 1_000 : start + 2_500]])
        if start < 7_500:
            body.release()

    assert body.finish() == whole.finish()


async def test_only_its_owner_may_go_on_with_an_upload(tmp_path: Path) -> None:
    task_id = str(uuid4())
    async with running_edge(tmp_path, auth=Auth(Verifier(SharedKey(SHARED_KEY), Expected()))) as edge:
        await cut_after(edge, task_id, CONTENT[:4000], **bearer("ada"))
        for other in (bearer("bob"), {}):
            asked = await edge.send("HEAD", f"/uploads/{task_id}", headers={"transfer-encoding": "none"} | other)
            refused = await append(edge, task_id, CONTENT[4000:], offset=4000, **other)
            assert (asked.status, refused.status) == ((404, 404) if other else (401, 401))
        answer = await append(edge, task_id, CONTENT[4000:], offset=4000, **bearer("ada"))

        assert answer.json()["mediaId"] == HASH
        assert edge.parts.tasks.record(task_id).command.owner == "ada"
