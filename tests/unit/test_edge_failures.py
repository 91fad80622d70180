"""Every failure as a client meets it."""

from http import HTTPStatus
from pathlib import Path

import pytest
from litestar import Litestar, get

from contracts.failures import FailureCode
from edge.app import build
from edge.failures import EXCEPTION_HANDLERS, STATUS
from edge.settings import EdgeSettings
from tests.edge_app import Call, running_edge
from tests.unit.small_disk import make_read_only, small_disk

__all__ = ["small_disk"]


def test_every_code_has_a_status() -> None:
    assert set(STATUS) == set(FailureCode)
    assert all(status >= HTTPStatus.BAD_REQUEST for status in STATUS.values())


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [("GET", "/nothing", 404, "not_found"), ("PUT", "/detect", 405, "method_not_allowed")],
)
async def test_what_the_framework_refuses_is_a_problem_too(
    tmp_path: Path, method: str, path: str, status: int, code: str
) -> None:
    async with running_edge(tmp_path) as edge:
        answer = await edge.send(method, path)
        problem = answer.json()
        assert (answer.status, problem["status"], problem["code"]) == (status, status, code)
        assert problem["type"] == f"/problems/{code}"
        assert problem["instance"] == path
        assert answer.headers["content-type"].startswith("application/problem+json")


async def test_a_defect_of_ours_tells_a_client_a_number_and_nothing_else() -> None:
    @get("/broken", sync_to_thread=False)
    def broken() -> None:
        raise ZeroDivisionError("secret detail")

    app = Litestar([broken], exception_handlers=EXCEPTION_HANDLERS, openapi_config=None, logging_config=None)
    call = Call(app, "GET", "/broken", {})
    call.end()
    answer = await call.answer()
    assert (answer.status, answer.json()["code"]) == (500, "internal")
    assert "incident" in answer.json()["detail"]
    assert b"secret" not in answer.body
    assert b"Traceback" not in answer.body


async def test_a_storage_that_refuses_is_no_defect_of_ours(small_disk: Path) -> None:
    async with running_edge(small_disk) as edge:
        make_read_only(small_disk)
        answer = await edge.send("POST", "/detect/video", b"body", headers={"x-filename": "a.mp4"})

    assert (answer.status, answer.json()["code"]) == (503, "storage_unavailable")
    assert answer.json()["detail"] == "the storage refuses: Read-only file system"


async def test_the_schema_describes_what_the_signatures_cannot() -> None:
    paths = build(EdgeSettings()).openapi_schema.to_schema()["paths"]
    video, form = paths["/detect/video"]["post"], paths["/detect"]["post"]
    assert video["operationId"] == "detectVideo"
    assert list(video["requestBody"]["content"]) == ["application/octet-stream"]
    assert [parameter["name"] for parameter in video["parameters"]] == [
        "X-Refresh-Token",
        "X-Filename",
        "X-Config",
        "X-Task-Id",
        "X-Tail-Bytes",
        "Upload-Complete",
        "Upload-Length",
    ]
    assert set(video["responses"]["202"]["headers"]) == {"Location", "warnings", "Upload-Complete"}
    assert {"Upload-Offset", "Upload-Complete"} <= set(
        paths["/uploads/{task_id}"]["head"]["responses"]["204"]["headers"]
    )
    assert {"202", "400", "409", "411", "413", "422", "507"} <= set(video["responses"])
    assert list(form["requestBody"]["content"]) == ["multipart/form-data"]
    assert {"200", "202", "400", "413", "415", "422", "503", "504"} <= set(form["responses"])
    assert list(form["responses"]["504"]["content"]) == ["application/problem+json"]
    assert "no_video_stream" in form["responses"]["400"]["description"]


@pytest.mark.parametrize("code", ["model_corrupt", "model_not_a_detector", "medium_missing", "delivered_too_often"])
async def test_the_schema_names_what_a_consumer_may_end_a_task_with(code: str) -> None:
    paths = build(EdgeSettings()).openapi_schema.to_schema()["paths"]

    of_a_form = paths["/detect"]["post"]["responses"][str(STATUS[FailureCode(code)].value)]
    assert code in of_a_form["description"]
    assert code in paths["/detect/video"]["post"]["responses"]["422"]["description"]
