"""Who is let in over HTTP, and what they see of others: nothing."""

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from uuid import uuid4

import pytest
from litestar import Litestar
from litestar.handlers import HTTPRouteHandler

from contracts.commands import DetectVideo
from contracts.media import MediumKind
from contracts.storage import upload_medium
from edge.app import build
from edge.auth import Auth
from edge.jwts import Expected, SharedKey, Verifier
from edge.settings import EdgeSettings
from tests.edge_app import Answer, Call, Edge, files_below, running_edge
from tests.forms import CONTENT_TYPE, MP4, form, picture
from tests.signing import SHARED_KEY, assembled, bearer, claims

OPEN = {
    *("/health", "/health/live", "/health/ready"),
    *("/schema", "/schema/openapi.json", "/schema/{path:str}"),
    *("/", "/ui/{name:str}"),
}
TASK = "b73c28a7-f1d3-4887-80ff-4723caf3b306"


def closed_edge(root: Path) -> AbstractAsyncContextManager[Edge]:
    return running_edge(root, auth=Auth(Verifier(SharedKey(SHARED_KEY), Expected())))


def closed_app(root: Path, **settings: str) -> Litestar:
    return build(EdgeSettings(auth="jwt", jwt_key=SHARED_KEY, storage_dir=str(root), **settings))


async def asked(app: Litestar, method: str, path: str, **headers: str) -> Answer:
    call = Call(app, method, path, headers)
    call.end()
    return await call.answer()


def contents_below(root: Path) -> list[bytes]:
    return [path.read_bytes() for path in root.rglob("*") if path.is_file()]


def task_of(edge: Edge, owner: str | None) -> str:
    task_id = str(uuid4())
    medium = upload_medium(task_id, kind=MediumKind.VIDEO, name="a.mp4", is_growing=True)
    edge.parts.tasks.create(DetectVideo(task_id=task_id, medium=medium, owner=owner))
    return task_id


async def test_every_route_but_health_the_schema_and_the_page_is_closed(tmp_path: Path) -> None:
    app = closed_app(tmp_path)
    handlers = [(route.path, handler) for route in app.routes for handler in getattr(route, "route_handlers", [])]
    asked_for: list[str] = []
    for path, handler in handlers:
        if not isinstance(handler, HTTPRouteHandler) or path in OPEN:
            continue
        for method in handler.http_methods - {"OPTIONS"}:
            where = path.replace("{task_id:str}", TASK).replace("{media_id:str}", "some-medium")
            refused = await asked(app, method, where)
            assert (refused.status, refused.headers["www-authenticate"]) == (401, "Bearer"), f"{method} {path}"
            assert refused.json()["code"] == "unauthenticated"
            asked_for.append(path)

    assert {"/detect", "/detect/video", "/detect/stream", "/detect/stream/ticket", "/tasks/{task_id:str}"} <= {
        *asked_for
    }
    assert files_below(tmp_path) == []


@pytest.mark.parametrize("path", ["/health", "/health/live", "/schema/openapi.json", "/", "/ui/main.js"])
async def test_health_the_schema_and_the_page_stay_open(tmp_path: Path, path: str) -> None:
    assert (await asked(closed_app(tmp_path), "GET", path)).status == 200


async def test_a_refused_token_is_told_so_and_never_quoted(tmp_path: Path) -> None:
    async with closed_edge(tmp_path) as edge:
        forged = assembled({"alg": "none"}, claims())
        answer = await edge.send("GET", f"/tasks/{TASK}", headers={"Authorization": f"Bearer {forged}"})

        assert answer.status == 401
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'
        assert not [part for part in forged.split(".") if part and part.encode() in answer.body]


async def test_a_valid_token_without_the_scope_is_forbidden(tmp_path: Path) -> None:
    app = closed_app(tmp_path, jwt_scope="detect:write")
    answer = await asked(app, "GET", f"/tasks/{TASK}", **bearer())

    assert (answer.status, answer.json()["code"]) == (403, "forbidden")
    assert answer.headers["www-authenticate"] == 'Bearer error="insufficient_scope"'


@pytest.mark.parametrize("path", ["/detect", "/detect/video"])
async def test_a_stranger_is_refused_before_a_byte_of_the_body_is_read(tmp_path: Path, path: str) -> None:
    async with closed_edge(tmp_path) as edge:
        call = edge.request("POST", path, headers={"content-length": "1000000000", "x-filename": "a.mp4"})
        answer = await call.answer()

        assert answer.status == 401
        assert answer.headers["connection"] == "close"
        assert not edge.layout.uploads.exists()


@pytest.mark.parametrize(("method", "what"), [("GET", ""), ("GET", "/results"), ("DELETE", "")])
@pytest.mark.parametrize("owner", ["bob", None])
async def test_somebody_else_s_task_is_answered_as_one_that_does_not_exist(
    tmp_path: Path, method: str, what: str, owner: str | None
) -> None:
    async with closed_edge(tmp_path) as edge:
        theirs, absent = task_of(edge, owner), str(uuid4())
        answers = [
            await edge.send(method, f"/tasks/{task_id}{what}", headers=bearer("ada")) for task_id in (theirs, absent)
        ]

        assert [answer.status for answer in answers] == [404, 404]
        assert answers[0].body.replace(theirs.encode(), absent.encode()) == answers[1].body
        assert answers[0].headers == answers[1].headers
        assert edge.outbox.cancelled == []
        assert not edge.layout.cancel(theirs).exists()


async def test_my_own_task_is_mine_to_see_and_to_stop(tmp_path: Path) -> None:
    async with closed_edge(tmp_path) as edge:
        task_id = task_of(edge, "ada")

        assert (await edge.send("GET", f"/tasks/{task_id}", headers=bearer("ada"))).json()["taskId"] == task_id
        assert (await edge.send("GET", f"/tasks/{task_id}/results", headers=bearer("ada"))).status == 200
        assert (await edge.send("DELETE", f"/tasks/{task_id}", headers=bearer("ada"))).status == 202
        assert edge.outbox.cancelled == [task_id]


async def test_a_video_and_a_form_belong_to_who_sent_them(tmp_path: Path) -> None:
    async with closed_edge(tmp_path) as edge:
        video = await edge.send("POST", "/detect/video", MP4, headers={"X-Filename": "a.mp4"} | bearer("ada"))
        asks = {"Content-Type": CONTENT_TYPE, "Prefer": "respond-async"} | bearer("bob")
        posted = await edge.send("POST", "/detect", form(picture()), headers=asks)

        assert (video.status, posted.status) == (202, 202)
        assert [command.owner for command in edge.outbox.commands] == ["ada", "bob"]


async def test_an_idempotency_key_is_its_user_s_own(tmp_path: Path) -> None:
    async with closed_edge(tmp_path) as edge:
        asks = {"Content-Type": CONTENT_TYPE, "Prefer": "respond-async", "Idempotency-Key": "the same"}
        answers = [
            await edge.send("POST", "/detect", form(picture()), headers=asks | bearer(name))
            for name in ("ada", "bob", "ada")
        ]
        task_ids = [answer.json()["taskId"] for answer in answers]

        assert [answer.status for answer in answers] == [202, 202, 202]
        assert task_ids[0] == task_ids[2] != task_ids[1]


async def test_while_authentication_is_off_everybody_sees_everything(tmp_path: Path) -> None:
    async with running_edge(tmp_path) as edge:
        task_id = task_of(edge, "bob")

        assert (await edge.send("GET", f"/tasks/{task_id}")).status == 200
        assert (await edge.send("GET", f"/tasks/{task_id}", headers=bearer("ada"))).status == 200


@pytest.mark.parametrize(("site", "status"), [("cross-site", 403), ("same-origin", 202), ("none", 202)])
async def test_while_authentication_is_off_a_page_of_another_site_may_send_nothing(
    tmp_path: Path, site: str, status: int
) -> None:
    async with running_edge(tmp_path) as edge:
        body, headers = form(picture(MP4, name="a.mp4")), {"Content-Type": CONTENT_TYPE, "Sec-Fetch-Site": site}
        assert (await edge.send("POST", "/shots", body, headers=headers)).status == status
        assert (await edge.send("GET", f"/tasks/{task_of(edge, None)}", headers={"Sec-Fetch-Site": site})).status == 200


async def test_no_answer_and_no_file_has_the_token(tmp_path: Path) -> None:
    async with closed_edge(tmp_path) as edge:
        headers = bearer("ada") | {"X-Refresh-Token": "canary-refresh"}
        answer = await edge.send("POST", "/detect/video", MP4, headers={"X-Filename": "a.mp4"} | headers)
        secrets = [headers["Authorization"].split(".")[-1].encode(), b"canary-refresh"]
        everything = [answer.body, *contents_below(tmp_path)]

        assert len(everything) > 3
        assert not [secret for secret in secrets for content in everything if secret in content]
