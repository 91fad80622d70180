"""`detections top` beside a running system: one picture for a pipe, a live one in a terminal that is left as it was."""

import contextlib
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from contracts import topology
from detections import Client
from detections.local import LocalStack
from detections.rabbitmq import PrivateRabbit, free_port
from detections.uploading import Progress
from tests.conftest import REPOSITORY
from tests.e2e.up import NO_BOX_TIME, clip
from tests.events import new_task
from tests.processes import WAIT_S, wait_until

pytestmark = pytest.mark.e2e

WORKED_ON = r"detections\.commands\.video +0 +[1-9]\d* +1 "
"""By one consumer, which may also hold uploads that other tests did not end; the management knows it some seconds later."""

INTO, OUT_OF, CURSOR = b"\x1b[?1049h", b"\x1b[?1049l", b"\x1b[?25h"


def command(amqp_url: str, management_url: str, *arguments: str) -> list[str]:
    where = ("--amqp-url", amqp_url, "--management-url", management_url)
    return [sys.executable, "-m", "detections", "top", *where, *arguments]


def snapshot(amqp_url: str, management_url: str) -> subprocess.CompletedProcess[str]:
    once = command(amqp_url, management_url, "--once", "--listen-s", "3.0")
    return subprocess.run(once, cwd=REPOSITORY, capture_output=True, text=True, timeout=WAIT_S * 2, check=False)


@pytest.fixture
def management_url(stack: LocalStack, rabbit: PrivateRabbit) -> str:
    """With the user whom the stack's own AMQP URL names."""
    assert rabbit.management_url is not None
    who = urlsplit(stack.amqp_url).netloc.rpartition("@")[0]
    return rabbit.management_url.replace("http://", f"http://{who}@")


def test_a_snapshot_shows_queues_consumers_and_a_task_with_its_percent(
    stack: LocalStack, client: Client, management_url: str, tmp_path: Path
) -> None:
    path, task_id = clip(tmp_path, frames=60), new_task()
    pictures: list[str] = []

    def look(progress: Progress) -> None:
        if progress.sent_bytes <= path.stat().st_size // 2 or pictures:
            return

        def is_seen() -> object:
            done = snapshot(stack.amqp_url, management_url)
            assert done.returncode == 0, done.stderr
            pictures.append(done.stdout)
            return task_id in done.stdout and "Enabled" in done.stdout and re.search(WORKED_ON, done.stdout)

        wait_until(is_seen)

    client.submit(path, task_id=task_id, config=NO_BOX_TIME, on_progress=look, bytes_per_s_max=path.stat().st_size)
    picture = pictures[-1]

    assert all(queue.name in picture for queue in topology.topology().queues)
    assert re.search(rf"{task_id} +[█·]+ +\d+ %", picture)
    assert "events/s: " in picture
    assert "\x1b" not in picture, "it went into a pipe"


def test_who_may_not_ask_the_management_sees_the_rest(stack: LocalStack, management_url: str) -> None:
    refused = management_url.replace("@", "-wrong@")

    def is_seen() -> bool:
        done = snapshot(stack.amqp_url, refused)
        assert "refuses the user: it needs the tag `monitoring`" in " ".join(done.stdout.split())
        assert (done.returncode, done.stderr) == (0, "")
        return "none was heard" not in done.stdout

    wait_until(is_seen)


def test_without_a_broker_it_ends_with_one_line() -> None:
    done = snapshot(f"amqp://ada:secret@127.0.0.1:{free_port()}/", f"http://127.0.0.1:{free_port()}")

    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("detections: broker_unavailable: amqp://127.0.0.1:")
    assert "secret" not in line


def test_ctrl_c_leaves_the_terminal_as_it_was(stack: LocalStack, management_url: str) -> None:
    ours, theirs = pty.openpty()
    shown = bytearray()

    def read() -> None:
        with contextlib.suppress(OSError):  # the other side is closed
            while part := os.read(ours, 65_536):
                shown.extend(part)

    process = subprocess.Popen(
        command(stack.amqp_url, management_url),
        cwd=REPOSITORY,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "150", "LINES": "50"},
        start_new_session=True,
    )
    os.close(theirs)
    reading = threading.Thread(target=read)
    reading.start()
    try:
        wait_until(lambda: b"detections.commands.video" in shown)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(WAIT_S) == 130
    finally:
        process.kill()
        process.wait()
        reading.join()
        os.close(ours)
    assert INTO in shown
    assert shown.rindex(OUT_OF) > shown.rindex(INTO), "the other screen is left"
    assert shown.rindex(CURSOR) > shown.rindex(INTO), "the cursor is back"
    assert b"Traceback" not in shown
