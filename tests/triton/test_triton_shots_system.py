"""Shots by a server that is away: at the start and in the middle the task waits, and nobody misses a shot."""

import threading
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from contracts.events import DetectionEvent
from detections import Client
from detections.local import LocalStack
from tests.cut_finder import write_scenes
from tests.gated import Gated
from tests.media import Container
from tests.processes import wait_until
from tests.shots_here import shots_here
from tests.triton_server import TritonServer

pytestmark = pytest.mark.e2e

SEEN_S = 40.0


@pytest.fixture(scope="module")
def remote_stack(triton_of_the_session: TritonServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    environ = {"CONSUMER_SHOT_MODEL": triton_of_the_session.address("transnetv2")}
    stack = LocalStack(tmp_path_factory.mktemp("stack") / "storage", environ=environ)
    try:
        stack.start()
        yield stack
    finally:
        stack.kill()


@pytest.fixture
def client(remote_stack: LocalStack) -> Iterator[Client]:
    with Client(remote_stack.url) as client:
        yield client


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    return write_scenes(folder / "a.mp4", 60, 130, 175, frames=240, container=Container.MP4_FRAGMENTED)


def frames(events: list[DetectionEvent]) -> list[tuple[int, int]]:
    return [(shot.start_frame, shot.end_frame) for event in events for shot in event.shots or ()]


def availability(client: Client) -> str:
    engine = client.health().consumers[0].shots
    return engine.ai_availability if engine else "None"


def test_a_task_waits_for_a_server_that_is_away_at_the_start(
    triton: TritonServer, client: Client, scenes: Path
) -> None:
    triton.kill()
    try:
        with httpx.Client(base_url=client.url, timeout=SEEN_S) as http:
            answer = http.post("/shots", files={"file": ("a.mp4", scenes.read_bytes())})
        wait_until(lambda: availability(client) == "Error", timeout_s=SEEN_S)
    finally:
        triton.start("transnetv2")
    told = list(client.events(answer.json()["taskId"]))

    assert told[-1].error is None
    assert frames(told) == shots_here(scenes)
    wait_until(lambda: availability(client) == "Enabled", timeout_s=SEEN_S)


def test_a_server_that_dies_in_the_middle_costs_a_pause_and_no_shot(
    triton: TritonServer, client: Client, scenes: Path
) -> None:
    triton.model("transnetv2")
    content = scenes.read_bytes()
    file = Gated(content, open_bytes=len(content) * 3 // 4)
    task_id = str(uuid4())
    with client.listen(task_id) as events:
        sending = threading.Thread(target=lambda: client.find_shots(file, name="a.mp4", task_id=task_id))
        sending.start()
        first = next(event for event in events if event.shots)
        triton.kill()
        try:
            file.gate.set()
            wait_until(lambda: availability(client) == "Error", timeout_s=SEEN_S)
        finally:
            triton.start("transnetv2")
        rest = list(events)
        sending.join(SEEN_S)

    assert rest[-1].error is None
    assert frames([first, *rest]) == shots_here(scenes)
    assert rest[-1].counts is not None
    assert (rest[-1].counts.decoded, rest[-1].counts.failed) == (240, 0)
