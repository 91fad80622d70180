"""Shots through the whole system: found while their video arrives, alone or with objects, and what may go wrong."""

import csv
import io
import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from contracts.events import DetectionEvent, MediaStatus
from contracts.results import latest_epoch
from contracts.shots import Shot
from contracts.storage import Layout
from detections import Client
from detections.answers import ServiceError, Task, TaskStatus
from detections.cli import build
from detections.local import LocalStack
from tests.cut_finder import write_scenes
from tests.fault.resuming_client import ResumingClient
from tests.gated import Gated
from tests.media import RED, Container, Square, write_image
from tests.processes import wait_until
from tests.shots_here import shots_here

pytestmark = pytest.mark.e2e

WAIT_S = 60.0
CUTS = (60, 130, 175)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    return write_scenes(folder / "a.mp4", *CUTS, frames=240, container=Container.MP4_FRAGMENTED)


@pytest.fixture(scope="module")
def expected(scenes: Path) -> list[tuple[int, int]]:
    """What is to be found in them."""
    shots = shots_here(scenes)
    assert len(shots) == len(CUTS) + 1
    return shots


@pytest.fixture
def http(stack: LocalStack) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=stack.url, timeout=WAIT_S) as client:
        yield client


def of(events: list[DetectionEvent]) -> list[Shot]:
    return [shot for event in events for shot in event.shots or ()]


def frames(shots: list[Shot]) -> list[tuple[int, int]]:
    return [(shot.start_frame, shot.end_frame) for shot in shots]


def ended(client: Client, task_id: str) -> Task:
    deadline_s = time.monotonic() + WAIT_S
    while time.monotonic() < deadline_s:
        task = client.task(task_id)
        if task.status.is_end:
            return task
        time.sleep(0.05)
    raise AssertionError(f"task {task_id} did not end")


def in_thread(work: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    """The thread, and what the work returned or raised once it has ended."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(work())
        except ServiceError as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, outcome


def test_shots_are_told_before_their_video_has_arrived(
    client: Client, scenes: Path, expected: list[tuple[int, int]]
) -> None:
    content = scenes.read_bytes()
    file = Gated(content, open_bytes=len(content) * 3 // 4)
    task_id = str(uuid.uuid4())
    told: list[DetectionEvent] = []
    with client.listen(task_id) as events:
        sending, started = in_thread(lambda: client.find_shots(file, name="a.mp4", task_id=task_id))
        for event in events:
            told.append(event)
            if event.shots and not file.gate.is_set():
                assert sending.is_alive()
                file.gate.set()
        sending.join(WAIT_S)

    assert frames(of(told)) == expected
    assert [shot.transition for shot in of(told)] == ["cut", "cut", "cut", None]
    assert (told[-1].media_status, told[-1].media_id) == (MediaStatus.AI_PROCESSED, started[0].media_id)
    assert told[-1].counts is not None
    assert told[-1].counts.shots == 4
    assert frames(of(client.results(task_id))) == expected
    task = client.task(task_id)
    assert (task.kind, task.status, task.percent) == ("shots", TaskStatus.SUCCEEDED, 100)
    engine = client.health().consumers[0].shots
    assert engine is not None
    assert (engine.ai_availability, engine.engine_type, engine.model) == ("Enabled", "onnx", "shots-small")


def test_a_form_and_a_stream_find_the_same(
    http: httpx.Client, client: Client, scenes: Path, expected: list[tuple[int, int]]
) -> None:
    answer = http.post("/shots", files={"file": ("a.mp4", scenes.read_bytes())}, data={"config": "{}"})
    assert answer.status_code == 202, answer.text
    task_id = answer.json()["taskId"]

    assert ended(client, task_id).status is TaskStatus.SUCCEEDED
    assert frames(of(client.results(task_id))) == expected
    table = http.get(f"/tasks/{task_id}/results", headers={"Accept": "text/csv"})
    assert table.headers["content-type"].startswith("text/csv")
    assert [int(row["Length (frames)"]) for row in csv.DictReader(io.StringIO(table.text))] == [
        last - first + 1 for first, last in expected
    ]


def test_objects_and_shots_come_of_one_pass(client: Client, tmp_path: Path) -> None:
    red = Square(rgb=RED, x=16, y=16, side=32)
    video = write_scenes(tmp_path / "both.mp4", 60, frames=150, over=(red,))
    config: dict[str, object] = {"shots": True, "frame_recognition_seconds": 3600, "frame_period_recognition": 1}
    started = client.submit(video, config=config)
    told = list(client.events(started.task_id))

    assert frames(of(told)) == shots_here(video)
    first_sights = [event.frame_index for event in told if any(seen.label == "red" for seen in event.annotations)]
    assert first_sights == [shot.start_frame for shot in of(told)], "each shot's first detections are reported"
    assert told[-1].counts is not None
    assert (told[-1].counts.shots, told[-1].counts.decoded) == (2, 150)


def test_a_search_goes_on_when_its_upload_does_over_another_connection(
    stack: LocalStack, client: Client, scenes: Path, expected: list[tuple[int, int]]
) -> None:
    task_id = str(uuid.uuid4())
    upload = ResumingClient(stack.url, task_id, scenes.read_bytes(), path="/shots", sent_first=0.75)
    upload.break_off(lambda: wait_until(lambda: told_so_far(client, task_id), timeout_s=WAIT_S))
    before, status = told_so_far(client, task_id), client.task(task_id).status
    assert upload.go_on() == 202

    assert ended(client, task_id).status is TaskStatus.SUCCEEDED
    assert (before, status) == (expected[: len(before)], TaskStatus.RUNNING)
    assert 0 < len(before) < len(expected)
    assert frames(of(client.results(task_id))) == expected
    assert latest_epoch(Layout(stack.storage), task_id) == 1, "one consumer held it all the time"


def told_so_far(client: Client, task_id: str) -> list[tuple[int, int]]:
    """The shots in the results; none while there is no such task yet."""
    try:
        return frames(of(client.results(task_id)))
    except ServiceError:
        return []


def test_a_search_that_is_cancelled_keeps_what_it_found(
    client: Client, scenes: Path, expected: list[tuple[int, int]]
) -> None:
    content = scenes.read_bytes()
    file = Gated(content, open_bytes=len(content) * 3 // 4)
    task_id = str(uuid.uuid4())
    told: list[DetectionEvent] = []
    with client.listen(task_id) as events:
        sending, outcome = in_thread(lambda: client.find_shots(file, name="a.mp4", task_id=task_id))
        for event in events:
            told.append(event)
            if event.shots and not file.gate.is_set():
                client.cancel(task_id)
        file.gate.set()
        sending.join(WAIT_S)

    assert told[-1].error is not None
    assert told[-1].error.code == "cancelled"
    assert client.task(task_id).status is TaskStatus.CANCELLED
    assert frames(of(client.results(task_id)))[:1] == expected[:1]
    assert isinstance(outcome[0], ServiceError)


@pytest.mark.parametrize("count", [1, 99])
def test_a_video_shorter_than_a_window_has_shots(client: Client, tmp_path: Path, count: int) -> None:
    video = write_scenes(tmp_path / "short.mp4", *(cut for cut in CUTS if cut < count), frames=count)
    started = client.find_shots(video)
    told = list(client.events(started.task_id))

    assert frames(of(told)) == shots_here(video)
    assert len(of(told)) == (1 if count == 1 else 2)


def test_a_video_that_is_cut_off_is_partial(client: Client, tmp_path: Path) -> None:
    video = write_scenes(tmp_path / "cut.mp4", *CUTS, frames=240, noise=20)
    video.write_bytes(video.read_bytes()[: video.stat().st_size * 3 // 4])
    told = list(client.events(client.find_shots(video).task_id))

    assert told[-1].partial
    assert told[-1].media_status is MediaStatus.AI_PROCESSED
    assert frames(of(told)) == shots_here(video)
    assert len(of(told)) > 1


def test_what_is_no_video_fails_once_however_often_it_is_retried(
    http: httpx.Client, client: Client, tmp_path: Path
) -> None:
    not_a_video = write_scenes(tmp_path / "a.mp4", frames=10).read_bytes()[:300]
    answer = http.post("/shots", files={"file": ("a.mp4", not_a_video)})
    assert answer.status_code == 202, answer.text
    task_id = answer.json()["taskId"]
    failed = ended(client, task_id)
    assert failed.status is TaskStatus.FAILED
    assert failed.error is not None

    retries = {client.retry(task_id).task_id for _ in range(3)}
    (retry,) = retries
    again = ended(client, retry)
    assert retry != task_id
    assert (again.status, again.error) == (TaskStatus.FAILED, failed.error)
    assert http.get(f"/tasks/{task_id}").json()["retriedAs"] == retry
    assert http.get(f"/tasks/{retry}").json()["retryOf"] == task_id


def test_a_picture_is_refused(client: Client, http: httpx.Client, tmp_path: Path) -> None:
    picture = write_image(tmp_path / "a.png")
    with pytest.raises(ServiceError) as refused:
        client.find_shots(picture)
    assert (refused.value.status, refused.value.code) == (400, "unsupported_media")
    answer = http.post("/shots", files={"file": ("a.png", picture.read_bytes())})
    assert (answer.status_code, answer.json()["code"]) == (400, "unsupported_media")


@pytest.mark.real_media
def test_all_hard_cuts_of_a_real_video_are_found_and_are_those_of_this_process(
    client: Client, shared_data: Path
) -> None:
    folder = shared_data / "videos" / "shots"
    video = folder / "bikes_scene_test.mp4"
    cuts = json.loads((folder / "ground_truth.json").read_bytes())["files"][video.name]["hard_cuts"]
    started = client.find_shots(video)
    told = of(list(client.events(started.task_id)))

    lasts = [shot.end_frame for shot in told]
    assert [cut for cut in cuts if not any(abs(cut - last) <= 2 for last in lasts)] == []
    assert frames(told) == shots_here(video)


def test_submit_prints_a_scene_list_and_writes_a_picture_of_each_shot(
    stack: LocalStack, scenes: Path, expected: list[tuple[int, int]], tmp_path: Path
) -> None:
    arguments = ["submit", str(scenes), "--shots", "--url", stack.url, "-f", "csv", "--thumbnails", str(tmp_path / "p")]
    result = CliRunner().invoke(build(), arguments)

    assert result.exit_code == 0, result.stderr
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [(int(row["Start Frame"]) - 1, int(row["End Frame"]) - 1) for row in rows] == expected
    assert len(list((tmp_path / "p").glob("*.jpg"))) == len(expected)
    assert f"{len(expected)} shots" in result.stderr
