"""`POST /tasks/{id}/retry`: what may be done again, and that it is done once however often it is asked for."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import msgspec
import pytest

from contracts.commands import AnyCommand, DetectVideo, FindShots
from contracts.events import TaskEnded
from contracts.failures import FailureCode, FailureRecord
from contracts.media import Medium, MediumKind
from contracts.options import DetectionOptions
from contracts.storage import MediaRecord, create_record
from edge.annotations import Annotations
from edge.auth import Auth
from edge.jwts import Expected, SharedKey, Verifier
from edge.owners import Owners
from edge.retries import Retries
from edge.settings import EdgeSettings
from edge.task_store import retry_id
from edge.tokens import Tokens
from edge.vault import Sealer, Vault
from tests.edge_app import Edge, running_edge, until
from tests.signing import SHARED_KEY, bearer

BODY = bytes(range(251)) * 40
AWAY = FailureCode.ENGINE_UNAVAILABLE


async def uploaded(edge: Edge, path: str = "/shots", **headers: str) -> str:
    """A task whose video has arrived whole."""
    answer = await edge.send("POST", path, BODY, headers={"X-Filename": "clip.mp4"} | headers)
    assert answer.status == 202, answer.body
    return answer.json()["taskId"]


def end(edge: Edge, task_id: str, code: FailureCode | None = AWAY) -> None:
    failure = FailureRecord(code=code, detail="the server is away") if code else None
    media_id = edge.parts.tasks.media_id(task_id) or task_id
    create_record(edge.layout.end(task_id), TaskEnded(task_id=task_id, media_id=media_id, sequence=1, failure=failure))


async def test_a_failed_task_is_done_again_by_another_one_on_the_kept_medium(tmp_path: Path) -> None:
    async with running_edge(tmp_path) as edge:
        task_id = await uploaded(edge, **{"X-Config": '{"shot_threshold": 0.3}'})
        end(edge, task_id)
        answer = await edge.send("POST", f"/tasks/{task_id}/retry")

        assert answer.status == 202, answer.body
        retry = answer.json()["taskId"]
        assert retry != task_id
        assert answer.headers["location"] == f"/tasks/{retry}"
        first, again = edge.outbox.commands
        assert isinstance(again, FindShots)
        assert (again.task_id, again.retry_of, again.options) == (retry, task_id, first.options)
        assert again.options.shot_threshold == 0.3
        assert not again.medium.is_growing
        assert (tmp_path / again.medium.path).read_bytes() == BODY
        assert answer.json()["mediaId"] == again.medium.media_id
        assert (await edge.send("GET", f"/tasks/{task_id}")).json()["retriedAs"] == retry
        assert (await edge.send("GET", f"/tasks/{retry}")).json()["retryOf"] == task_id


async def test_asked_for_many_times_at_once_it_is_one_task(tmp_path: Path) -> None:
    async with running_edge(tmp_path) as edge:
        task_id = await uploaded(edge)
        end(edge, task_id)
        answers = await asyncio.gather(*(edge.send("POST", f"/tasks/{task_id}/retry") for _ in range(8)))
        later = await edge.send("POST", f"/tasks/{task_id}/retry")

        assert {answer.status for answer in answers} == {202}
        assert {answer.json()["taskId"] for answer in (*answers, later)} == {retry_id(task_id)}
        ids = [command.task_id for command in edge.outbox.commands]
        assert ids == [task_id, retry_id(task_id)]


async def test_a_retry_that_fails_is_retried_in_its_turn(tmp_path: Path) -> None:
    async with running_edge(tmp_path) as edge:
        task_id = await uploaded(edge)
        end(edge, task_id)
        first = (await edge.send("POST", f"/tasks/{task_id}/retry")).json()["taskId"]
        assert (await edge.send("POST", f"/tasks/{first}/retry")).json()["code"] == "task_not_failed"
        end(edge, first)
        second = (await edge.send("POST", f"/tasks/{first}/retry")).json()["taskId"]
        again = (await edge.send("POST", f"/tasks/{task_id}/retry")).json()["taskId"]

        assert len({task_id, first, second}) == 3
        assert again == first
        assert edge.outbox.commands[-1].retry_of == first


@pytest.mark.parametrize("code", [None, FailureCode.CANCELLED])
async def test_what_has_not_failed_is_not_done_again(tmp_path: Path, code: FailureCode | None) -> None:
    async with running_edge(tmp_path) as edge:
        task_id = await uploaded(edge)
        running = await edge.send("POST", f"/tasks/{task_id}/retry")
        end(edge, task_id, code)
        ended = await edge.send("POST", f"/tasks/{task_id}/retry")

        assert {(answer.status, answer.json()["code"]) for answer in (running, ended)} == {(409, "task_not_failed")}
        assert len(edge.outbox.commands) == 1


async def test_an_upload_that_was_not_whole_cannot_be_done_again(tmp_path: Path) -> None:
    task_id = str(uuid4())
    async with running_edge(tmp_path) as edge:
        call = edge.request("POST", "/shots", headers={"X-Filename": "a.mp4", "X-Task-Id": task_id})
        call.send(b"some bytes")
        await asyncio.wait_for(edge.outbox.published.wait(), 30)
        end(edge, task_id)
        call.disconnect()
        await call.answer()
        answer = await edge.send("POST", f"/tasks/{task_id}/retry")

        assert (answer.status, answer.json()["code"]) == (404, "medium_missing")


async def test_a_medium_of_a_root_is_looked_at_where_it_lies_and_by_one_at_a_time(tmp_path: Path) -> None:
    medium = Medium(root="videos", path="a.mp4", kind=MediumKind.VIDEO, media_id="m")
    async with running_edge(tmp_path) as edge:
        failed: list[AnyCommand] = [DetectVideo(task_id=str(uuid4()), medium=medium) for _ in range(2)]
        for command in failed:
            edge.parts.tasks.create(command)
            end(edge, command.task_id)
        first = await edge.send("POST", f"/tasks/{failed[0].task_id}/retry")
        twice = await edge.send("POST", f"/tasks/{failed[0].task_id}/retry")
        busy = await edge.send("POST", f"/tasks/{failed[1].task_id}/retry")

        assert (first.status, twice.json()) == (202, first.json())
        assert [command.medium for command in edge.outbox.commands] == [medium]
        assert (busy.status, busy.json()["code"], busy.json()["taskId"]) == (
            409,
            "media_busy",
            first.json()["taskId"],
        )


@pytest.mark.parametrize(("root", "path", "status"), [("videos", "a.mp4", 202), ("storage", "uploads/a/body", 404)])
async def test_a_medium_id_of_somebody_else_s_command_names_no_folder(
    tmp_path: Path, root: str, path: str, status: int
) -> None:
    outside = tmp_path / "outside"
    record = MediaRecord(
        media_id="m", name="a", kind=MediumKind.VIDEO, size_bytes=1, digest="0", created_at=datetime.now(UTC)
    )
    create_record(outside / "media.json", record)
    (outside / "7").touch()
    (tmp_path / "storage" / "media").mkdir(parents=True)
    medium = Medium(root=root, path=path, kind=MediumKind.VIDEO, media_id="../../outside")
    async with running_edge(tmp_path / "storage") as edge:
        command = DetectVideo(task_id=str(uuid4()), medium=medium)
        edge.parts.tasks.create(command)
        end(edge, command.task_id)
        answer = await edge.send("POST", f"/tasks/{command.task_id}/retry")

    assert answer.status == status, answer.body
    assert sorted(file.name for file in outside.iterdir()) == ["7", "media.json"]


async def test_a_retry_waits_in_the_storage_for_a_broker_that_is_away(tmp_path: Path) -> None:
    async with running_edge(tmp_path, confirm_wait_s=0.02) as edge:
        task_id = await uploaded(edge)
        end(edge, task_id)
        edge.outbox.is_away = True
        answer = await edge.send("POST", f"/tasks/{task_id}/retry")
        assert (answer.status, answer.json()["code"]) == (503, "broker_unavailable")

        edge.outbox.is_away = False
        assert await edge.parts.announcer.finish(retry_id(task_id))
        assert edge.outbox.commands[-1].retry_of == task_id


async def test_an_id_that_somebody_else_has_taken_is_not_passed_off_as_the_retry(tmp_path: Path) -> None:
    async with running_edge(tmp_path) as edge:
        task_id = await uploaded(edge)
        end(edge, task_id)
        await uploaded(edge, **{"X-Task-Id": retry_id(task_id)})
        answer = await edge.send("POST", f"/tasks/{task_id}/retry")

        assert (answer.status, answer.json()["code"]) == (409, "task_id_in_use")
        assert (await edge.send("GET", f"/tasks/{task_id}")).json()["retriedAs"] is None


@pytest.mark.parametrize("has_begun", [True, False])
async def test_no_token_goes_to_somebody_elses_task_that_has_the_id_of_the_retry(
    tmp_path: Path, *, has_begun: bool
) -> None:
    auth = Auth(Verifier(SharedKey(SHARED_KEY), Expected()))
    anna, otto = bearer("anna"), bearer("otto")
    async with running_edge(tmp_path, auth=auth) as edge:
        task_id = await uploaded(edge, **anna)
        end(edge, task_id)
        retry = retry_id(task_id)
        taken = edge.request("POST", "/shots", headers={"X-Filename": "clip.mp4", "X-Task-Id": retry} | otto)
        if has_begun:
            taken.send(BODY)
        await until(
            lambda: edge.layout.task_record(retry).exists() or (not has_begun and edge.layout.body(retry).exists())
        )
        told = Annotations(EdgeSettings(storage_dir=str(tmp_path), annotations_url="http://annotations.test"))
        tokens = Tokens(edge.layout, Vault(Sealer("", edge.layout)), told.refresh)
        edge.parts.retries = Retries(
            announcer=edge.parts.announcer, guard=edge.parts.guard, owners=Owners(told, tokens), confirm_wait_s=2.0
        )
        answer = await edge.send("POST", f"/tasks/{task_id}/retry", headers=anna)

        assert (answer.status, answer.json()["code"]) == (409, "task_id_in_use")
        assert not edge.layout.credentials(retry).exists()
        taken.disconnect()
        await taken.answer()


async def test_somebody_elses_task_is_not_there(tmp_path: Path) -> None:
    auth = Auth(Verifier(SharedKey(SHARED_KEY), Expected()))
    anna, otto = bearer("anna"), bearer("otto")
    async with running_edge(tmp_path, auth=auth) as edge:
        task_id = await uploaded(edge, **anna)
        end(edge, task_id)
        foreign = await edge.send("POST", f"/tasks/{task_id}/retry", headers=otto)
        own = await edge.send("POST", f"/tasks/{task_id}/retry", headers=anna)

        assert (foreign.status, foreign.json()["code"]) == (404, "task_not_found")
        assert own.status == 202
        assert edge.outbox.commands[-1].owner == "anna"


async def test_what_is_told_to_the_annotations_service_needs_a_token_again(tmp_path: Path) -> None:
    medium = Medium(root="videos", path="a.mp4", kind=MediumKind.VIDEO, media_id="m")
    posted = DetectVideo(
        task_id=str(uuid4()), medium=medium, owner="anna", is_posted=True, options=DetectionOptions(shots=True)
    )
    async with running_edge(tmp_path) as edge:
        edge.parts.tasks.create(posted)
        end(edge, posted.task_id)
        answer = await edge.send("POST", f"/tasks/{posted.task_id}/retry")

        assert (answer.status, answer.json()["code"]) == (401, "unauthenticated")
        assert edge.outbox.commands == []


def test_the_id_of_a_retry_is_a_task_id() -> None:
    task_id = str(uuid4())
    made = msgspec.structs.replace(
        FindShots(task_id=task_id, medium=Medium(root="storage", path="a", kind=MediumKind.VIDEO)),
        task_id=retry_id(task_id),
        retry_of=task_id,
    )
    assert msgspec.json.decode(msgspec.json.encode(made), type=FindShots) == made
