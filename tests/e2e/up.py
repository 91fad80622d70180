"""`detections up` as a process that a test starts and ends."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.conftest import REPOSITORY
from tests.media import STATIC, Container, write_video
from tests.processes import processes_of, wait_until

READY_TIMEOUT_S = 180.0
LAST_CHARACTERS = 3_000
"""Of a log that is shown."""
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
        assert line.startswith("ready: "), self._why_not(line)
        self.url, _, broker = line.removeprefix("ready: ").rstrip().partition(", RabbitMQ ")
        self.management_url = broker.partition(" ")[0]

    def _why_not(self, line: str) -> str:
        """Everything it said, and the end of what each of its processes did."""
        self.process.kill()
        _, said = self.process.communicate()
        logs = [f"--- {log.name}\n{log.read_text()[-LAST_CHARACTERS:]}" for log in self.storage.glob("logs/*.log")]
        return "\n".join([f"exit code {self.process.returncode}, stdout {line!r}, stderr:", said, *logs])

    def interrupt(self) -> None:
        """Ctrl-C: the signal goes to the whole foreground group."""
        os.killpg(self.process.pid, signal.SIGINT)

    def wait_until_it_ends(self) -> None:
        """Until it says that it is ending."""
        assert self.process.stderr is not None
        while "ending" not in (line := self.process.stderr.readline()):
            assert line, "it has ended"

    def ended(self, *, timeout_s: float = READY_TIMEOUT_S) -> tuple[int, str]:
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
        wait_until(lambda: not processes_of(storage))


def up_is_refused(storage: Path, *arguments: str, environ: Mapping[str, str] | None = None) -> str:
    """What `detections up` says on stderr when it does not start, after it has said that it tries."""
    with running(storage, *arguments, environ=environ) as up:
        code, said = up.ended()
    assert code == 1, said
    tries, _, why = said.partition("\n")
    assert tries == f"detections: starting, which takes some seconds; logs are in {storage / 'logs'}"
    return why


def port_of(url: str) -> int:
    return urlsplit(url).port or 0


def clip(folder: Path, name: str = "clip.mp4", **options: Any) -> Path:
    return write_video(folder / name, **{"frames": 50, "container": Container.MP4_FRONT, "squares": STATIC, **options})
