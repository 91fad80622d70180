"""The whole system with its model on a Triton server: an uploaded clip, and a server that goes away and comes back."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from detections import Client
from detections.local import LocalStack
from detections.street import write_clip
from tests.triton_server import TritonServer

pytestmark = pytest.mark.e2e

FRAMES = 30
"""Of a clip of 1.2 s; every sixth is looked at."""
CONFIG = {"frame_period_recognition": 6, "frame_recognition_seconds": 0, "probability_threshold": 0.5}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("street") / "street.mp4"
    write_clip(path, seconds=FRAMES / 25)
    return path


@pytest.fixture(scope="module")
def remote_stack(running: TritonServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    stack = LocalStack(tmp_path_factory.mktemp("stack") / "storage", model=running.model("aerial-vehicle"))
    try:
        stack.start()
        yield stack
    finally:
        stack.kill()


@pytest.fixture
def client(remote_stack: LocalStack) -> Iterator[Client]:
    with Client(remote_stack.url) as client:
        yield client


def test_an_uploaded_clip_is_detected_by_the_server(triton: TritonServer, client: Client, clip: Path) -> None:
    task_id = client.submit(clip, config=CONFIG).task_id
    *reports, end = client.events(task_id)

    health = client.health()
    assert end.counts is not None
    assert (end.error, end.counts.sampled, end.counts.inferred, end.counts.failed) == (None, 5, 5, 0)
    assert {seen.label for report in reports for seen in report.annotations} == {"vehicle"}
    assert (health.ai_availability, health.engine_type) == ("Enabled", "triton")
    assert health.consumers[0].model == "aerial-vehicle"
