"""A system that has media of its own and tells the double of the Annotations service of them: two edges, a consumer, a broker."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from detections.local import LocalStack
from detections.rabbitmq import free_port
from tests.annotations import AnnotationsProcess
from tests.conftest import REPOSITORY
from tests.e2e.conftest import write_scripted_model
from tests.media import Container, Square, write_video
from tests.processes import wait_until

END_TIMEOUT_S = 60.0
POLL_S = 0.05
ALL_FRAMES = {"frame_period_recognition": 1, "frame_recognition_seconds": 0}
CALL_S = 8.0
SETTINGS = {
    "EDGE_POST_DELAYS_S": "0.2 0.4 0.8 1.2",
    "EDGE_POST_LEASE_S": "1.5",
    "EDGE_POST_SCAN_S": "3",
    "EDGE_ANNOTATIONS_TIMEOUT_S": str(CALL_S),
    "EDGE_DEAD_LETTER_RETRY_S": "0.3",
}
Json = dict[str, Any]


class Service:
    """Two edges, a consumer and the double."""

    def __init__(self, folder: Path, broker: Mapping[str, str]) -> None:
        self.folder = folder
        self.media = folder / "videos"
        self.media.mkdir()
        self.annotations = AnnotationsProcess(folder / "double")
        media = {"VIDEOS_DIR": str(self.media), "IMAGES_DIR": str(self.media)}
        environ = {**SETTINGS, **media, "ANNOTATIONS_URL": self.annotations.url, **broker}
        model = write_scripted_model(folder / "models", delay_s=0.004)
        self.stack = LocalStack(folder / "storage", model=model, environ=environ)
        self.other_url = f"http://127.0.0.1:{free_port()}"
        self._environ = environ
        self._other: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.annotations.start()
        self.stack.start()
        self.start_other_edge()

    def start_other_edge(self) -> None:
        environ = {
            **os.environ,
            **self._environ,
            "AMQP_URL": self._environ["EDGE_AMQP_URL"],
            "STORAGE_DIR": str(self.folder / "storage"),
            "EDGE_PORT": self.other_url.rpartition(":")[2],
        }
        with (self.folder / "other-edge.log").open("ab") as log:
            self._other = subprocess.Popen([sys.executable, "-m", "edge"], cwd=REPOSITORY, env=environ, stdout=log)
        wait_until(self._is_other_ready)

    def kill_other_edge(self) -> None:
        if self._other is not None:
            self._other.kill()
            self._other.wait()

    def kill_edge(self) -> None:
        """As a crash; the stack starts it again."""
        (pid,) = self.stack.pids("edge")
        os.kill(pid, signal.SIGKILL)

    def stop(self) -> None:
        self.kill_other_edge()
        self.stack.kill()
        self.annotations.kill()

    def _is_other_ready(self) -> bool:
        try:
            return httpx.get(f"{self.other_url}/health/ready", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False


def clip(service: Service, name: str, *, frames: int, **square: float) -> Path:
    path = service.media / name
    return write_video(path, frames=frames, container=Container.MP4_FRONT, squares=[Square(x=4, y=40, **square)])


def ended(http: httpx.Client, task_id: str) -> Json:
    deadline_s = time.monotonic() + END_TIMEOUT_S
    while time.monotonic() < deadline_s:
        answer = http.get(f"/tasks/{task_id}")
        assert answer.status_code == 200, answer.text
        if answer.json()["status"] not in ("Queued", "Running"):
            return answer.json()
        time.sleep(POLL_S)
    raise AssertionError(f"task {task_id} did not end")


def start(http: httpx.Client, media_id: str, headers: Json, **config: object) -> Json:
    answer = http.post(f"/detect/{media_id}", headers=headers, content=json.dumps(config))
    assert answer.status_code == 202, answer.text
    return answer.json()


def upload(http: httpx.Client, path: Path, headers: Json, **config: object) -> Json:
    said = {**headers, "X-Filename": path.name, "X-Config": json.dumps(config)}
    deadline_s = time.monotonic() + END_TIMEOUT_S
    while (answer := http.post("/detect/video", content=path.read_bytes(), headers=said)).status_code == 503:
        assert time.monotonic() < deadline_s, answer.text  # an edge that has just started may not have its broker yet
        time.sleep(POLL_S)
    assert answer.status_code == 202, answer.text
    return answer.json()


def assert_told_once_in_order(double: AnnotationsProcess, task: Json, *, is_upload: bool) -> None:
    """Record, processing, every report, processed: each once, in this order."""
    keys = [one["key"] for one in double.stored(task["mediaId"]) if (one["key"] or "").startswith(task["taskId"])]
    reported = task["counts"]["reported"]
    whats = ["media"] * is_upload + ["processing", *map(str, range(1, reported + 2))]
    assert keys == [f"{task['taskId']}:{what}" for what in whats]
