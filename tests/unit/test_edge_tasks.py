"""`/tasks/{id}`: where a task stands, what it reported and how it is stopped, all of it read from the storage."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import msgspec
import pytest

from contracts.commands import DetectVideo
from contracts.detections import Counts, Detection
from contracts.events import FrameDetected, TaskEnded
from contracts.failures import FailureCode, FailureRecord
from contracts.media import MediumKind
from contracts.results import Checkpoint, Reported, TakenOver
from contracts.storage import Lease, create_record, read_record, replace_record, upload_medium
from edge import announce
from edge.task_store import TaskStore
from tests.edge_app import Edge, running_edge, until
from tests.unit.small_disk import fill, small_disk

__all__ = ["small_disk"]

ABSENT = "b73c28a7-f1d3-4887-80ff-4723caf3b306"
NOW = datetime(2026, 3, 1, tzinfo=UTC)
SEEN = Detection(center_x=0.5, center_y=0.5, width=0.1, height=0.2, class_num=3, label="=car", confidence=0.75)
COUNTS = Counts(decoded=40, sampled=10, inferred=9, reported=2, failed=1)


def queued_task(edge: Edge) -> str:
    task_id = str(uuid4())
    medium = upload_medium(task_id, kind=MediumKind.VIDEO, name="a.mp4", is_growing=True)
    edge.parts.tasks.create(DetectVideo(task_id=task_id, medium=medium, created_at=NOW))
    edge.parts.tasks.mark_published(task_id)
    return task_id


def hold(edge: Edge, task_id: str, *, is_released: bool = False) -> None:
    lease = Lease(owner="c", epoch=1, heartbeat_at=NOW, is_released=is_released)
    replace_record(edge.layout.lease(task_id), lease)


def report(edge: Edge, task_id: str, *sequences: int, epoch: int = 1) -> None:
    with edge.layout.results(task_id, epoch=epoch).open("ab") as file:
        for sequence in sequences:
            event = FrameDetected(
                task_id=task_id,
                media_id=task_id,
                sequence=sequence,
                frame_index=sequence * 4,
                video_time="00:00:01.000",
                annotations=[SEEN],
                percent=sequence * 10,
            )
            checkpoint = Checkpoint(
                frame_index=sequence * 4, at_s=1.0, counts=COUNTS, sequence=sequence, percent=sequence * 10
            )
            for record in (Reported(event=event), checkpoint):
                file.write(msgspec.json.encode(record) + b"\n")


def end(edge: Edge, task_id: str, failure: FailureCode | None = None) -> None:
    record = FailureRecord(code=failure, detail="the reason") if failure else None
    event = TaskEnded(task_id=task_id, media_id="abc", sequence=3, percent=100, counts=COUNTS, failure=record, at=NOW)
    create_record(edge.layout.end(task_id), event)


async def test_a_task_that_nobody_has_taken_is_queued(tmp_path: Path) -> None:
    async with running_edge(tmp_path) as edge:
        task_id = queued_task(edge)
        answer = await edge.send("GET", f"/tasks/{task_id}")
        assert answer.status == 200
        assert answer.json() == {
            "taskId": task_id,
            "kind": "video",
            "mediaId": None,
            "status": "Queued",
            "percent": 0,
            "createdAt": "2026-03-01T00:00:00Z",
            "startedAt": None,
            "finishedAt": None,
            "counts": {"decoded": 0, "sampled": 0, "inferred": 0, "reported": 0, "failed": 0, "shots": 0},
            "error": None,
            "result": f"/tasks/{task_id}/results",
            "isPartial": False,
            "told": None,
            "retryOf": None,
            "retriedAs": None,
        }


async def test_a_held_task_is_running_and_says_how_far_it_is(tmp_path: Path) -> None:
    async with running_edge(tmp_path) as edge:
        task_id = queued_task(edge)
        hold(edge, task_id)
        report(edge, task_id, 1, 2)
        view = (await edge.send("GET", f"/tasks/{task_id}")).json()
        assert (view["status"], view["percent"], view["counts"]["inferred"]) == ("Running", 20, 9)


async def test_a_task_that_was_handed_on_is_queued_again(tmp_path: Path) -> None:
    async with running_edge(tmp_path) as edge:
        task_id = queued_task(edge)
        hold(edge, task_id, is_released=True)
        assert (await edge.send("GET", f"/tasks/{task_id}")).json()["status"] == "Queued"


@pytest.mark.parametrize(
    ("failure", "status"),
    [(None, "Succeeded"), (FailureCode.CANCELLED, "Cancelled"), (FailureCode.UPLOAD_ABORTED, "Failed")],
)
async def test_an_end_says_how_the_task_ended(tmp_path: Path, failure: FailureCode | None, status: str) -> None:
    async with running_edge(tmp_path) as edge:
        task_id = queued_task(edge)
        hold(edge, task_id)
        end(edge, task_id, failure)
        view = (await edge.send("GET", f"/tasks/{task_id}")).json()
        assert (view["status"], view["percent"], view["mediaId"]) == (status, 100, "abc")
        assert view["finishedAt"] == "2026-03-01T00:00:00Z"
        assert view["error"] == ({"code": failure.value, "detail": "the reason"} if failure else None)


@pytest.mark.parametrize("path", ["", "/results"])
@pytest.mark.parametrize("task_id", [ABSENT, "x", "0" * 36, "..", ABSENT.upper()])
async def test_a_task_that_does_not_exist_is_not_found(tmp_path: Path, task_id: str, path: str) -> None:
    async with running_edge(tmp_path) as edge:
        answer = await edge.send("GET", f"/tasks/{task_id}{path}")
        assert (answer.status, answer.json()["code"]) == (404, "task_not_found")


async def test_results_are_json_lines_of_the_reports_in_order(tmp_path: Path) -> None:
    async with running_edge(tmp_path) as edge:
        task_id = queued_task(edge)
        report(edge, task_id, 1, 2)
        answer = await edge.send("GET", f"/tasks/{task_id}/results")
        lines = [msgspec.json.decode(line) for line in answer.body.splitlines()]
        assert answer.headers["content-type"].startswith("application/x-ndjson")
        assert [line["sequence"] for line in lines] == [1, 2]
        assert lines[0]["mediaStatus"] == "AIProcessing"
        assert lines[0]["annotations"][0]["label"] == "=car"


async def test_results_of_several_takers_are_one_sequence(tmp_path: Path) -> None:
    async with running_edge(tmp_path) as edge:
        task_id = queued_task(edge)
        report(edge, task_id, 1)
        counted = edge.layout.results(task_id, epoch=1).stat().st_size
        report(edge, task_id, 2)  # by a holder that had lost the task
        takeover = TakenOver(previous_epoch=1, previous_bytes=counted)
        edge.layout.results(task_id, epoch=2).write_bytes(msgspec.json.encode(takeover) + b"\n")
        report(edge, task_id, 2, epoch=2)
        with edge.layout.results(task_id, epoch=2).open("ab") as file:
            file.write(b'{"record":"reported","ev')  # torn by a crash
        answer = await edge.send("GET", f"/tasks/{task_id}/results", headers={"Accept": "application/json"})
        assert [event["sequence"] for event in answer.json()] == [1, 2]


async def test_results_can_be_had_as_csv_that_no_spreadsheet_runs(tmp_path: Path) -> None:
    async with running_edge(tmp_path) as edge:
        task_id = queued_task(edge)
        report(edge, task_id, 1)
        answer = await edge.send("GET", f"/tasks/{task_id}/results", headers={"Accept": "text/csv"})
        header, row = answer.body.decode().splitlines()
        assert answer.headers["content-type"] == "text/csv; charset=utf-8"
        assert header.startswith("task_id,media_id,sequence")
        assert row.split(",")[6] == "'=car"


async def test_a_task_that_nobody_holds_is_cancelled_by_the_edge(tmp_path: Path) -> None:
    async with running_edge(tmp_path) as edge:
        task_id = queued_task(edge)
        answer = await edge.send("DELETE", f"/tasks/{task_id}")
        assert (answer.status, answer.json()["status"]) == (202, "Cancelled")
        ended = read_record(edge.layout.end(task_id), TaskEnded)
        assert edge.outbox.ends == [ended]
        assert edge.layout.cancel(task_id).exists()


async def test_a_task_that_is_held_is_cancelled_by_its_holder(tmp_path: Path) -> None:
    async with running_edge(tmp_path) as edge:
        task_id = queued_task(edge)
        hold(edge, task_id)
        answer = await edge.send("DELETE", f"/tasks/{task_id}")
        assert (answer.status, answer.json()["status"]) == (202, "Running")
        assert edge.outbox.cancelled == [task_id]
        assert not edge.layout.end(task_id).exists()


async def test_an_end_by_the_edge_goes_on_where_the_reports_stopped(tmp_path: Path) -> None:
    async with running_edge(tmp_path) as edge:
        task_id = queued_task(edge)
        hold(edge, task_id, is_released=True)
        report(edge, task_id, 1, 2)
        await edge.send("DELETE", f"/tasks/{task_id}")
        (ended,) = edge.outbox.ends
        assert (ended.sequence, ended.counts, ended.percent) == (3, COUNTS, 20)


async def test_a_task_that_has_ended_cannot_be_cancelled(tmp_path: Path) -> None:
    async with running_edge(tmp_path) as edge:
        task_id = queued_task(edge)
        end(edge, task_id)
        answer = await edge.send("DELETE", f"/tasks/{task_id}")
        assert (answer.status, answer.json()["code"]) == (409, "task_ended")
        assert (await edge.send("DELETE", f"/tasks/{uuid4()}")).status == 404


async def test_a_task_is_cancelled_also_where_there_is_no_room_for_its_end(small_disk: Path) -> None:
    async with running_edge(small_disk) as edge:
        task_id = queued_task(edge)
        fill(small_disk)
        answer = await edge.send("DELETE", f"/tasks/{task_id}")

        assert answer.status == 202, answer.body
        assert edge.layout.cancel(task_id).exists()  # whoever takes the task ends it
        assert edge.outbox.cancelled == [task_id]


async def test_a_cancelled_task_whose_end_could_not_be_told_is_told_later(tmp_path: Path) -> None:
    async with running_edge(tmp_path) as edge:
        task_id = queued_task(edge)
        edge.outbox.is_away = True
        assert (await edge.send("DELETE", f"/tasks/{task_id}")).status == 202
        edge.outbox.is_away = False
        assert await edge.parts.announcer.finish(task_id)
        assert [event.task_id for event in edge.outbox.ends] == [task_id]
        assert edge.outbox.commands == []


class Died(Exception):
    """What the edge would have done."""


async def test_an_edge_that_dies_before_it_tells_of_an_end_leaves_that_to_another(tmp_path: Path) -> None:
    async def die(event: TaskEnded) -> None:
        raise Died

    async with running_edge(tmp_path) as edge:
        task_id = queued_task(edge)
        edge.outbox.publish_end = die  # type: ignore[method-assign]
        with pytest.raises(Died):
            await edge.parts.announcer.end_unless_held(
                task_id, FailureRecord(code=FailureCode.CANCELLED, detail="as asked")
            )
        assert edge.layout.end(task_id).exists()
        assert TaskStore(edge.layout).unpublished(before=datetime.now(UTC)) == [task_id]


async def test_a_record_that_nobody_can_read_holds_up_no_other_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that a newer edge wrote, say."""
    monkeypatch.setattr(announce, "RETRY_S", 0.01)
    monkeypatch.setattr(announce, "SCAN_S", 0.02)
    monkeypatch.setattr(announce, "ORPHANED_AFTER", timedelta(0))
    async with running_edge(tmp_path) as edge:
        unreadable, readable = sorted(str(uuid4()) for _ in range(2))
        for task_id in (unreadable, readable):
            medium = upload_medium(task_id, kind=MediumKind.VIDEO, name="a.mp4", is_growing=True)
            TaskStore(edge.layout).create(DetectVideo(task_id=task_id, medium=medium))
        edge.layout.task_record(unreadable).write_bytes(b'{"command":{"type":"TranscribeVideo"}}')
        await until(lambda: edge.outbox.commands)
        assert [command.task_id for command in edge.outbox.commands] == [readable]


async def test_a_task_of_an_edge_that_died_is_published_by_another(tmp_path: Path) -> None:
    async with running_edge(tmp_path) as edge:
        task_id = str(uuid4())
        medium = upload_medium(task_id, kind=MediumKind.VIDEO, name="a.mp4", is_growing=True)
        later = TaskStore(edge.layout)
        later.create(DetectVideo(task_id=task_id, medium=medium))
        assert later.unpublished(before=datetime.now(UTC)) == [task_id]
        assert later.unpublished(before=NOW) == []
        assert await edge.parts.announcer.finish(task_id)
        assert [command.task_id for command in edge.outbox.commands] == [task_id]
        assert later.unpublished(before=datetime.now(UTC)) == []
