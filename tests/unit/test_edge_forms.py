"""`POST /detect`: forms in, detections out, and everything that may be wrong with either."""

import asyncio
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from contracts.commands import DetectImage, DetectVideo
from contracts.detections import Counts, Detection
from contracts.events import FrameDetected, TaskEnded
from contracts.failures import FailureCode, FailureRecord
from contracts.media import MediumKind
from contracts.options import CONFIG_BYTES_MAX
from contracts.results import Checkpoint, Reported
from contracts.storage import create_record
from tests.edge_app import Answer, Edge, files_below, names_in, running_edge, until
from tests.forms import CONTENT_TYPE, MP4, PNG, Field, config, form, picture

HEADERS = {"Content-Type": CONTENT_TYPE}
SEEN = Detection(center_x=0.5, center_y=0.5, width=0.1, height=0.2, class_num=3, label="car", confidence=0.75)
SEEN_JSON = {
    "centerX": 0.5,
    "centerY": 0.5,
    "width": 0.1,
    "height": 0.2,
    "classNum": 3,
    "label": "car",
    "confidence": 0.75,
}


def consumer_sees(edge: Edge, *detections: Detection) -> None:
    """What a consumer publishes about the last quiet picture."""
    task_id = edge.outbox.commands[-1].task_id
    edge.feed.tell(FrameDetected(task_id=task_id, media_id="m", sequence=1, annotations=list(detections)))
    edge.feed.tell(TaskEnded(task_id=task_id, media_id="m", sequence=2, percent=100))


def consumer_fails(edge: Edge, code: FailureCode) -> None:
    failure = FailureRecord(code=code, detail="the reason")
    edge.feed.tell(TaskEnded(task_id=edge.outbox.commands[-1].task_id, media_id="m", sequence=1, failure=failure))


async def post(edge: Edge, body: bytes, **headers: str) -> "asyncio.Task[Answer]":
    """A form on its way, its command already published."""
    before = len(edge.outbox.commands)
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    sending = asyncio.create_task(edge.send("POST", "/detect", body, headers=HEADERS | headers))
    await until(lambda: len(edge.outbox.commands) > before or sending.done())
    return sending


async def test_a_picture_is_answered_with_its_detections_and_leaves_nothing_behind(tmp_path: Path) -> None:
    async with running_edge(tmp_path) as edge:
        sending = await post(edge, form(picture(), config('{"probability_threshold": 0.5}')))
        (command,) = edge.outbox.commands
        assert isinstance(command, DetectImage)
        assert (command.is_quiet, command.options.probability_threshold) == (True, 0.5)
        assert (tmp_path / command.medium.path).read_bytes() == PNG
        consumer_sees(edge, SEEN)
        answer = await sending
        await edge.parts.background.settle()

        assert (answer.status, answer.json()) == (200, [SEEN_JSON])
        assert files_below(tmp_path) == []
        assert edge.feed.listeners == 0


async def test_a_picture_leaves_nothing_behind_also_when_much_is_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.background.TASKS_MAX", 0)
    async with running_edge(tmp_path) as edge:
        sending = await post(edge, form(picture()))
        consumer_sees(edge)
        assert (await sending).status == 200
        assert names_in(tmp_path / "uploads") == []


async def test_a_picture_in_which_nothing_is_seen_is_answered_with_an_empty_array(tmp_path: Path) -> None:
    async with running_edge(tmp_path) as edge:
        sending = await post(edge, form(picture()))
        consumer_sees(edge)
        assert (await sending).body == b"[]"


async def test_a_report_that_comes_twice_is_answered_once(tmp_path: Path) -> None:
    async with running_edge(tmp_path) as edge:
        sending = await post(edge, form(picture()))
        task_id = edge.outbox.commands[0].task_id
        edge.feed.tell(FrameDetected(task_id=task_id, media_id="m", sequence=1, annotations=[SEEN]))
        consumer_sees(edge, SEEN)
        assert (await sending).json() == [SEEN_JSON]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (form(picture(b"")), 400, "empty_media"),
        (form(config("{}")), 400, "malformed_request"),
        (form(), 400, "malformed_request"),
        (b"", 400, "empty_media"),
        (form(picture(), picture()), 400, "malformed_request"),
        (form(picture(), config("{}"), config("{}")), 400, "malformed_request"),
        (form(picture(), is_whole=False), 400, "malformed_request"),
        (form(picture(bytes(range(3, 200)) * 30)), 400, "unsupported_media"),
        (form(picture(b"ffconcat version 1.0\nfile x\n", "a.mp4")), 400, "unsupported_media"),
        (form(config("{"), picture()), 400, "malformed_options"),
        (form(picture(), config("[]")), 400, "malformed_options"),
        (form(picture(), config("{}" + " " * CONFIG_BYTES_MAX)), 400, "malformed_options"),
        (form(picture(), config('{"model_batch_size": 65}')), 422, "options_out_of_range"),
        (form(picture(PNG, "x" * 300 + ".png")), 400, "malformed_request"),
        (form(picture(PNG, "a\x00b.png")), 400, "malformed_request"),
        (form(*[Field("other", b"x")] * 40), 400, "malformed_request"),
        (b"no form at all", 400, "malformed_request"),
        (form(Field("other", b"x"), Field("other", b"x"), picture(b"")), 400, "empty_media"),
    ],
)
async def test_a_form_that_is_wrong_is_refused_without_asking_anybody(
    tmp_path: Path, body: bytes, status: int, code: str
) -> None:
    async with running_edge(tmp_path) as edge:
        answer = await edge.send("POST", "/detect", body, headers=HEADERS)
        await edge.parts.background.settle()

        assert (answer.status, answer.json()["code"]) == (status, code), answer.body
        assert answer.headers["content-type"].startswith("application/problem+json")
        assert edge.outbox.commands == []
        assert names_in(tmp_path / "uploads") == []


async def test_a_form_with_a_name_of_no_utf_8_is_refused_in_words(tmp_path: Path) -> None:
    body = form(picture(PNG, "größe.png")).replace("größe".encode(), "größe".encode("latin-1"))
    async with running_edge(tmp_path) as edge:
        answer = await edge.send("POST", "/detect", body, headers=HEADERS)

        assert (answer.status, answer.json()["code"]) == (400, "malformed_request")
        assert answer.json()["detail"] == "the form cannot be read: Segment header failed to decode"


@pytest.mark.parametrize("content_type", ["application/json", "image/png", "multipart/mixed; boundary=x"])
async def test_another_content_type_is_refused_as_such(tmp_path: Path, content_type: str) -> None:
    async with running_edge(tmp_path) as edge:
        answer = await edge.send("POST", "/detect", form(picture()), headers={"Content-Type": content_type})
        assert (answer.status, answer.json()["code"]) == (415, "unsupported_content_type")


async def test_a_form_without_a_boundary_is_refused(tmp_path: Path) -> None:
    async with running_edge(tmp_path) as edge:
        answer = await edge.send("POST", "/detect", form(picture()), headers={"Content-Type": "multipart/form-data"})
        assert (answer.status, answer.json()["code"]) == (400, "malformed_request")


async def test_a_body_that_announces_too_much_is_refused_before_it_is_read(tmp_path: Path) -> None:
    async with running_edge(tmp_path, upload_bytes_max=1000) as edge:
        call = edge.request("POST", "/detect", headers=HEADERS | {"Content-Length": "1001"})
        assert (await call.answer()).status == 413


async def test_a_body_that_becomes_too_much_is_refused_in_the_middle(tmp_path: Path) -> None:
    async with running_edge(tmp_path, upload_bytes_max=1000) as edge:
        call = edge.request("POST", "/detect", headers=HEADERS)
        call.send(form(picture(PNG), is_whole=False))
        answer = await call.answer()
        assert (answer.status, answer.json()["code"]) == (413, "too_large")


async def test_a_form_that_would_not_fit_is_refused_before_it_is_read(tmp_path: Path) -> None:
    async with running_edge(tmp_path, free_bytes_min=1, upload_bytes_max=10**18) as edge:
        length = {"Content-Length": str(shutil.disk_usage(tmp_path).total)}
        answer = await edge.request("POST", "/detect", headers=HEADERS | length).answer()
        assert (answer.status, answer.json()["code"]) == (507, "storage_full")


async def test_a_form_that_takes_what_is_to_stay_free_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.form_intake.DISK_LOOK_S", 0.001)
    async with running_edge(tmp_path) as edge:
        call = edge.request("POST", "/detect", headers=HEADERS)
        call.send(form(picture())[:-20])
        await until(lambda: names_in(tmp_path / "uploads"))
        monkeypatch.setattr(edge.parts.uploads, "_free_bytes_min", shutil.disk_usage(tmp_path).total)
        answer = await call.answer()  # the body has not ended

        assert (answer.status, answer.json()["code"]) == (507, "storage_full")
        assert names_in(tmp_path / "uploads") == []


async def test_without_a_consumer_a_picture_is_refused_at_once_and_in_the_middle_of_its_body(tmp_path: Path) -> None:
    async with running_edge(tmp_path, is_consumer_alive=False) as edge:
        call = edge.request("POST", "/detect", headers=HEADERS)
        call.send(form(picture(PNG * 4), is_whole=False))
        answer = await call.answer()

        assert (answer.status, answer.json()["code"]) == (503, "engine_unavailable")
        assert answer.headers["retry-after"] == "5"


async def test_random_bytes_are_refused_also_without_a_consumer(tmp_path: Path) -> None:
    async with running_edge(tmp_path, is_consumer_alive=False) as edge:
        answer = await edge.send("POST", "/detect", form(picture(bytes(2000), "a.jpg")), headers=HEADERS)
        assert (answer.status, answer.json()["code"]) == (400, "unsupported_media")


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (FailureCode.UNREADABLE_MEDIA, 400),
        (FailureCode.TOO_MANY_PIXELS, 413),
        (FailureCode.INFERENCE_FAILED, 422),
        (FailureCode.MODEL_MISSING, 503),
    ],
)
async def test_what_the_consumer_says_is_the_answer(tmp_path: Path, code: FailureCode, status: int) -> None:
    async with running_edge(tmp_path) as edge:
        sending = await post(edge, form(picture()))
        consumer_fails(edge, code)
        answer = await sending
        assert (answer.status, answer.json()["code"], answer.json()["detail"]) == (status, code.value, "the reason")


async def test_no_answer_in_time_is_said_and_the_task_is_cancelled(tmp_path: Path) -> None:
    async with running_edge(tmp_path, answer_wait_s=0.01) as edge:
        answer = await edge.send("POST", "/detect", form(picture()), headers=HEADERS)

        assert (answer.status, answer.json()["code"]) == (504, "no_answer")
        assert edge.outbox.cancelled == [edge.outbox.commands[0].task_id]


async def test_whoever_waits_when_an_alarm_begins_is_told_and_need_not_wait_for_its_end(tmp_path: Path) -> None:
    async with running_edge(tmp_path) as edge:
        sending = await post(edge, form(picture()))
        edge.outbox.is_blocked = True
        answer = await sending

        assert (answer.status, answer.json()["code"], answer.headers["retry-after"]) == (503, "broker_unavailable", "5")


async def test_a_client_that_no_longer_waits_cancels_its_task(tmp_path: Path) -> None:
    async with running_edge(tmp_path) as edge:
        call = edge.request("POST", "/detect", headers=HEADERS)
        call.send(form(picture()))
        call.end()
        await until(lambda: edge.outbox.commands)
        call.disconnect()
        await call.answer()
        assert edge.outbox.cancelled == [edge.outbox.commands[0].task_id]


async def test_a_broker_that_is_away_is_said_at_once(tmp_path: Path) -> None:
    async with running_edge(tmp_path) as edge:
        edge.outbox.is_away = True
        answer = await edge.send("POST", "/detect", form(picture()), headers=HEADERS)
        assert (answer.status, answer.json()["code"]) == (503, "broker_unavailable")


async def test_a_video_is_answered_with_the_timed_detections_of_all_its_reports(tmp_path: Path) -> None:
    async with running_edge(tmp_path) as edge:
        sending = await post(edge, form(picture(MP4, "a.mp4")))
        (command,) = edge.outbox.commands
        assert isinstance(command, DetectVideo)
        assert (command.is_quiet, command.medium.is_growing) == (True, False)
        assert edge.layout.source(command.medium.media_id or "").read_bytes() == MP4
        _report(edge, command.task_id, 1, "00:00:00.000", SEEN)
        _report(edge, command.task_id, 2, "00:00:02.040", SEEN, SEEN)
        end = TaskEnded(task_id=command.task_id, media_id="m", sequence=3, is_partial=True)
        create_record(edge.layout.end(command.task_id), end)
        edge.feed.tell(end)
        answer = await sending

        assert answer.status == 200
        assert [seen["videoTime"] for seen in answer.json()] == ["00:00:00.000", "00:00:02.040", "00:00:02.040"]
        assert answer.json()[0] == SEEN_JSON | {"videoTime": "00:00:00.000"}
        assert "cut or damaged" in answer.headers["warnings"]


async def test_the_end_of_a_video_is_found_in_the_storage_when_the_feed_is_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.answers.POLL_S", 0.001)
    async with running_edge(tmp_path) as edge:
        sending = await post(edge, form(picture(MP4, "a.mp4")))
        task_id = edge.outbox.commands[0].task_id
        create_record(edge.layout.end(task_id), TaskEnded(task_id=task_id, media_id="m", sequence=1))
        assert (await sending).json() == []


def _report(edge: Edge, task_id: str, sequence: int, video_time: str, *seen: Detection) -> None:
    event = FrameDetected(
        task_id=task_id, media_id="m", sequence=sequence, video_time=video_time, annotations=list(seen)
    )
    with edge.layout.results(task_id, epoch=1).open("ab") as file:
        for record in (Reported(event=event), Checkpoint(frame_index=0, at_s=0.0, counts=Counts(), sequence=sequence)):
            file.write(msgspec.json.encode(record) + b"\n")


@pytest.mark.parametrize(("field", "kind"), [(picture(), MediumKind.IMAGE), (picture(MP4, "b.mp4"), MediumKind.VIDEO)])
async def test_a_client_that_prefers_not_to_wait_is_told_where_to_look(
    tmp_path: Path, field: Field, kind: MediumKind
) -> None:
    async with running_edge(tmp_path, is_consumer_alive=False) as edge:
        answer = await edge.send("POST", "/detect", form(field), headers=HEADERS | {"Prefer": "wait=5, respond-async"})
        (command,) = edge.outbox.commands

        assert (answer.status, answer.json()["taskId"]) == (202, command.task_id)
        assert answer.headers["location"] == f"/tasks/{command.task_id}"
        assert answer.headers["preference-applied"] == "respond-async"
        assert (command.is_quiet, command.medium.kind) == (False, kind)
        status = await edge.send("GET", f"/tasks/{command.task_id}")
        assert (status.json()["status"], status.json()["mediaId"]) == ("Queued", answer.json()["mediaId"])
        assert (tmp_path / command.medium.path).read_bytes() == field.content


async def test_the_kind_of_a_file_without_a_telling_name_is_seen_by_its_content(tmp_path: Path) -> None:
    async with running_edge(tmp_path) as edge:
        sending = await post(edge, form(Field("file", PNG, "picture")))
        assert isinstance(edge.outbox.commands[0], DetectImage)
        consumer_sees(edge)
        assert (await sending).status == 200


async def test_fields_that_are_not_known_are_ignored_with_a_warning(tmp_path: Path) -> None:
    async with running_edge(tmp_path) as edge:
        sending = await post(edge, form(picture(), config('{"colour": 1, "a\\r\\nb": 2}')))
        consumer_sees(edge)
        assert (await sending).headers["warnings"] == "unknown config fields ignored: colour, a%0D%0Ab"


async def test_the_same_key_gets_the_same_answer_without_asking_again(tmp_path: Path) -> None:
    async with running_edge(tmp_path) as edge:
        sending = await post(edge, form(picture()), Idempotency_Key="k-1")
        consumer_sees(edge, SEEN)
        first = await sending
        second = await edge.send("POST", "/detect", form(picture()), headers=HEADERS | {"Idempotency-Key": "k-1"})

        assert (first.status, second.status, second.json()) == (200, 200, [SEEN_JSON])
        assert len(edge.outbox.commands) == 1


async def test_a_key_whose_task_waits_for_the_broker_is_not_another_task(tmp_path: Path) -> None:
    headers = HEADERS | {"Prefer": "respond-async", "Idempotency-Key": "k-1"}
    async with running_edge(tmp_path, confirm_wait_s=0.02) as edge:
        edge.outbox.is_away = True
        early = [await edge.send("POST", "/detect", form(picture()), headers=headers) for _ in range(2)]
    async with running_edge(tmp_path, confirm_wait_s=60.0) as edge:
        late = await edge.send("POST", "/detect", form(picture()), headers=headers)

        assert [answer.status for answer in early] == [503, 503]
        assert late.status == 202
        assert {answer.headers["location"] for answer in [*early, late]} == {f"/tasks/{late.json()['taskId']}"}
        assert {command.task_id for command in edge.outbox.commands} == {late.json()["taskId"]}
        assert names_in(tmp_path / "tasks") == [late.json()["taskId"]]


async def test_a_key_whose_task_has_had_its_time_is_not_answered_with_nothing(tmp_path: Path) -> None:
    async with running_edge(tmp_path, tasks_kept_s=0.3) as edge:
        for _ in range(2):
            sending = await post(edge, form(picture(MP4, "a.mp4")), Idempotency_Key="k-1")
            task_id = edge.outbox.commands[-1].task_id
            _report(edge, task_id, 1, "00:00:00.000", SEEN)
            end = TaskEnded(task_id=task_id, media_id="m", sequence=2, at=datetime.now(UTC))
            create_record(edge.layout.end(task_id), end)
            edge.feed.tell(end)
            assert len((await sending).json()) == 1
            await asyncio.sleep(0.5)
            await asyncio.to_thread(edge.parts.janitor.sweep)


@pytest.mark.parametrize("other", [picture(PNG + b"x"), picture(PNG, "b.png")])
async def test_the_same_key_with_another_body_is_refused(tmp_path: Path, other: Field) -> None:
    async with running_edge(tmp_path) as edge:
        sending = await post(edge, form(picture()), Idempotency_Key="k-1")
        consumer_sees(edge)
        await sending
        answer = await edge.send("POST", "/detect", form(other), headers=HEADERS | {"Idempotency-Key": "k-1"})
        assert (answer.status, answer.json()["code"]) == (422, "idempotency_key_reused")


async def test_the_same_key_while_the_first_request_runs_is_refused(tmp_path: Path) -> None:
    async with running_edge(tmp_path) as edge:
        sending = await post(edge, form(picture()), Idempotency_Key="k-1")
        answer = await edge.send("POST", "/detect", form(picture()), headers=HEADERS | {"Idempotency-Key": "k-1"})
        assert (answer.status, answer.json()["code"]) == (409, "idempotency_key_in_use")
        consumer_sees(edge)
        assert (await sending).status == 200


@pytest.mark.parametrize(("code", "commands"), [(FailureCode.UNREADABLE_MEDIA, 1), (FailureCode.ENGINE_UNAVAILABLE, 2)])
async def test_a_failure_of_the_medium_is_kept_for_its_key_and_one_of_the_service_is_not(
    tmp_path: Path, code: FailureCode, commands: int
) -> None:
    async with running_edge(tmp_path) as edge:
        answers: list[Any] = []
        for _ in range(2):
            sending = await post(edge, form(picture()), Idempotency_Key="k-1")
            if not sending.done():
                consumer_fails(edge, code)
            answers.append((await sending).json()["code"])
        assert answers == [code.value, code.value]
        assert len(edge.outbox.commands) == commands
