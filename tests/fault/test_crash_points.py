"""A process is killed at every named point of its work; whoever comes next brings everything to its one end.

A few points in every run, all of them with `make soak`. A case fails if its point is not reached.
"""

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import aio_pika
import httpx
import msgspec
import pytest

from contracts import crashpoints, topology
from contracts.failures import FailureCode
from contracts.results import latest_epoch, reports
from contracts.storage import Layout, TaskRecord, read_record
from detections.rabbitmq import PrivateRabbit
from tests.annotations import AnnotationsProcess
from tests.broker.consumer_stage import scripted_model
from tests.fault.checker import Accepted, Posted, Seen, check
from tests.fault.crash_cases import CASES, Case, Flow, points_in_the_code
from tests.fault.fleet import WAIT_S, Actor, BrokerHandle, Fleet, fleet, private_broker
from tests.fault.flow import channel_on, clip_of, new_task, seen_on, send_video, until_empty, virtual_host, wait_for_end
from tests.fault.timeline import Timeline, timeline
from tests.media import STATIC, write_image
from tests.processes import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.broker, pytest.mark.timeout(400)]

FRAMES = 40
REPORTS_HALFWAY = 5
SETTINGS = {"EDGE_POST_LEASE_S": "2", "EDGE_POST_DELAYS_S": "0.5", "EDGE_DEAD_LETTER_RETRY_S": "0.5"}


class World:
    """A system that outlasts the cases; each of them costs it one process, which comes back."""

    def __init__(self, system: Fleet, amqp_url: str, annotations: AnnotationsProcess, clip: bytes) -> None:
        self.fleet = system
        self.amqp_url = amqp_url
        self.annotations = annotations
        self.clip = clip
        self.layout = Layout(system.storage)
        self.edge = system.edge
        self.consumer = system.consumer()

    def start(self) -> None:
        self.edge.start()
        self.consumer.start()
        self.fleet.wait_until_ready()

    def reported(self, task_id: str) -> int:
        return len(list(reports(self.layout, task_id))) if latest_epoch(self.layout, task_id) else 0


@contextlib.contextmanager
def a_world(folder: Path, amqp_url: str) -> Iterator[World]:
    annotations = AnnotationsProcess(folder / "double")
    annotations.start()
    environ = {**SETTINGS, "ANNOTATIONS_URL": annotations.url}
    model = scripted_model(folder, delay_s=0.01)
    try:
        with fleet(folder / "storage", amqp_url=amqp_url, model=model, **environ) as running:
            made = World(running, amqp_url, annotations, clip_of(folder, frames=FRAMES, noise=20))
            made.start()
            yield made
    finally:
        annotations.kill()


@pytest.fixture(scope="module")
def world(rabbit: PrivateRabbit, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with virtual_host(rabbit) as url, a_world(tmp_path_factory.mktemp("crashes"), url) as made:
        yield made


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerHandle]:
    """One that may be killed."""
    with private_broker(tmp_path_factory.mktemp("broker")) as handle:
        yield handle


@pytest.fixture(scope="module")
def other_world(broker: BrokerHandle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """On the broker that is killed."""
    with a_world(tmp_path_factory.mktemp("broker-crashes"), broker.url) as made:
        broker.settle()
        yield made


class Run:
    """One case: its victim, what was promised, and what came of it."""

    def __init__(self, world: World, case: Case, told: Timeline) -> None:
        self.world = world
        self.case = case
        self.task_id = new_task()
        self.victim: Actor = world.edge if case.victim == "edge" else world.consumer
        self._clip = unlike_others(world.clip)
        self._told = told
        self._pool = ThreadPoolExecutor(1)

    def arm(self, how: str = "") -> None:
        """A life of the victim that ends where the case says. how: `:stop`, if it only stops there."""
        self.victim.kill()
        self.victim.start(**{crashpoints.VARIABLE: f"{self.case.point}:{self.case.passage}{how}"})
        self.world.fleet.wait_until_ready()
        self._told.note(f"{self.victim.name} is armed")

    def upload(self, halfway: Callable[[], None], **headers: str) -> "Future[int | None]":
        return self._pool.submit(send_video, self.world.fleet.url, self.task_id, self._clip, halfway=halfway, **headers)

    def until_it_reports(self) -> None:
        wait_until(
            lambda: not self.victim.is_working or self.world.reported(self.task_id) >= REPORTS_HALFWAY,
            timeout_s=WAIT_S,
        )

    def until_it_dies(self) -> None:
        wait_until(lambda: not self.victim.is_working, timeout_s=WAIT_S)

    def bury(self) -> None:
        """The victim has died where it was to die; another one goes on."""
        lives = [f"{self.case.point}:{self.case.passage}", *([self.case.then] if self.case.then else [])]
        for life, following in zip(lives, [*lives[1:], None], strict=True):
            code = self.victim.wait_until_dead()
            self._told.note(f"{self.victim.name} died with {code}")
            name = life.rpartition(":")[0]
            assert f"crash point {name} was reached" in self.victim.output, self.victim.output
            assert code == -9
            self.victim.start(**({crashpoints.VARIABLE: following} if following else {}))
        self.world.fleet.wait_until_ready()
        self._told.note(f"{self.victim.name} is back")

    def kill_the_broker_meanwhile(self, broker: BrokerHandle) -> None:
        """The victim has stopped where it was to stop; it goes on when the broker has died and come back."""
        self.until_it_dies()
        assert f"crash point {self.case.point} was reached" in self.victim.output, self.victim.output
        broker.kill()
        broker.start()
        self.victim.wake()
        self.world.fleet.wait_until_ready()
        self._told.note("the broker is back, and its victim goes on")

    def result(self, sending: "Future[int | None]") -> int | None:
        status = sending.result(WAIT_S)
        self._told.note(f"the client got {status}")
        self._pool.shutdown()
        return status


def upload(run: Run) -> list[Accepted]:
    held = run.case.flow is Flow.HELD
    sending = run.upload(run.until_it_dies if held else run.until_it_reports)
    run.bury()
    return promised(run, run.result(sending))


def promised(run: Run, status: int | None) -> list[Accepted]:
    """A client that got its 202 gets every report."""
    return [Accepted(task_id=run.task_id, reports=FRAMES)] if status == 202 else []


def posted(run: Run) -> list[Accepted]:
    sending = run.upload(run.until_it_reports, **run.world.annotations.headers())
    run.bury()
    if run.result(sending) != 202:
        return []
    keys = ("media", "processing", *(str(number) for number in range(1, FRAMES + 2)))
    return [Accepted(task_id=run.task_id, reports=FRAMES, posts=tuple(f"{run.task_id}:{key}" for key in keys))]


def handed_on(run: Run) -> list[Accepted]:
    def ask_it_to_stop() -> None:
        run.until_it_reports()
        run.victim.terminate()
        run.until_it_dies()

    sending = run.upload(ask_it_to_stop)
    run.bury()
    return promised(run, run.result(sending))


def cancelled(run: Run) -> list[Accepted]:
    run.world.consumer.kill()
    assert run.result(run.upload(lambda: None)) == 202
    with contextlib.suppress(httpx.TransportError):
        httpx.delete(f"{run.world.fleet.url}/tasks/{run.task_id}", timeout=60, trust_env=False)
    run.victim.wait_until_dead()
    run.world.consumer.start()
    run.bury()
    return [Accepted(task_id=run.task_id)]


def cut(run: Run) -> list[Accepted]:
    gone = threading.Event()

    def leave() -> None:
        run.until_it_reports()
        gone.set()
        raise httpx.WriteError("the client goes away")

    run.result(run.upload(leave))
    assert gone.is_set() or not run.victim.is_running
    run.bury()
    return []


def letter(run: Run) -> list[Accepted]:
    body = msgspec.json.encode({"type": "DetectVideo", "version": 1, "taskId": run.task_id, "medium": 7})

    async def publish() -> None:
        async with channel_on(run.world.amqp_url) as channel:
            exchange = await channel.get_exchange(topology.COMMANDS, ensure=False)
            await exchange.publish(aio_pika.Message(body, delivery_mode=2), "video")

    asyncio.run(publish())
    run.bury()
    wait_for_end(run.world.layout, run.task_id)
    return [Accepted(task_id=run.task_id)]


def picture(run: Run) -> list[Accepted]:
    content = write_image(run.world.fleet.storage / "a.png", squares=STATIC).read_bytes()
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(
            httpx.post,
            f"{run.world.fleet.url}/detect",
            files={"file": ("a.png", content)},
            timeout=WAIT_S,
            trust_env=False,
        )
        run.bury()
        answer = asking.result(WAIT_S)
    assert answer.status_code == 200, answer.text
    return []


def unlike_others(clip: bytes) -> bytes:
    """The same video as another file: one that came in before would be kept only once."""
    free = os.urandom(16)
    return clip + (8 + len(free)).to_bytes(4, "big") + b"free" + free


FLOWS: dict[Flow, Callable[[Run], list[Accepted]]] = {
    Flow.UPLOAD: upload,
    Flow.HELD: upload,
    Flow.POSTED: posted,
    Flow.HANDED_ON: handed_on,
    Flow.CANCELLED: cancelled,
    Flow.CUT: cut,
    Flow.LETTER: letter,
    Flow.PICTURE: picture,
}


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=case.name, marks=() if case.is_always_run else pytest.mark.soak) for case in CASES],
)
def test_a_death_costs_nothing_that_was_promised(world: World, case: Case) -> None:
    with timeline(case.name) as told:
        run = Run(world, case, told)
        run.arm()
        accepted = FLOWS[case.flow](run)
        after = Run(world, case, told)
        assert after.result(after.upload(after.until_it_reports)) == 202
        for task in (run.task_id, after.task_id):
            if read_record(world.layout.task_record(task), TaskRecord) is not None:
                told.note(f"{task} ends as {wait_for_end(world.layout, task).failure}")
                accepted = accepted or [Accepted(task_id=task)]  # written down: it has an end for everybody
        assert_clean(run, [*accepted, Accepted(task_id=after.task_id, reports=FRAMES)])


@pytest.mark.soak
@pytest.mark.parametrize(
    "case", [pytest.param(case, id=case.name) for case in CASES if case.flow is Flow.UPLOAD and not case.then]
)
def test_a_broker_that_dies_at_that_moment_costs_nothing(other_world: World, broker: BrokerHandle, case: Case) -> None:
    with timeline(case.name) as told:
        run = Run(other_world, case, told)
        run.arm(":stop")
        sending = run.upload(run.until_it_reports)
        run.kill_the_broker_meanwhile(broker)
        accepted = Accepted(task_id=run.task_id, reports=FRAMES)
        assert run.result(sending) in (202, 503), "a medium that is stored is looked at, whatever its client was told"
        assert wait_for_end(other_world.layout, run.task_id).failure is None
        assert_clean(run, [accepted])


def assert_clean(run: Run, accepted: list[Accepted]) -> None:
    """Nothing is lost, double, out of order or stuck. An end is written down a moment before it is in the log."""
    deadline_s = time.monotonic() + WAIT_S
    while not (verdict := check(seen_in(run, accepted))).is_clean and time.monotonic() < deadline_s:
        time.sleep(0.5)
    assert verdict.is_clean, verdict
    asyncio.run(until_empty(run.world.amqp_url))


def seen_in(run: Run, accepted: list[Accepted]) -> Seen:
    """What a case left behind; the others used the same log."""
    seen = asyncio.run(seen_on(run.world.amqp_url, accepted))
    ours = {run.task_id, *(promise.task_id for promise in accepted)}
    letters = [task for task in seen.dead_letters if task in ours and run.case.flow is Flow.LETTER]
    posts = [
        Posted(task_id=key.partition(":")[0], key=key)
        for each in run.world.annotations.stored()
        if (key := str(each.get("key"))).partition(":")[0] in ours
    ]
    events = [event for event in seen.events if event.task_id in ours]
    return msgspec.structs.replace(seen, events=events, dead_letters=letters, posts=posts)


@pytest.mark.soak
def test_a_video_that_kills_three_consumers_is_ended_by_the_fourth(world: World) -> None:
    task, kills = new_task(), 3
    world.consumer.kill()
    assert send_video(world.fleet.url, task, world.clip) == 202
    for _ in range(kills):
        world.consumer.start(**{crashpoints.VARIABLE: "consumer.claim.noted:1"})
        assert world.consumer.wait_until_dead() == -9
    world.consumer.start()
    world.fleet.wait_until_ready()
    failure = wait_for_end(world.layout, task).failure

    assert failure is not None
    assert failure.code is FailureCode.POISON
    assert latest_epoch(world.layout, task) == kills + 1
    asyncio.run(until_empty(world.amqp_url))


def test_every_crash_point_of_the_code_is_in_the_matrix() -> None:
    named = {name for case in CASES for name in (case.point, *([case.then.rpartition(":")[0]] if case.then else []))}

    assert points_in_the_code() == named
    assert len(named) >= 40


def test_the_slice_that_is_always_run_kills_both() -> None:
    assert {case.victim for case in CASES if case.is_always_run} == {"edge", "consumer"}
