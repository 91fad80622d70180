"""A broker that is out of memory for a minute, under load: everybody is answered at once, and nothing is lost.

With `make soak`; `FAULT_ALARM_S` (60) says how long. That an alarm is told of at all is in every run (`test_broker_faults.py`).
"""

import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Self

import httpx
import msgspec
import pytest

from contracts.storage import Layout
from tests.broker.consumer_stage import scripted_model
from tests.fault.checker import Accepted
from tests.fault.fleet import WAIT_S, fleet, private_broker
from tests.fault.flow import ANSWER_TIMEOUT_S, CONFIG, clip_of, new_task
from tests.fault.timeline import timeline
from tests.fault.work import FRAMES, judge
from tests.media import STATIC, write_image
from tests.processes import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.broker, pytest.mark.soak, pytest.mark.timeout(1800)]

ALARM_S = float(os.environ.get("FAULT_ALARM_S", "60"))
UPLOADERS = 2
PAUSE_S = 0.25
ANSWER_MAX_S = 20.0
"""Ten times the goal: this machine may be busy."""


class Answer(msgspec.Struct, frozen=True):
    what: str
    status: int
    took_s: float
    at_s: float


class Clients:
    """Somebody who uploads, somebody who shows pictures, somebody who asks; each answer with the time it took."""

    def __init__(self, url: str, *, clip: bytes, picture: bytes) -> None:
        self.answers: list[Answer] = []
        self.sent: list[tuple[str, int]] = []
        """Task and status of each upload."""
        self._url = url
        self._clip = clip
        self._picture = {"file": ("a.png", picture)}
        self._stop = threading.Event()
        asking = [self._upload] * UPLOADERS + [self._show, self._ask]
        self._threads = [threading.Thread(target=self._repeat, args=(ask,), daemon=True) for ask in asking]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(WAIT_S * 2)
            assert not thread.is_alive()

    def _repeat(self, ask: Callable[[httpx.Client], None]) -> None:
        with httpx.Client(base_url=self._url, timeout=ANSWER_TIMEOUT_S, trust_env=False) as http:
            while not self._stop.is_set():
                ask(http)
                time.sleep(PAUSE_S)

    def _upload(self, http: httpx.Client) -> None:
        task = new_task()
        headers = {"X-Filename": "clip.mp4", "X-Task-Id": task, **CONFIG}
        status = self._timed("upload", lambda: http.post("/detect/video", content=self._clip, headers=headers))
        self.sent.append((task, status))

    def _show(self, http: httpx.Client) -> None:
        self._timed("picture", lambda: http.post("/detect", files=self._picture))

    def _ask(self, http: httpx.Client) -> None:
        for path in ("/health", "/health/live", "/health/ready"):
            self._timed(path, lambda: http.get(path))  # noqa: B023 - called at once
        if self.sent:
            task = self.sent[-1][0]
            self._timed("task", lambda: http.get(f"/tasks/{task}"))

    def _timed(self, what: str, ask: Callable[[], httpx.Response]) -> int:
        began_s = time.monotonic()
        status = ask().status_code
        self.answers.append(Answer(what, status, time.monotonic() - began_s, began_s))
        return status


def test_an_alarm_of_a_minute_keeps_nobody_waiting_and_loses_nothing(tmp_path: Path) -> None:
    clip = clip_of(tmp_path, frames=FRAMES)
    picture = write_image(tmp_path / "a.png", squares=STATIC).read_bytes()
    model = scripted_model(tmp_path, delay_s=0.02)
    with (
        timeline("alarm") as told,
        private_broker(tmp_path / "rabbit") as broker,
        fleet(tmp_path / "storage", amqp_url=broker.url, model=model) as system,
    ):
        for actor in (system.edge, system.consumer()):
            actor.start()
        system.wait_until_ready()
        with Clients(system.url, clip=clip, picture=picture) as clients:
            wait_until(lambda: sum(status == 202 for _, status in clients.sent) >= UPLOADERS, timeout_s=WAIT_S)
            with broker.memory_alarm():
                began_s = time.monotonic()
                told.note("the alarm is on")
                time.sleep(ALARM_S)
                told.note("the alarm ends")
                ended_s = time.monotonic()
            wait_until(system.is_ready, timeout_s=WAIT_S)
            told.note("ready again")
            after = len(clients.sent)
            wait_until(lambda: any(status == 202 for _, status in clients.sent[after:]), timeout_s=WAIT_S)
        during = [answer for answer in clients.answers if began_s <= answer.at_s <= ended_s]
        tell(during, told.note)
        promised = [Accepted(task_id=task, reports=FRAMES) for task, status in clients.sent if status == 202]
        stored = [task for task, status in clients.sent if status == 503]
        layout = Layout(system.storage)
        tasks = [*(promise.task_id for promise in promised), *stored]
        wait_until(lambda: all(layout.end(task).exists() for task in tasks), timeout_s=WAIT_S * 5)
        judge(system, broker.url, [*promised, *(Accepted(task_id=task, reports=FRAMES) for task in stored)])
        assert stored, "some were stored during the alarm, and are looked at after it"
        print(told)
    assert {answer.status for answer in during if answer.what in ("upload", "picture")} == {503}
    assert {answer.status for answer in during if answer.what == "/health/live"} == {200}
    assert max(answer.took_s for answer in during) < ANSWER_MAX_S


def tell(answers: list[Answer], note: Callable[[str], None]) -> None:
    """How long each kind of request took."""
    for what in sorted({answer.what for answer in answers}):
        took_s = sorted(answer.took_s for answer in answers if answer.what == what)
        statuses = dict(Counter(answer.status for answer in answers if answer.what == what))
        note(f"{what}: {statuses}, median {took_s[len(took_s) // 2]:.2f} s, max {took_s[-1]:.2f} s")
    note(f"load {os.getloadavg()[0]:.1f}")
