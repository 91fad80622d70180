"""Models that come, go and fail, in real processes: the Loader, a swap under load, files that are hostile."""

import itertools
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from detections import Client
from detections.local import LocalStack
from tests.conftest import REPOSITORY
from tests.e2e.conftest import SCRIPTED, write_scripted_model
from tests.hostile_models import write_hungry_model
from tests.loader_service import LoaderService, loader_service
from tests.media import RED, Square, write_image, write_video
from tests.processes import wait_until

pytestmark = pytest.mark.e2e

WAIT_S = 30.0
OTHER_NAMES = [{"class": 7, "name": "scarlet", "rgb": list(RED), "confidence": 0.95}]


@pytest.fixture(scope="module")
def loader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoaderService]:
    with loader_service(tmp_path_factory.mktemp("loader") / "files") as service:
        yield service


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory, loader: LoaderService) -> Iterator[LocalStack]:
    """Two consumers that get their model from a Loader that is down."""
    write_scripted_model(loader.folder)
    loader.stop()
    environ = {"LOADER_URL": loader.url, "CONSUMER_MODEL": "colours.json", "CONSUMER_WORKERS": "1"}
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


def test_ft_n_03_06_and_nft_res_03_a_loader_that_is_down_is_a_503_and_the_next_request_initialises(
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
    assert labels(detect(system, picture)) == ["red"]


def test_nft_res_01_a_loader_that_stops_afterwards_is_not_missed(
    system: LocalStack, loader: LoaderService, picture: Path
) -> None:
    for _ in range(2):
        detect(system, picture)
    loader.stop()

    assert labels(detect(system, picture)) == ["red"]
    assert health(system)["aiAvailability"] == "Enabled"
