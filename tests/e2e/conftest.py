"""One running system for all end-to-end tests that do not disturb it: real processes, a real RabbitMQ, a model that sees colours."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from detections import Client
from detections.local import LocalStack
from tests.media import BLUE, GREEN, RED

SCRIPTED = {
    "runtime": "scripted",
    "input": [128, 160],
    "objects": [
        {"class": 0, "name": "red", "rgb": list(RED), "confidence": 0.9},
        {"class": 1, "name": "green", "rgb": list(GREEN), "confidence": 0.6},
        {"class": 2, "name": "blue", "rgb": list(BLUE), "confidence": 0.35},
    ],
}
"""Each blob of a colour in the real pixels is one detection."""


def write_scripted_model(folder: Path, **changes: object) -> Path:
    """The model file of `SCRIPTED`, some of it changed."""
    folder.mkdir(parents=True, exist_ok=True)
    model = folder / "colours.json"
    model.write_bytes(msgspec.json.encode(SCRIPTED | changes))
    return model


@pytest.fixture(scope="session")
def scripted_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scripted_model(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, scripted_model: Path) -> Iterator[LocalStack]:
    """The system. Its data is thrown away, so it ends as by a crash: an orderly end costs 7 s."""
    system = LocalStack(tmp_path_factory.mktemp("stack") / "storage", model=scripted_model)
    system.start()
    yield system
    system.kill()


@pytest.fixture
def client(stack: LocalStack) -> Iterator[Client]:
    with Client(stack.url) as client:
        yield client
