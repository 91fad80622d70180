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
from detections.answers import ClientError, ServiceError
from detections.local import LocalStack
from detections.uploading import Progress
from tests.e2e.up import NO_BOX_TIME, clip
from tests.processes import processes_of, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

BACK_TIMEOUT_S = 30.0
RESTARTED_TIMEOUT_S = 1.0
NODE_AGE_S = 12.0
"""RabbitMQ loses quorum queues that are younger when it is killed; it is a fault of the broker, not under test."""


@pytest.fixture(scope="module")
def said() -> list[str]:
    return []


@pytest.fixture(scope="module")
def victim(
    stack: LocalStack, tmp_path_factory: pytest.TempPathFactory, scripted_model: Path, said: list[str]
) -> Iterator[LocalStack]:
    """A second stack, running beside the first, whose processes are killed."""
    storage = tmp_path_factory.mktemp("victim") / "storage"
    with LocalStack(storage, model=scripted_model, consumers=2, say=said.append) as second:
        yield second
    assert processes_of(storage) == []


@pytest.mark.parametrize("name", ["consumer-2", "edge", "broker"])
def test_a_killed_process_is_started_again_and_the_system_goes_on(
    victim: LocalStack, said: list[str], tmp_path: Path, name: str
) -> None:
    if name == "broker":
        time.sleep(NODE_AGE_S)
    said.clear()
    (killed,) = victim.pids(name)

    os.kill(killed, signal.SIGKILL)
    took_s = wait_until(lambda: victim.pids(name) not in ([], [killed]), timeout_s=10)

    assert took_s < RESTARTED_TIMEOUT_S
    assert said[0].startswith(f"{name} was killed by signal 9; starting it again")
    with Client(victim.url) as client:
        wait_until(lambda: is_ready(client), timeout_s=BACK_TIMEOUT_S)
        started = client.submit(clip(tmp_path), config=NO_BOX_TIME)
        assert len(list(client.events(started.task_id))) == 51


def test_an_upload_outlives_the_edge_that_took_it(victim: LocalStack, tmp_path: Path) -> None:
    path = clip(tmp_path, frames=200)
    size_bytes = path.stat().st_size
    (killed,) = victim.pids("edge")

    def kill_in_the_middle(progress: Progress) -> None:
        if progress.sent_bytes > size_bytes // 2 and victim.pids("edge") == [killed]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(killed, signal.SIGKILL)

    with Client(victim.url) as client:
        wait_until(lambda: is_ready(client), timeout_s=BACK_TIMEOUT_S)
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


def is_ready(client: Client) -> bool:
    with contextlib.suppress(ClientError):
        client.check_ready()
        return True
    return False


def test_two_stacks_side_by_side_know_nothing_of_each_other(
    stack: LocalStack, victim: LocalStack, client: Client, tmp_path: Path
) -> None:
    started = client.submit(clip(tmp_path))

    with Client(victim.url) as other:
        assert len(client.health().consumers) == 1
        assert len(other.health().consumers) == 2
        with pytest.raises(ServiceError, match="task_not_found"):
            other.task(started.task_id)
