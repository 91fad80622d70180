"""Models that come, go and fail, in real processes: the Loader, a swap under load, files that are hostile."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from detections import Client
from detections.cli import build
from detections.local import LocalStack, amqp_url_of
from detections.rabbitmq import PrivateRabbit, free_port
from tests.conftest import REPOSITORY
from tests.e2e.conftest import write_scripted_model
from tests.hostile_models import write_hungry_model
from tests.loader_service import LoaderService
from tests.media import RED, Square, write_image, write_video
from tests.processes import WAIT_S, wait_until

pytestmark = pytest.mark.e2e

SCARLET = [{"class": 7, "name": "scarlet", "rgb": list(RED), "confidence": 0.95}]
FRAMES = 250
CHUNK_BYTES = 2_000
CONSUMERS = ("consumer-1", "consumer-2")


@pytest.fixture(scope="module")
def loader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoaderService]:
    service = LoaderService(tmp_path_factory.mktemp("loader"))
    yield service
    service.stop()


@pytest.fixture(scope="module")
def system(
    tmp_path_factory: pytest.TempPathFactory, loader: LoaderService, new_host: Callable[[], dict[str, str]]
) -> Iterator[LocalStack]:
    """Two consumers that get their model from a Loader that is down."""
    write_scripted_model(loader.folder, delay_s=0.01)
    environ = {
        **new_host(),
        "LOADER_URL": loader.url,
        "CONSUMER_MODEL": "colours.json",
        "CONSUMER_WORKERS": "1",
        "CONSUMER_TRIAL_S": "10",
    }
    stack = LocalStack(tmp_path_factory.mktemp("models") / "storage", consumers=2, environ=environ)
    stack.start()
    yield stack
    stack.kill()


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_image(tmp_path_factory.mktemp("pictures") / "red.png", squares=[Square()])


def detect(system: LocalStack, picture: Path) -> httpx.Response:
    return httpx.post(f"{system.url}/detect", files={"file": (picture.name, picture.read_bytes())}, timeout=60)


def labels(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [detection["label"] for detection in answer.json()]


def health(system: LocalStack) -> dict[str, Any]:
    return httpx.get(f"{system.url}/health").json()


def use(system: LocalStack, file: Path, **environ: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "detections", "models", "use", str(file), "--storage", str(system.storage)]
    environment = {key: value for key, value in os.environ.items() if key != "AMQP_URL"} | environ
    return subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)


# In this order: the system is one, and its life goes on from test to test.


def test_ft_n_03_06_and_nft_res_03_a_loader_that_is_down_or_fails_is_a_503_and_the_next_request_initialises(
    system: LocalStack, loader: LoaderService, picture: Path
) -> None:
    refused = detect(system, picture)
    assert (refused.status_code, refused.json()["code"]) == (503, "engine_unavailable")
    assert "Retry-After" in refused.headers
    failed = health(system)
    assert failed["status"] == "healthy"
    assert "Error" in {consumer["aiAvailability"] for consumer in failed["consumers"]}
    assert any("the Loader did not answer" in (entry["errorMessage"] or "") for entry in failed["consumers"])

    loader.start()
    loader.fault("500")
    refused = detect(system, picture)
    assert (refused.status_code, refused.json()["code"]) == (503, "model_missing")
    assert "Retry-After" in refused.headers
    wait_until(
        lambda: any("the disk is on fire" in (entry["errorMessage"] or "") for entry in health(system)["consumers"])
    )

    loader.fault("none")
    assert labels(detect(system, picture)) == ["red"]


def test_nft_res_01_a_loader_that_stops_afterwards_is_not_missed(
    system: LocalStack, loader: LoaderService, picture: Path
) -> None:
    for _ in range(2):
        detect(system, picture)
    loader.stop()

    assert labels(detect(system, picture)) == ["red"]
    assert health(system)["aiAvailability"] == "Enabled"


def test_a_swap_under_load_fails_no_request_and_loses_no_frame(
    system: LocalStack, picture: Path, tmp_path: Path
) -> None:
    scarlet = write_scripted_model(tmp_path / "scarlet", objects=SCARLET)
    video = write_video(tmp_path / "clip.mp4", frames=FRAMES, squares=[Square()]).read_bytes()
    answers: list[httpx.Response] = []
    is_swapped = threading.Event()

    def ask() -> None:
        while not is_swapped.is_set():
            answers.append(detect(system, picture))

    with ThreadPoolExecutor(2) as pool, Client(system.url) as client:
        asking = pool.submit(ask)
        uploading = pool.submit(upload, system, arriving(video, until=is_swapped))
        swapped = use(system, scarlet)
        is_swapped.set()
        asking.result()
        task_id = uploading.result()
        wait_until(lambda: client.task(task_id).finished_at)
        task = client.task(task_id)
        seen = [entry.annotations[0].label for entry in client.results(task_id) if entry.annotations]

    assert [line.split()[1:] for line in swapped.stdout.splitlines()] == [["serves", "colours"]] * 2, swapped.stderr
    assert (task.status, task.error) == ("Succeeded", None)
    assert task.counts is not None
    assert (task.counts.decoded, task.counts.inferred, task.counts.failed, len(seen)) == (FRAMES, FRAMES, 0, FRAMES)
    assert [label for label, _ in itertools.groupby(seen)] == ["red", "scarlet"]
    assert {labels(answer)[0] for answer in answers} <= {"red", "scarlet"}
    assert labels(detect(system, picture)) == ["scarlet"]


def arriving(video: bytes, *, until: threading.Event) -> Iterator[bytes]:
    """Half of it bit by bit, the rest once `until` has happened."""
    for start in range(0, len(video) // 2, CHUNK_BYTES):
        yield video[start : start + CHUNK_BYTES]
        until.wait(0.05)
    assert until.wait(WAIT_S)
    yield video[-(-(len(video) // 2) // CHUNK_BYTES) * CHUNK_BYTES :]


def upload(system: LocalStack, body: Iterator[bytes]) -> str:
    config = json.dumps({"frame_period_recognition": 1, "frame_recognition_seconds": 0})
    headers = {"X-Filename": "clip.mp4", "X-Config": config}
    answer = httpx.post(f"{system.url}/detect/video", content=body, headers=headers, timeout=60)
    assert answer.status_code == 202, answer.text
    return answer.json()["taskId"]


def test_a_hostile_model_is_refused_by_the_command_and_by_every_consumer(
    system: LocalStack, picture: Path, tmp_path: Path
) -> None:
    hungry = write_hungry_model(tmp_path / "hungry.onnx")
    refused = use(system, hungry)
    assert refused.returncode == 1
    assert "model_corrupt" in refused.stderr

    models = system.storage / "models"
    shutil.copy(hungry, models)
    before = json.loads((models / "active.json").read_bytes())
    (models / "active.json").write_text(json.dumps({"file": "hungry.onnx", "revision": "by hand", "previous": before}))
    wait_until(lambda: statuses(system) == {"Warning"})

    assert all("hungry.onnx does not serve" in entry["errorMessage"] for entry in health(system)["consumers"])
    assert {entry["model"] for entry in health(system)["consumers"]} == {"colours"}
    assert labels(detect(system, picture)) == ["scarlet"]


def test_a_consumer_that_comes_late_serves_what_the_others_serve(system: LocalStack, picture: Path) -> None:
    old = [pid for name in CONSUMERS for pid in system.pids(name)]
    for pid in old:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: all(set(system.pids(name)) - set(old) for name in CONSUMERS))

    assert labels(detect(system, picture)) == ["scarlet"]
    assert "Warning" in statuses(system)


def test_without_a_broker_nothing_is_chosen(tmp_path: Path) -> None:
    model = write_scripted_model(tmp_path)
    arguments = ["models", "use", str(model), "--storage", str(tmp_path)]
    done = CliRunner().invoke(build(), [*arguments, "--amqp-url", f"amqp://127.0.0.1:{free_port()}/"])

    assert done.exit_code == 1
    assert "broker_unavailable" in done.stderr
    assert not (tmp_path / "models").exists()


def test_a_stack_that_is_started_with_a_model_serves_that_and_says_where_its_broker_is(
    tmp_path: Path, rabbit: PrivateRabbit
) -> None:
    models = tmp_path / "models"
    models.mkdir()
    (models / "active.json").write_text('{"file": "chosen-earlier.onnx"}')
    environ = {"AMQP_URL": rabbit.url}
    stack = LocalStack(tmp_path, model=write_scripted_model(tmp_path), consumers=0, environ=environ)
    stack.start()
    try:
        assert not (models / "active.json").exists()
        assert amqp_url_of(tmp_path) == rabbit.url
    finally:
        stack.kill()
    assert amqp_url_of(tmp_path) is None


def statuses(system: LocalStack) -> set[str]:
    return {entry["aiAvailability"] for entry in health(system)["consumers"]}
