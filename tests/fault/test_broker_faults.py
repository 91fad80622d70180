"""A broker that is not there yet, in alarm, frozen: what clients are told meanwhile, and that nothing is lost."""

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import httpx
import msgspec
import pytest

from contracts.commands import DetectVideo
from contracts.media import Medium, MediumKind
from contracts.results import latest_epoch
from contracts.storage import Layout
from detections.rabbitmq import PrivateRabbit
from tests.broker.consumer_stage import scripted_model
from tests.fault.checker import Accepted, check
from tests.fault.fleet import WAIT_S, Actor, BrokerHandle, Fleet, fleet
from tests.fault.flow import (
    EVERY_FRAME,
    channel_on,
    clip_of,
    new_task,
    seen_on,
    send_command,
    send_video,
    until_empty,
    wait_for_end,
)
from tests.fault.proxy import proxy_to
from tests.media import STATIC, write_image
from tests.processes import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.broker, pytest.mark.timeout(300)]

FRAMES = 60
FAR_TOO_LONG_S = 40.0
"""What every deadline of the edge is set to here: an answer within half of it came of knowing, not of waiting."""


class System(msgspec.Struct, frozen=True):
    broker: BrokerHandle
    fleet: Fleet
    consumer: Actor
    before_the_broker: dict[str, int]
    """What the edge answered while there was no broker."""


def status_of(url: str, path: str) -> int:
    return httpx.get(url + path, timeout=60, trust_env=False).status_code


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """The edge and a consumer first, then the broker."""
    folder = tmp_path_factory.mktemp("broker-faults")
    broker = BrokerHandle(PrivateRabbit(folder))
    environ = {
        "EDGE_PUBLISH_TIMEOUT_S": str(FAR_TOO_LONG_S),
        "EDGE_CONFIRM_WAIT_S": str(FAR_TOO_LONG_S),
        "EDGE_PROBE_TIMEOUT_S": str(FAR_TOO_LONG_S),
        "EDGE_PRESENCE_EXPIRY_S": "30",
    }
    model = scripted_model(folder, delay_s=0.02)
    try:
        with fleet(folder / "storage", amqp_url=broker.url, model=model, **environ) as running:
            running.edge.start()
            consumer = running.consumer()
            consumer.start()
            running.edge.wait_until_ready()
            answers = {path: status_of(running.url, path) for path in ("/health", "/health/live", "/health/ready")}
            broker.start()
            running.wait_until_ready()
            yield System(broker, running, consumer, answers)
    finally:
        broker.kill()


def test_processes_that_start_without_a_broker_say_so_and_connect_when_it_appears(system: System) -> None:
    """That they did is what every other test here stands on."""
    assert system.before_the_broker == {"/health": 200, "/health/live": 200, "/health/ready": 503}


class Halfway:
    """An upload in a thread of its own that waits between its halves, its task running, until it may go on."""

    def __init__(self, system: System, clip: bytes) -> None:
        self.task_id = new_task()
        self._go_on = threading.Event()
        self._layout = Layout(system.fleet.storage)
        self._pool = ThreadPoolExecutor(1)
        self._sending = self._pool.submit(
            send_video, system.fleet.url, self.task_id, clip, halfway=lambda: self._go_on.wait(WAIT_S)
        )
        wait_until(lambda: latest_epoch(self._layout, self.task_id) > 0, timeout_s=WAIT_S)

    @property
    def has_ended(self) -> bool:
        return self._layout.end(self.task_id).exists()

    def go_on(self) -> int | None:
        """Send the rest; the status of the answer."""
        self._go_on.set()
        status = self._sending.result(WAIT_S)
        self._pool.shutdown()
        return status


@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_an_alarm_is_told_of_at_once_and_costs_nothing(system: System, tmp_path: Path, kind: str) -> None:
    clip, later, url = clip_of(tmp_path, frames=FRAMES, noise=20), new_task(), system.fleet.url
    alarm: AbstractContextManager[None] = getattr(system.broker, f"{kind}_alarm")()
    picture = write_image(tmp_path / "a.png", squares=STATIC).read_bytes()

    running = Halfway(system, clip)
    with alarm, httpx.Client(base_url=url, timeout=120, trust_env=False) as http:
        started_s = time.monotonic()
        refused = http.post("/detect", files={"file": ("a.png", picture)})
        stored = send_video(url, later, clip)
        ready = http.get("/health/ready")
        live = http.get("/health/live")
        took_s = time.monotonic() - started_s
        went_on = running.go_on()
        had_ended = running.has_ended
    wait_until(system.fleet.is_ready, timeout_s=WAIT_S)

    assert (refused.status_code, refused.json()["code"]) == (503, "broker_unavailable")
    assert int(refused.headers["retry-after"]) > 0
    assert "alarm" in refused.json()["detail"]
    assert (stored, ready.status_code, live.status_code) == (503, 503, 200)
    assert "alarm" in ready.json()["detail"]
    assert took_s < FAR_TOO_LONG_S / 2
    assert (went_on, had_ended) == (202, False), "a task that runs waits for the broker"
    check_all(system, [running.task_id, later])


def test_a_frozen_broker_costs_nothing(system: System, tmp_path: Path) -> None:
    running = Halfway(system, clip_of(tmp_path, frames=FRAMES, noise=20))

    system.broker.freeze()
    went_on = running.go_on()
    had_ended = running.has_ended
    system.broker.wake()

    assert (went_on, had_ended) == (202, False)
    check_all(system, [running.task_id])


@pytest.mark.soak
def test_an_alarm_that_lasts_uses_up_no_deliveries(system: System, tmp_path: Path) -> None:
    """A consumer that cannot answer waits with its command; given back at once, it would soon have come too often."""
    command = DetectVideo(
        task_id=new_task(), medium=Medium(root="storage", path="long.mp4", kind=MediumKind.VIDEO), options=EVERY_FRAME
    )
    Layout(system.fleet.storage).root.joinpath("long.mp4").write_bytes(clip_of(tmp_path, frames=FRAMES))

    async def publish() -> None:
        async with channel_on(system.broker.url) as channel:
            await send_command(channel, command)

    system.consumer.freeze()
    asyncio.run(publish())
    with system.broker.memory_alarm():
        system.consumer.wake()
        wait_until(lambda: '"given back"' in system.consumer.output, timeout_s=240)
        time.sleep(30)
    check_all(system, [command.task_id])

    assert system.consumer.output.count('"given back"') == 1


@pytest.mark.soak
async def test_a_consumer_gives_a_broker_up_that_takes_its_connection_and_says_nothing(
    system: System, tmp_path: Path
) -> None:
    async with proxy_to(system.broker.node.port) as proxy:
        proxy.fall_silent()
        url = f"amqp://guest:guest@127.0.0.1:{proxy.port}/"
        with fleet(tmp_path, amqp_url=url, model=scripted_model(tmp_path)) as other:
            consumer = other.consumer()
            consumer.start()
            async with asyncio.timeout(WAIT_S):
                while proxy.accepted < 2:
                    await asyncio.sleep(0.1)
            proxy.speak()
            await asyncio.to_thread(consumer.wait_until_ready)


def check_all(system: System, tasks: list[str]) -> None:
    """Every task reports everything and ends; an end is written down a moment before it is in the log."""
    for task in tasks:
        assert wait_for_end(Layout(system.fleet.storage), task).failure is None
    accepted = [Accepted(task_id=task, reports=FRAMES) for task in tasks]
    url = system.broker.url
    wait_until(lambda: not check(asyncio.run(seen_on(url, accepted))).stuck, timeout_s=WAIT_S)
    verdict = check(asyncio.run(seen_on(url, accepted)))
    assert verdict.is_clean, verdict
    asyncio.run(until_empty(url))
