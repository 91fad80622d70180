"""The whole system on one machine, started and ended as a person does it: real processes, real signals."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from contracts.events import MediaStatus
from detections import Client
from detections.answers import ClientError, ServiceError, TaskStatus
from detections.local import LocalStack, StackError
from detections.rabbitmq import free_port, is_free
from tests.conftest import REPOSITORY
from tests.media import STATIC, Container, write_video
from tests.processes import is_gone, processes_of, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

READY_TIMEOUT_S = 90.0
BACK_TIMEOUT_S = 30.0
RESTARTED_TIMEOUT_S = 1.0
NODE_AGE_S = 12.0
"""RabbitMQ loses quorum queues that are younger when it is killed; it is a fault of the broker, not under test."""
NO_BOX_TIME = {"frame_recognition_seconds": 0, "frame_period_recognition": 1}


class Up:
    """`detections up` as a process of its own group, as a terminal starts it."""

    def __init__(self, storage: Path, *arguments: str, environ: Mapping[str, str] | None = None) -> None:
        self.storage = storage
        self.process = subprocess.Popen(
            [sys.executable, "-m", "detections", "up", "--storage", str(storage), *arguments],
            cwd=REPOSITORY,
            env={**os.environ, **(environ or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.url = ""
        self.management_url = ""

    def wait_until_ready(self) -> None:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("ready: "), self.process.communicate()
        self.url, self.management_url = line.removeprefix("ready: ").split(", RabbitMQ ")
        self.management_url = self.management_url.split()[0]

    def interrupt(self) -> None:
        """Ctrl-C: the signal goes to the whole foreground group."""
        os.killpg(self.process.pid, signal.SIGINT)

    def ended(self, *, timeout_s: float = 60) -> tuple[int, str]:
        """Exit code and stderr."""
        _, said = self.process.communicate(timeout=timeout_s)
        return self.process.returncode, said


@contextlib.contextmanager
def running(storage: Path, *arguments: str, environ: Mapping[str, str] | None = None) -> Iterator[Up]:
    up = Up(storage, *arguments, environ=environ)
    try:
        yield up
    finally:
        up.process.kill()
        up.process.communicate()
        wait_until(lambda: not processes_of(storage), timeout_s=40)


def up_is_refused(storage: Path, *arguments: str, environ: Mapping[str, str] | None = None) -> str:
    """What `detections up` says on stderr when it does not start."""
    with running(storage, *arguments, environ=environ) as up:
        code, said = up.ended(timeout_s=READY_TIMEOUT_S)
    assert code == 1, said
    return said


def port_of(url: str) -> int:
    return urlsplit(url).port or 0


def clip(folder: Path, name: str = "clip.mp4", **options: Any) -> Path:
    return write_video(folder / name, **{"frames": 50, "container": Container.MP4_FRONT, "squares": STATIC, **options})


# Of the session's stack, which they leave as they found it


def test_a_video_is_seen_while_it_is_sent(client: Client, tmp_path: Path) -> None:
    video = clip(tmp_path, frames=200)
    task_id = "00000000-0000-4000-8000-00000000000a"

    with client.listen(task_id) as events:
        started = client.submit(video, task_id=task_id, config=NO_BOX_TIME)
        seen = list(events)

    reports = [event for event in seen if event.annotations]
    assert [report.frame_index for report in reports] == list(range(200))
    assert [event.sequence for event in seen if event.sequence] == list(range(1, 202))
    assert (seen[-1].media_status, seen[-1].media_percent) == (MediaStatus.AI_PROCESSED, 100)
    assert seen[-1].media_id == started.media_id


def test_what_a_task_reported_can_be_read_later(client: Client, tmp_path: Path) -> None:
    started = client.submit(clip(tmp_path), config=NO_BOX_TIME)

    events = list(client.events(started.task_id))

    assert len(events) == 51
    assert client.task(started.task_id).status is TaskStatus.SUCCEEDED
    assert [event.sequence for event in client.results(started.task_id)] == list(range(1, 51))


def test_submit_follows_a_video_on_the_command_line(stack: LocalStack, tmp_path: Path) -> None:
    video = clip(tmp_path, "end.mp4", container=Container.MP4_END)

    done = detections("submit", str(video), "--url", stack.url, "--follow", "--config", json.dumps(NO_BOX_TIME))

    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, done.stderr
    assert len([event for event in events if event["annotations"]]) == 50
    assert events[-1]["mediaStatus"] == "AIProcessed"
    assert "50 detections" in done.stderr


def test_submit_says_why_a_file_is_refused(stack: LocalStack, tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_bytes(os.urandom(3_000_000))

    done = detections("submit", str(text), "--url", stack.url)

    assert (done.returncode, done.stdout) == (1, "")
    assert "unsupported_media" in done.stderr


def test_watch_tells_a_task_that_has_ended(stack: LocalStack, client: Client, tmp_path: Path) -> None:
    started = client.submit(clip(tmp_path))

    done = detections("watch", "--task", started.task_id, "--url", stack.url)

    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0
    assert {event["taskId"] for event in events} == {started.task_id}
    assert events[-1]["mediaStatus"] == "AIProcessed"


def test_watch_ends_cleanly_at_ctrl_c(stack: LocalStack) -> None:
    watching = subprocess.Popen(
        [sys.executable, "-m", "detections", "watch", "--url", stack.url],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    time.sleep(3)
    watching.send_signal(signal.SIGINT)
    out, said = watching.communicate(timeout=10)

    assert (watching.returncode, out, said) == (130, "", "")


def test_an_edge_that_is_not_there_is_named(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    video = clip(tmp_path, frames=2)

    for arguments in (("submit", str(video)), ("watch",)):
        done = detections(*arguments, "--url", url)

        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith(f"detections: no answer from {url}: ")
        assert len(done.stderr.splitlines()) == 1


def test_the_logs_of_every_process_lie_in_the_storage(stack: LocalStack) -> None:
    assert {"edge.log", "consumer-1.log", "broker.log"} <= {path.name for path in stack.logs.iterdir()}
    assert "edge listens" in (stack.logs / "edge.log").read_text()


def test_a_second_stack_on_the_same_storage_is_refused_at_once(stack: LocalStack) -> None:
    started_s = time.monotonic()

    with pytest.raises(StackError, match="another stack runs"):
        LocalStack(stack.storage).start()

    assert time.monotonic() - started_s < 1


# Of a stack of their own, beside the session's


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


# `detections up` itself


def test_ctrl_c_leaves_nothing_behind_and_the_data_is_there_the_next_time(tmp_path: Path, scripted_model: Path) -> None:
    storage, arguments = tmp_path / "storage", ("--model", str(scripted_model), "--port", str(free_port()))
    with running(storage, *arguments) as first:
        first.wait_until_ready()
        with Client(first.url) as client:
            task_id = client.submit(clip(tmp_path), config=NO_BOX_TIME).task_id
            before = list(client.events(task_id))
        assert len(processes_of(storage)) >= 5
        first.interrupt()
        code, said = first.ended()
        left, ports = processes_of(storage), [port_of(first.url), port_of(first.management_url)]
    with running(storage, *arguments) as second:
        second.wait_until_ready()
        with Client(second.url) as client:
            after = list(client.events(task_id))
            again = client.submit(clip(tmp_path, frames=20), config=NO_BOX_TIME).task_id
            assert len(list(client.events(again))) == 21
        second.interrupt()
        time.sleep(0.5)
        second.interrupt()
        code_twice, _ = second.ended(timeout_s=10)

    assert (code, left, [is_free(port) for port in ports]) == (0, [], [True, True]), said
    assert "Traceback" not in said
    assert [event.sequence for event in after] == [event.sequence for event in before if event.sequence]
    assert code_twice == 130
    assert processes_of(storage) == []


@pytest.mark.parametrize("after_s", [0.5, 3.0])
def test_ctrl_c_while_it_starts_leaves_nothing_behind(tmp_path: Path, after_s: float) -> None:
    with running(tmp_path / "storage", "--port", "0") as up:
        wait_until(lambda: processes_of(tmp_path / "storage"), timeout_s=30)
        time.sleep(after_s)
        up.interrupt()
        code, said = up.ended(timeout_s=20)
        left = processes_of(tmp_path / "storage")

    assert code in (130, -signal.SIGINT)  # the second: it was still loading its modules
    assert left == []
    assert "Traceback" not in said


def test_sigterm_is_like_ctrl_c_and_sigkill_leaves_nothing_behind_either(tmp_path: Path, scripted_model: Path) -> None:
    storage = tmp_path / "storage"
    with running(storage, "--port", "0", "--model", str(scripted_model)) as up:
        up.wait_until_ready()
        up.process.kill()
        up.process.communicate()
        wait_until(lambda: not processes_of(storage), timeout_s=20)
    with running(storage, "--port", "0", "--model", str(scripted_model)) as up:
        up.wait_until_ready()
        up.process.terminate()
        code, said = up.ended()
        left = processes_of(storage)

    assert (code, left) == (0, []), said


def test_without_a_broker_it_names_the_command_that_installs_one(tmp_path: Path) -> None:
    said = up_is_refused(tmp_path / "storage", environ={"PATH": "/nowhere"})

    assert said == "detections: no RabbitMQ on this machine; install one: apt-get install rabbitmq-server\n"


def test_a_port_in_use_is_said(stack: LocalStack, tmp_path: Path) -> None:
    said = up_is_refused(tmp_path / "storage", "--port", str(port_of(stack.url)))

    assert said == f"detections: port {port_of(stack.url)} is in use; name another one with --port\n"


def test_a_part_that_does_not_start_ends_the_others_and_shows_its_last_lines(tmp_path: Path) -> None:
    said = up_is_refused(tmp_path / "storage", "--port", "0", environ={"CONSUMER_WORKERS": "none"})

    assert "consumer-1 ended with code 1" in said
    assert "CONSUMER_WORKERS='none'" in said


def test_with_a_broker_of_somebody_else_none_is_started(
    stack: LocalStack, tmp_path: Path, scripted_model: Path
) -> None:
    amqp = {"AMQP_URL": stack.amqp_url}
    with LocalStack(tmp_path / "storage", model=scripted_model, consumers=0, environ=amqp) as second:
        assert (second.pids("broker"), second.management_url, second.amqp_url) == ([], None, stack.amqp_url)
        edge = second.pids("edge")
    assert all(is_gone(pid) for pid in edge)


def detections(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "detections", *arguments]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False)
