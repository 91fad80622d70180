"""Consumers with their model on a Triton server: an uploaded clip, and a server that goes away and comes back."""

import asyncio
import re
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

from consumers import remote
from consumers.engine_room import EngineRoom
from consumers.model_store import ModelStore
from consumers.models import Found
from contracts.events import ActiveModel, EngineStatus
from contracts.failures import Failure, FailureCode
from detections import Client
from detections.answers import ServiceError
from detections.cli import build
from detections.local import LocalStack
from detections.street import write_clip
from engine.batching import Workers
from engine.sources import RemoteModel
from engine.trial import Trials
from tests.media import write_image
from tests.processes import wait_until
from tests.triton_server import TritonServer
from tests.unit.model_fakes import FakeModels

pytestmark = pytest.mark.e2e

FRAMES = 30
"""Of a clip of 1.2 s; every sixth is looked at."""
CONFIG = {"frame_period_recognition": 6, "frame_recognition_seconds": 0, "probability_threshold": 0.5}

SLOW_UPLOAD_S = 3.0
BACK_SEEN_S = 40.0


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("street") / "street.mp4"
    write_clip(path, seconds=FRAMES / 25)
    return path


@pytest.fixture(scope="module")
def remote_stack(
    triton_of_the_session: TritonServer,
    tmp_path_factory: pytest.TempPathFactory,
    new_host: Callable[[], dict[str, str]],
) -> Iterator[LocalStack]:
    stack = LocalStack(
        tmp_path_factory.mktemp("stack") / "storage",
        model=triton_of_the_session.model("aerial-vehicle"),
        environ=new_host(),
    )
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
    triton.model("aerial-vehicle")
    task_id = client.submit(clip, config=CONFIG).task_id
    *reports, end = client.events(task_id)

    health = client.health()
    assert end.counts is not None
    assert (end.error, end.counts.sampled, end.counts.inferred, end.counts.failed) == (None, 5, 5, 0)
    assert {seen.label for report in reports for seen in report.annotations} == {"vehicle"}
    assert (health.ai_availability, health.engine_type) == ("Enabled", "triton")
    assert health.consumers[0].model == "aerial-vehicle"


def test_the_command_line_checks_a_model_on_a_server(triton: TritonServer) -> None:
    address = str(triton.model("colours", "http"))

    result = CliRunner().invoke(build(), ["models", "check", address, "--runs", "1"])

    assert result.exit_code == 0, result.stderr
    said = dict(line.split(maxsplit=1) for line in result.stdout.splitlines())
    assert (said["server"], said["runtime"]) == (address, "triton")
    assert said["head"].startswith("end_to_end: ")


def test_a_server_that_dies_under_a_video_costs_a_pause_and_nobody_a_frame(
    triton: TritonServer, client: Client, clip: Path, tmp_path: Path
) -> None:
    triton.model("aerial-vehicle")
    task_id = str(uuid.uuid4())
    picture = write_image(tmp_path / "field.png")
    bytes_per_s = clip.stat().st_size / SLOW_UPLOAD_S
    with ThreadPoolExecutor(1) as uploader, client.listen(task_id) as events:
        uploader.submit(client.submit, clip, config=CONFIG, task_id=task_id, bytes_per_s_max=bytes_per_s)
        first = next(event for event in events if event.annotations)

        triton.kill()
        wait_until(lambda: client.health().ai_availability == "Error")
        reason = client.health().error_message
        with pytest.raises(ServiceError) as refused:
            client.detect(picture)
        triton.start("aerial-vehicle")
        wait_until(lambda: client.health().ai_availability == "Enabled")
        *reports, end = events

    assert re.search("refused|reset", str(reason)), "the connection's, as it met the end"
    assert (refused.value.status, refused.value.code) == (503, "engine_unavailable")
    assert end.counts is not None
    assert (end.error, end.counts.sampled, end.counts.inferred, end.counts.failed) == (None, 5, 5, 0)
    assert [report.frame_index for report in (first, *reports) if report.annotations] == [0, 6, 12, 18, 24]
    assert client.detect(picture, config={"probability_threshold": 0.9}) == []


# What a consumer is made of


class OneModel(FakeModels):
    """Knows one model, which is on a server."""

    def __init__(self, model: RemoteModel) -> None:
        super().__init__(Path())
        self.model = model

    async def find(self, active: ActiveModel | None) -> Found:
        return Found(source=self.model)


@pytest.fixture
async def room(triton: TritonServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[EngineRoom]:
    monkeypatch.setattr(remote, "RETRY_PERIOD_S", 0.1)
    made = EngineRoom(
        models=OneModel(triton.model("colours")), workers=partial(Workers, count=1), behind=remote.look_after
    )
    yield made
    made.close()


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(BACK_SEEN_S):
        while not is_so():
            await asyncio.sleep(0.02)


async def test_a_server_that_is_not_there_at_first_is_used_as_soon_as_it_is(
    triton: TritonServer, room: EngineRoom
) -> None:
    triton.kill()
    for _ in range(2):  # commands that come meanwhile fail at once
        with pytest.raises(Failure) as caught:
            await room.workers()
        assert caught.value.code is FailureCode.ENGINE_UNAVAILABLE
    away = room.state
    await asyncio.to_thread(triton.start, "colours")
    await until(lambda: room.state.status is EngineStatus.ENABLED)

    assert (away.status, "refused" in (away.reason or "")) == (EngineStatus.ERROR, True)
    assert room.ready is not None
    assert room.model is not None
    assert (room.model.name, room.model.engine_type) == ("colours", "triton")


async def test_a_model_of_a_server_is_chosen_by_its_address_after_it_was_tried(
    triton: TritonServer, tmp_path: Path
) -> None:
    store = ModelStore(tmp_path, trials=Trials(tmp_path / "tried"))
    detector, other = triton.model("colours"), triton.model("classifier")

    active = await asyncio.to_thread(store.put, detector)
    store.activate(active)
    with pytest.raises(Failure) as caught:
        await asyncio.to_thread(store.put, other)

    assert store.active() == active
    found = (await store.find(active)).source
    assert isinstance(found, RemoteModel)
    assert (str(found), found.folder) == (str(detector), tmp_path)
    assert caught.value.code is FailureCode.MODEL_NOT_A_DETECTOR
