"""`POST /shots`: everything of `POST /detect/video` and of forms, for a task that finds shots."""

import asyncio
from pathlib import Path
from uuid import uuid4

import pytest

from contracts.commands import FindShots, TaskKind
from contracts.events import TaskEnded
from contracts.failures import FailureCode, FailureRecord
from tests.edge_app import files_below, names_in, running_edge, until
from tests.forms import CONTENT_TYPE, MP4, config, form, picture

BODY = bytes(range(251)) * 40


async def test_the_command_to_find_shots_leaves_while_the_video_still_arrives(tmp_path: Path) -> None:
    task_id = str(uuid4())
    headers = {"X-Filename": "clip.mp4", "X-Task-Id": task_id, "X-Config": '{"shot_threshold": 0.3}'}
    async with running_edge(tmp_path) as edge:
        call = edge.request("POST", "/shots", headers=headers)
        call.send(b"first")
        await asyncio.wait_for(edge.outbox.published.wait(), 30)

        (command,) = edge.outbox.commands
        assert isinstance(command, FindShots)
        assert (command.task_id, command.medium.is_growing, command.options.shot_threshold) == (task_id, True, 0.3)
        call.send(b" and second")
        call.end()
        answer = await call.answer()
        assert (answer.status, answer.headers["location"]) == (202, f"/tasks/{task_id}")
        assert (await edge.send("GET", f"/tasks/{task_id}")).json()["kind"] == "shots"


async def test_a_form_is_stored_and_its_task_starts_without_anybody_waiting(tmp_path: Path) -> None:
    body = form(picture(MP4, "clip.mp4"), config('{"min_shot_frames": 12, "colour": 1}'))
    async with running_edge(tmp_path, is_consumer_alive=False) as edge:
        answer = await edge.send("POST", "/shots", body, headers={"Content-Type": CONTENT_TYPE})

        assert answer.status == 202, answer.body
        (command,) = edge.outbox.commands
        assert isinstance(command, FindShots)
        assert (command.options.min_shot_frames, command.is_quiet, command.medium.is_growing) == (12, False, False)
        assert answer.json() == {"status": "started", "mediaId": command.medium.media_id, "taskId": command.task_id}
        assert answer.headers["location"] == f"/tasks/{command.task_id}"
        assert "colour" in answer.headers["warnings"]
        assert "preference-applied" not in answer.headers


async def test_the_same_form_with_the_same_key_starts_one_task(tmp_path: Path) -> None:
    headers = {"Content-Type": CONTENT_TYPE, "Idempotency-Key": "once"}
    async with running_edge(tmp_path) as edge:
        first, second = [
            await edge.send("POST", "/shots", form(picture(MP4, "clip.mp4")), headers=headers) for _ in range(2)
        ]
        another = await edge.send(
            "POST", "/detect", form(picture(MP4, "clip.mp4")), headers=headers | {"Prefer": "respond-async"}
        )

        assert (first.status, first.json()) == (second.status, second.json())
        assert len(edge.outbox.commands) == 1
        assert (another.status, another.json()["code"]) == (422, "idempotency_key_reused")


async def test_the_same_form_with_the_same_key_and_task_id_is_answered_as_before(tmp_path: Path) -> None:
    task_id, body = str(uuid4()), form(picture(MP4, "clip.mp4"))
    headers = {"Content-Type": CONTENT_TYPE, "X-Task-Id": task_id}
    async with running_edge(tmp_path) as edge:
        answers = [
            await edge.send("POST", "/shots", body, headers=headers | {"Idempotency-Key": key})
            for key in ("once", "once", "another")
        ]
        await edge.parts.background.settle()

        assert [answer.status for answer in answers] == [202, 202, 409]
        assert answers[0].json() == answers[1].json()
        assert (answers[0].json()["taskId"], answers[2].json()["code"]) == (task_id, "task_id_in_use")
        assert [command.task_id for command in edge.outbox.commands] == [task_id]
        assert names_in(tmp_path / "uploads") == [task_id]


async def test_a_picture_has_no_shots(tmp_path: Path) -> None:
    async with running_edge(tmp_path) as edge:
        answer = await edge.send("POST", "/shots", form(picture()), headers={"Content-Type": CONTENT_TYPE})

        assert (answer.status, answer.json()["code"]) == (400, "unsupported_media")
        assert edge.outbox.commands == []
        assert files_below(tmp_path) == []


@pytest.mark.parametrize(
    ("headers", "body", "expected"),
    [
        ({}, BODY, (400, "malformed_request")),
        ({"X-Filename": "a.png"}, BODY, (400, "unsupported_media")),
        ({"X-Filename": "a.mp4"}, b"", (400, "empty_media")),
        ({"X-Filename": "a.mp4", "X-Config": "["}, BODY, (400, "malformed_options")),
        ({"X-Filename": "a.mp4", "X-Config": '{"shot_threshold": 1.5}'}, BODY, (422, "options_out_of_range")),
        ({"X-Filename": "a.mp4", "X-Config": '{"min_shot_frames": 0}'}, BODY, (422, "options_out_of_range")),
        ({"X-Filename": "a.mp4", "Content-Length": "9000000000000"}, BODY, (413, "too_large")),
        ({"Content-Type": CONTENT_TYPE}, b"no form", (400, "malformed_request")),
    ],
)
async def test_what_is_refused_of_a_video_is_refused_here(
    tmp_path: Path, headers: dict[str, str], body: bytes, expected: tuple[int, str]
) -> None:
    async with running_edge(tmp_path, upload_bytes_max=1_000_000) as edge:
        answer = await edge.send("POST", "/shots", body, headers=headers)

        assert (answer.status, answer.json()["code"]) == expected
        assert edge.outbox.commands == []


async def test_a_range_is_told_with_its_bounds(tmp_path: Path) -> None:
    async with running_edge(tmp_path) as edge:
        answer = await edge.send(
            "POST", "/shots", BODY, headers={"X-Filename": "a.mp4", "X-Config": '{"shot_threshold": 1.5}'}
        )
        assert "shot_threshold" in answer.json()["detail"]
        assert "0..1" in answer.json()["detail"]


async def test_a_search_that_fails_while_its_body_arrives_is_answered_at_once(tmp_path: Path) -> None:
    task_id = str(uuid4())
    async with running_edge(tmp_path) as edge:
        call = edge.request("POST", "/shots", headers={"X-Filename": "a.mp4", "X-Task-Id": task_id})
        call.send(b"some bytes")
        await until(lambda: edge.outbox.commands)
        failure = FailureRecord(code=FailureCode.ENGINE_UNAVAILABLE, detail="the server is away")
        edge.feed.tell(TaskEnded(task_id=task_id, media_id=task_id, sequence=1, failure=failure))
        answer = await call.answer()

        assert (answer.status, answer.json()["code"], answer.json()["taskId"]) == (422, "engine_unavailable", task_id)


def test_every_kind_of_task_has_a_command() -> None:
    from contracts.commands import COMMANDS, kind_of
    from contracts.media import Medium, MediumKind

    medium = Medium(root="storage", path="a", kind=MediumKind.VIDEO)
    made = {kind: kind_of(COMMANDS[kind](task_id=str(uuid4()), medium=medium)) for kind in TaskKind}
    assert made == {kind: kind for kind in TaskKind}
