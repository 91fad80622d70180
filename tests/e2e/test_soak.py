"""What must hold for minutes, at its stated size: minutes of real time, so `make soak` runs it and `make test` does not."""

import itertools
import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.annotations import AnnotationsProcess, Json
from tests.e2e.annotated import ALL_FRAMES, Service, assert_told_once_in_order, clip, start
from tests.processes import wait_until

pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]

OUTAGE_S = 60.0
KILLED_AFTER_S = (15.0, 35.0)
"""From the start of the outage, at the first edge and at the second."""
UPLOADS = 10
UPLOAD_S = 8.0
END_TIMEOUT_S = 300.0
CHUNKS = 64


class Callers:
    """Everybody who calls: at one edge and the other in turns, once more where a connection breaks, never told a 5xx."""

    def __init__(self, *urls: str) -> None:
        self._edges = [httpx.Client(base_url=url, timeout=30, trust_env=False) for url in urls]
        self._turns = itertools.cycle(self._edges)
        self._lock = threading.Lock()
        self.broken = 0

    def close(self) -> None:
        for edge in self._edges:
            edge.close()

    def upload(self, path: Path, headers: Json, *, seconds: float, config: Json) -> list[str]:
        """The ids of its tasks, the last one whole: an edge that dies under an upload has it sent again as a new one."""
        tasks: list[str] = []
        while True:
            tasks.append(str(uuid.uuid4()))
            said = {"X-Filename": path.name, "X-Config": json.dumps(config), "X-Task-Id": tasks[-1]}
            content = paced(path.read_bytes(), seconds=seconds)
            answer = self._ask("POST", "/detect/video", headers=headers | said, content=content)
            if answer is not None:
                assert answer.status_code == 202, answer.text
                return tasks

    def ended(self, task_id: str) -> Json | None:
        """The ended task; None for an upload that broke before it became one."""
        deadline_s = time.monotonic() + END_TIMEOUT_S
        while time.monotonic() < deadline_s:
            answer = self._ask("GET", f"/tasks/{task_id}")
            if answer is not None and answer.status_code == 404:
                return None
            if answer is not None and answer.json()["status"] not in ("Queued", "Running"):
                return answer.json()
            time.sleep(0.2)
        raise AssertionError(f"task {task_id} did not end")

    def _ask(self, method: str, path: str, **said: object) -> httpx.Response | None:
        """None if the connection broke."""
        with self._lock:
            edge = next(self._turns)
        try:
            answer = edge.request(method, path, **said)
        except httpx.TransportError:
            with self._lock:
                self.broken += 1
            time.sleep(0.2)
            return None
        assert answer.status_code < 500, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer


def paced(content: bytes, *, seconds: float) -> Iterator[bytes]:
    """The content, as a line would bring it that takes so long for it."""
    size = -(-len(content) // CHUNKS)
    for begin in range(0, len(content), size):
        yield content[begin : begin + size]
        time.sleep(seconds / CHUNKS)


@pytest.fixture
def service(tmp_path: Path, new_host: Callable[[], dict[str, str]]) -> Iterator[Service]:
    service = Service(tmp_path, new_host())
    try:
        service.start()
        yield service
    finally:
        service.stop()


@pytest.fixture
def callers(service: Service) -> Iterator[Callers]:
    callers = Callers(service.stack.url, service.other_url)
    yield callers
    callers.close()


def has_been_told(double: AnnotationsProcess, media: list[str]) -> bool:
    """True once it was told how each of the media ended."""
    stored = double.stored()
    ends = {one["path"] for one in stored if one["path"].endswith("/status") and one["body"]["status"] in (3, 6)}
    return ends >= {f"/api/media/{media_id}/status" for media_id in media}


def kill_both_edges_in_turn(service: Service, *, since_s: float) -> None:
    first_s, second_s = KILLED_AFTER_S
    time.sleep(max(0.0, since_s + first_s - time.monotonic()))
    service.kill_edge()
    time.sleep(max(0.0, since_s + second_s - time.monotonic()))
    service.kill_other_edge()
    service.start_other_edge()
    wait_until(lambda: service.stack.pids("edge"), timeout_s=30)


def test_every_post_arrives_once_after_a_minute_without_the_service_in_which_both_edges_are_killed(
    service: Service, callers: Callers
) -> None:
    """20 tasks: 10 media by id, of which the service is being told when it dies; 10 uploads over the time it is away."""
    double = service.annotations
    clips = [clip(service, f"o{number}.mp4", frames=150, dx=number / 20) for number in range(UPLOADS)]
    by_id = [double.add_medium(f"outage-{number}", path) for number, path in enumerate(clips)]
    headers = double.headers()
    with httpx.Client(base_url=service.other_url, timeout=30, trust_env=False) as http:
        started = [start(http, media_id, headers, **ALL_FRAMES) for media_id in by_id]
    double.wait_until(lambda: double.annotations(by_id[0]))
    double.kill()
    down_s = time.monotonic()
    with ThreadPoolExecutor(UPLOADS + 1) as pool:
        killing = pool.submit(kill_both_edges_in_turn, service, since_s=down_s)
        sending = []
        for path in clips:
            sending.append(pool.submit(callers.upload, path, headers, seconds=UPLOAD_S, config=ALL_FRAMES))
            time.sleep((OUTAGE_S - UPLOAD_S) / UPLOADS)
        killing.result()
        uploads = [one.result() for one in sending]
    broken = [callers.ended(task_id) for tasks in uploads for task_id in tasks[:-1]]
    tasks = [callers.ended(task_id) for task_id in [one["taskId"] for one in started] + [ids[-1] for ids in uploads]]
    time.sleep(max(0.0, down_s + OUTAGE_S - time.monotonic()))
    double.start()

    assert callers.broken, "no edge was missed: nothing was tried"
    assert {task["error"]["code"] for task in broken if task} <= {"upload_abandoned"}
    assert [task["status"] for task in tasks] == ["Succeeded"] * 20
    media = [task["mediaId"] for task in tasks]
    wait_until(lambda: has_been_told(double, media), timeout_s=END_TIMEOUT_S)
    for task in tasks:
        assert_told_once_in_order(double, task, is_upload=task["mediaId"] not in by_id)
    # the service is told nothing of an upload that came to nothing, and of the others nothing but this
    posts = sum(task["counts"]["reported"] + 2 + (task["mediaId"] not in by_id) for task in tasks)
    assert len([one for one in double.stored() if one["key"]]) == posts


def test_tokens_of_three_seconds_carry_a_minute_of_video_sent_in_real_time_and_one_by_id(
    service: Service, callers: Callers
) -> None:
    """Each post takes 0.2 s and a medium's come one after the other: those of 300 reports take a minute or longer."""
    double = service.annotations
    path = clip(service, "minute.mp4", frames=1500)
    by_id = double.add_medium("minute", path)
    double.fault(mode="slow", slow_s=0.2, only="/annotations", token_life_s=3, refresh_s=0.3)
    config = {"frame_period_recognition": 5, "frame_recognition_seconds": 0}
    with httpx.Client(base_url=service.other_url, timeout=30, trust_env=False) as http:
        started = start(http, by_id, double.headers(), **config)
    uploaded = callers.upload(path, double.headers(), seconds=60, config=config)
    tasks = [callers.ended(task_id) for task_id in (started["taskId"], uploaded[-1])]
    media = [task["mediaId"] for task in tasks]
    wait_until(lambda: has_been_told(double, media), timeout_s=END_TIMEOUT_S * 2)
    seen = double.seen()

    assert [task["counts"]["reported"] for task in tasks] == [300, 300]
    for task in tasks:
        assert_told_once_in_order(double, task, is_upload=task["mediaId"] != by_id)
    assert seen["unauthorised"] == 0
    assert seen["refreshes_at_once_max"] == 1
    assert seen["refreshes"] >= 20  # a token is good for 3 s, and there is a minute of posts at least
