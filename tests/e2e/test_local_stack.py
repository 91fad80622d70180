"""The whole system on one machine, as those who use it see it; the session's stack is left as it was found."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from contracts.events import MediaStatus
from detections import Client
from detections.answers import TaskStatus
from detections.local import RUNNING, LocalStack
from detections.rabbitmq import free_port
from detections.stack_lock import LOCK_TIMEOUT_S, StackError
from tests.conftest import REPOSITORY
from tests.e2e.up import NO_BOX_TIME, clip
from tests.fake_edge import FakeEdge
from tests.media import Container
from tests.processes import WAIT_S, wait_until

pytestmark = pytest.mark.e2e


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

    assert [event.sequence for event in events if event.sequence] == list(range(1, 52))
    assert client.task(started.task_id).status is TaskStatus.SUCCEEDED
    assert [event.sequence for event in client.results(started.task_id)] == list(range(1, 51))


def test_a_system_without_consumers_is_not_ready_without_its_broker(tmp_path: Path) -> None:
    nobody = f"amqp://guest:guest@127.0.0.1:{free_port()}/"
    system = LocalStack(tmp_path, consumers=0, environ={"AMQP_URL": nobody})

    with pytest.raises(StackError, match="not ready in time"):
        system.start(timeout_s=5)


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


def test_watch_ends_cleanly_at_ctrl_c() -> None:
    with FakeEdge() as edge:
        watching = subprocess.Popen(
            [sys.executable, "-m", "detections", "watch", "--url", edge.url],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        wait_until(lambda: edge.last_event_ids)  # a stream was asked for
        watching.send_signal(signal.SIGINT)
        out, said = watching.communicate(timeout=WAIT_S)

    assert (watching.returncode, out, said) == (130, "", "")


def test_an_edge_that_is_not_there_is_named(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    video = clip(tmp_path, frames=2)

    for arguments in (("submit", str(video)), ("watch",)):
        done = detections(*arguments, "--url", url)

        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith(f"detections: no answer from {url}: ")
        assert len(done.stderr.splitlines()) == 1


def test_the_record_of_a_stack_holds_a_password_and_is_its_owner_s_alone(stack: LocalStack) -> None:
    assert (stack.storage / RUNNING).stat().st_mode & 0o777 == 0o600


def test_a_second_stack_on_the_same_storage_is_refused_at_once(stack: LocalStack) -> None:
    began_s = time.monotonic()

    with pytest.raises(StackError, match="another stack runs"):
        LocalStack(stack.storage).start()

    assert time.monotonic() - began_s < LOCK_TIMEOUT_S / 2, "as long as for a lock that is about to be given up"


def detections(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "detections", *arguments]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=WAIT_S, check=False)
