"""`POST /detect/video`: what is stored, what is announced and when, and what a client is told."""

import asyncio
from pathlib import Path
from uuid import uuid4

import pytest

from contracts.commands import DetectVideo
from contracts.events import TaskEnded
from contracts.failures import FailureCode, FailureRecord
from contracts.storage import ExtentState, MediaRecord, Seal, TaskRecord, read_extent, read_record
from tests.edge_app import running_edge, until

BODY = bytes(range(251)) * 40
HASH_10000_MINUS = "0b2b9bae52e05426"  # CONTRACT section 5, bytes i % 251 of length 10,000


def _headers(**more: str) -> dict[str, str]:
    return {"X-Filename": "clip.mp4"} | {name.replace("_", "-"): value for name, value in more.items()}


async def test_a_whole_upload_is_answered_with_its_hash_and_kept_under_it(tmp_path: Path) -> None:
    body = BODY[:10_000]
    async with running_edge(tmp_path) as edge:
        answer = await edge.send("POST", "/detect/video", body, headers=_headers())

        assert answer.status == 202, answer.body
        started = answer.json()
        assert started == {"status": "started", "mediaId": HASH_10000_MINUS, "taskId": started["taskId"]}
        assert answer.headers["location"] == f"/tasks/{started['taskId']}"
        assert edge.layout.source(HASH_10000_MINUS).read_bytes() == body
        record = read_record(edge.layout.media_record(HASH_10000_MINUS), MediaRecord)
        assert record is not None
        assert (record.name, record.size_bytes) == ("clip.mp4", 10_000)
        extent = read_extent(edge.layout.extent(started["taskId"]))
        assert (extent.state, extent.head_bytes, extent.total_bytes) == (ExtentState.SEALED, 10_000, 10_000)
        assert read_record(edge.layout.seal(started["taskId"]), Seal) == Seal(
            media_id=HASH_10000_MINUS, size_bytes=10_000, digest=record.digest
        )


async def test_the_command_leaves_while_the_body_still_arrives(tmp_path: Path) -> None:
    task_id = str(uuid4())
    async with running_edge(tmp_path) as edge:
        call = edge.request(
            "POST", "/detect/video", headers=_headers(X_Task_Id=task_id, X_Config='{"model_batch_size": 3}')
        )
        call.send(b"first")
        await asyncio.wait_for(edge.outbox.published.wait(), 60)

        (command,) = edge.outbox.commands
        assert isinstance(command, DetectVideo)
        assert (command.task_id, command.medium.is_growing, command.options.model_batch_size) == (task_id, True, 3)
        assert read_extent(edge.layout.extent(task_id)).head_bytes == 5
        record = read_record(edge.layout.task_record(task_id), TaskRecord)
        assert record is not None
        assert record.command == command
        call.send(b" and second")
        call.end()
        assert (await call.answer()).status == 202
        assert edge.layout.body(task_id).read_bytes() == b"first and second"
        assert not edge.layout.unpublished(task_id).exists()


async def test_a_header_of_raw_utf_8_is_read_as_such(tmp_path: Path) -> None:
    unknown = {"X-Config": '{"größe": 1}'.encode().decode("latin-1")}
    broken = {"X-Config": '{"gr\xf6\xdfe": 1}'}  # Latin-1 on the wire
    async with running_edge(tmp_path) as edge:
        answer = await edge.send("POST", "/detect/video", BODY, headers=_headers() | unknown)
        refused = await edge.send("POST", "/detect/video", BODY, headers=_headers() | broken)

        assert answer.headers["warnings"] == "unknown config fields ignored: gr%C3%B6%C3%9Fe"
        assert (refused.status, refused.json()["code"]) == (400, "malformed_options")


async def test_a_client_that_goes_away_aborts_the_upload_and_ends_a_task_that_nobody_took(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.announce.LEASE_WAIT_S", 0.0)
    task_id = str(uuid4())
    async with running_edge(tmp_path) as edge:
        call = edge.request("POST", "/detect/video", headers=_headers(X_Task_Id=task_id, Content_Length="100"))
        call.send(b"some bytes")
        await until(lambda: edge.outbox.commands)
        call.disconnect()
        await call.answer()
        await edge.parts.background.settle()

        assert read_extent(edge.layout.extent(task_id)).state is ExtentState.ABORTED
        end = read_record(edge.layout.end(task_id), TaskEnded)
        assert end is not None
        assert end.failure is not None
        assert end.failure.code is FailureCode.UPLOAD_ABORTED
        assert edge.outbox.ends == [end]
        assert not (tmp_path / "media").exists()


async def test_a_task_that_fails_while_its_body_arrives_is_answered_at_once(tmp_path: Path) -> None:
    task_id = str(uuid4())
    async with running_edge(tmp_path) as edge:
        call = edge.request("POST", "/detect/video", headers=_headers(X_Task_Id=task_id))
        call.send(b"some bytes")
        await until(lambda: edge.outbox.commands)
        failure = FailureRecord(code=FailureCode.UNREADABLE_MEDIA, detail="no container")
        edge.feed.tell(TaskEnded(task_id=task_id, media_id=task_id, sequence=1, failure=failure))
        answer = await call.answer()  # the body has not ended

        assert (answer.status, answer.json()["code"], answer.json()["taskId"]) == (422, "unreadable_media", task_id)
        assert answer.headers["connection"] == "close"
        assert answer.headers["content-type"].startswith("application/problem+json")


async def test_a_second_upload_with_the_same_task_id_is_refused(tmp_path: Path) -> None:
    task_id = str(uuid4())
    async with running_edge(tmp_path) as edge:
        first = await edge.send("POST", "/detect/video", BODY, headers=_headers(X_Task_Id=task_id))
        second = await edge.send("POST", "/detect/video", BODY, headers=_headers(X_Task_Id=task_id))

        assert (first.status, second.status, second.json()["code"]) == (202, 409, "task_id_in_use")
        assert edge.layout.body(task_id).read_bytes() == BODY


async def test_a_broker_that_is_away_costs_an_answer_but_not_the_upload(tmp_path: Path) -> None:
    task_id = str(uuid4())
    async with running_edge(tmp_path, confirm_wait_s=0.02) as edge:
        edge.outbox.is_away = True
        answer = await edge.send("POST", "/detect/video", BODY, headers=_headers(X_Task_Id=task_id))
        assert (answer.status, answer.json()["code"], answer.headers["retry-after"]) == (503, "broker_unavailable", "5")
        assert answer.headers["location"] == f"/tasks/{task_id}"
        assert edge.layout.unpublished(task_id).exists()
        assert not edge.layout.abort(task_id).exists()
        assert read_extent(edge.layout.extent(task_id)).state is ExtentState.SEALED

        edge.outbox.is_away = False
        assert await edge.parts.announcer.finish(task_id)
        assert [command.task_id for command in edge.outbox.commands] == [task_id]
        assert not edge.layout.unpublished(task_id).exists()


async def test_a_broker_in_alarm_is_not_waited_for(tmp_path: Path) -> None:
    task_id = str(uuid4())
    async with running_edge(tmp_path, confirm_wait_s=600.0) as edge:
        edge.outbox.is_blocked = True
        answer = await edge.send("POST", "/detect/video", BODY, headers=_headers(X_Task_Id=task_id))
        assert (answer.status, answer.json()["code"], answer.headers["retry-after"]) == (503, "broker_unavailable", "5")

        edge.outbox.is_blocked = False
        await until(lambda: edge.outbox.commands)  # by itself, once the alarm is over
        assert not edge.layout.abort(task_id).exists()


@pytest.mark.parametrize("tail_bytes", [1, 100, 9_999])
async def test_a_tail_that_is_sent_first_lies_at_the_end_of_the_same_file(tmp_path: Path, tail_bytes: int) -> None:
    body = BODY[:10_000]
    async with running_edge(tmp_path) as edge:
        answer = await edge.send(
            "POST",
            "/detect/video",
            body[-tail_bytes:],
            body[:-tail_bytes],
            headers=_headers(X_Tail_Bytes=str(tail_bytes)),
        )
        assert answer.json()["mediaId"] == HASH_10000_MINUS
        assert edge.layout.source(HASH_10000_MINUS).read_bytes() == body
        whole = await edge.send("POST", "/detect/video", body, headers=_headers())
        assert whole.json()["mediaId"] == HASH_10000_MINUS  # the same digest, so no second copy
        assert len(list((tmp_path / "media").iterdir())) == 1
