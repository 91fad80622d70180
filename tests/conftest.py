"""What every test may ask for: the private RabbitMQ of the session, and the shared models and media where they are."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

from detections.rabbitmq import PrivateRabbit, RabbitMissingError
from engine.telemetry import silence
from tests.virtual_hosts import environ_of, new_virtual_host

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED_DATA = REPOSITORY.parent / "shared" / "data"

silence()  # also where a test or a double loads onnxruntime itself

# a busy machine is no fault of what is tested
hypothesis.settings.register_profile("tests", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("tests")


# what a shell starts in its background ignores Ctrl-C, and under nohup SIGHUP: so would every process that a test ends
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

LONG_FIRST = ("e2e", "triton", "broker")
"""Folders whose tests mostly wait: begun at once, they do not keep everybody waiting at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: turn(item.path))
    if SHARED_DATA.is_dir():
        return
    skip = pytest.mark.skip(reason="real_media: ../shared/data is not on this machine")
    for item in items:
        if "real_media" in item.keywords:
            item.add_marker(skip)


def turn(path: Path) -> int:
    """When a file of tests begins, relative to the others."""
    folder = path.relative_to(REPOSITORY / "tests").parts[0]
    return LONG_FIRST.index(folder) if folder in LONG_FIRST else len(LONG_FIRST)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real models and media; only for tests marked `real_media`."""
    return SHARED_DATA


@pytest.fixture(scope="session")
def rabbit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateRabbit]:
    """A real RabbitMQ, started once; tests speak to its virtual host `/`, and systems get one of their own (`new_host`)."""
    node = PrivateRabbit(tmp_path_factory.mktemp("rabbit"))
    try:
        node.start()
    except RabbitMissingError as error:
        pytest.fail(str(error))
    yield node
    node.kill()


@pytest.fixture(scope="session")
def new_host(rabbit: PrivateRabbit) -> Callable[[], dict[str, str]]:
    """Makes a virtual host on the broker of the session and returns the environment of a system that uses it."""
    return lambda: environ_of(new_virtual_host(rabbit))
