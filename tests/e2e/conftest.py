"""One running system for all end-to-end tests that do not disturb it: real processes, a real RabbitMQ, a model that sees colours."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from detections import Client
from detections.answers import ClientError
from detections.local import LocalStack
from tests.media import BLUE, GREEN, RED
from tests.processes import wait_until

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
def stack_of_the_session(
    tmp_path_factory: pytest.TempPathFactory, scripted_model: Path, new_host: Callable[[], dict[str, str]]
) -> Iterator[LocalStack]:
    """Its data is thrown away, so it ends as by a crash: an orderly end costs 7 s."""
    storage = tmp_path_factory.mktemp("stack") / "storage"
    system = LocalStack(storage, model=scripted_model, environ=new_host())
    system.start()
    yield system
    system.kill()


@pytest.fixture
def stack(stack_of_the_session: LocalStack) -> LocalStack:
    """The system, ready: tests of the broker that it shares may just have disturbed it."""
    with Client(stack_of_the_session.url) as client:
        wait_until(lambda: is_ready(client))
    return stack_of_the_session


def is_ready(client: Client) -> bool:
    with contextlib.suppress(ClientError):
        client.check_ready()
        return True
    return False


@pytest.fixture
def client(stack: LocalStack) -> Iterator[Client]:
    with Client(stack.url) as client:
        yield client
