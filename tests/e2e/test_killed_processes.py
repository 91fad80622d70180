"""Processes of a running system are killed, and it goes on."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from contracts.events import DetectionEvent
from detections import Client
from detections.answers import ServiceError
from detections.local import LocalStack
from detections.uploading import Progress
from tests.e2e.conftest import is_ready
from tests.e2e.up import NO_BOX_TIME, clip
from tests.processes import wait_until, wait_until_nothing_lives_of

pytestmark = pytest.mark.e2e

NODE_AGE_S = 12.0
"""RabbitMQ loses quorum queues that are younger when it is killed; it is a fault of the broker, not under test."""


@pytest.fixture(scope="module")
def said() -> list[str]:
    return []


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory, scripted_model: Path, said: list[str]) -> Iterator[LocalStack]:
    """A stack with a broker of its own, whose processes are killed."""
    storage = tmp_path_factory.mktemp("victim") / "storage"
    with LocalStack(storage, model=scripted_model, consumers=2, say=said.append) as second:
        yield second
    wait_until_nothing_lives_of(storage)


@pytest.fixture(scope="module")
def ready_s(victim: LocalStack) -> float:
    """When the queues of the victim were there."""
    return time.monotonic()


@pytest.mark.parametrize("name", ["consumer-2", "edge", "broker"])
def test_a_killed_process_is_started_again_and_the_system_goes_on(
    victim: LocalStack, ready_s: float, said: list[str], tmp_path: Path, name: str
) -> None:
    said.clear()
    (killed,) = victim.pids(name)
    if name == "broker":
        time.sleep(max(0.0, ready_s + NODE_AGE_S - time.monotonic()))

    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: victim.pids(name) not in ([], [killed]))

    assert said[0].startswith(f"{name} was killed by signal 9; starting it again")
    with Client(victim.url) as client:
        wait_until(lambda: is_ready(client))
        started = client.submit(clip(tmp_path), config=NO_BOX_TIME)
        told = [event.sequence for event in client.events(started.task_id) if event.sequence]
    assert told == list(range(1, 52)), "fifty reports and the end"


def test_an_upload_outlives_the_edge_that_took_it(victim: LocalStack, tmp_path: Path) -> None:
    path = clip(tmp_path, frames=200)
    size_bytes = path.stat().st_size
    (killed,) = victim.pids("edge")

    def kill_in_the_middle(progress: Progress) -> None:
        if progress.sent_bytes > size_bytes // 2 and victim.pids("edge") == [killed]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(killed, signal.SIGKILL)

    with Client(victim.url) as client:
        wait_until(lambda: is_ready(client))
        cut = client.submit(path, config=NO_BOX_TIME, on_progress=kill_in_the_middle, bytes_per_s_max=size_bytes / 2)
        assert victim.pids("edge") != [killed]
        undisturbed = client.submit(path, config=NO_BOX_TIME)
        of_both = [list(client.events(started.task_id)) for started in (cut, undisturbed)]

    assert cut.media_id == undisturbed.media_id
    assert seen(of_both[0]) == seen(of_both[1])
    assert of_both[0][-1].counts == of_both[1][-1].counts


def seen(events: list[DetectionEvent]) -> list[tuple[object, ...]]:
    """What the reports say, without whose they are."""
    return [(event.sequence, event.frame_index, event.annotations) for event in events if event.annotations]


def test_the_logs_of_every_process_lie_in_the_storage(victim: LocalStack) -> None:
    names = {"edge.log", "consumer-1.log", "consumer-2.log", "broker.log"}

    assert names <= {path.name for path in victim.logs.iterdir()}
    assert "edge listens" in (victim.logs / "edge.log").read_text()


def test_two_stacks_side_by_side_know_nothing_of_each_other(
    stack: LocalStack, victim: LocalStack, client: Client, tmp_path: Path
) -> None:
    started = client.submit(clip(tmp_path))

    with Client(victim.url) as other:
        assert len(client.health().consumers) == 1
        wait_until(lambda: len(other.health().consumers) == 2)  # the one that was killed is remembered for a while
        with pytest.raises(ServiceError, match="task_not_found"):
            other.task(started.task_id)
