"""How long it takes until somebody else goes on, and that what comes of it equals a run that nobody disturbed.

With `make soak`; the figures are printed (`-s`) and kept in benchmarks/RESULTS.md.
"""

import asyncio
import os
import signal
import statistics
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import httpx
import msgspec
import pytest

from contracts.events import TaskProgressed
from contracts.failures import FailureCode
from contracts.results import Checkpoint, TakenOver, latest_epoch, records_backwards, reports
from contracts.storage import Layout, Lease, read_record
from tests.broker.consumer_stage import scripted_model
from tests.fault.checker import Accepted, check
from tests.fault.fleet import WAIT_S, Actor, BrokerHandle, Fleet, fleet, private_broker
from tests.fault.flow import clip_of, new_task, seen_on, send_video, wait_for_end
from tests.processes import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.broker, pytest.mark.soak, pytest.mark.timeout(1200)]

FRAMES = 200
FRAMES_PER_S = 25
LONG_FRAMES = 600
ONE_REPORT = '{"frame_period_recognition": 1, "frame_recognition_seconds": 60}'
REDONE_MAX_S = 10.0
"""Of media, after a kill."""
KILLS = 5


class Stage(msgspec.Struct, frozen=True):
    broker: BrokerHandle
    fleet: Fleet
    consumers: list[Actor]
    clip: bytes

    @property
    def layout(self) -> Layout:
        return Layout(self.fleet.storage)

    def holder(self, task_id: str) -> Actor:
        """The consumer that works on a task."""
        lease = read_record(self.layout.lease(task_id), Lease)
        assert lease is not None
        (holder,) = (one for one in self.consumers if one.is_running and one.pid == int(lease.owner.split(":")[1]))
        return holder


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("takeover")
    model = scripted_model(folder, delay_s=0.02)
    with private_broker(folder / "rabbit") as broker, fleet(folder / "storage", amqp_url=broker.url, model=model) as on:
        consumers = [on.consumer(), on.consumer()]
        for actor in (on.edge, *consumers):
            actor.start()
        on.wait_until_ready()
        broker.settle()
        yield Stage(broker, on, consumers, clip_of(folder, frames=FRAMES, noise=20))


class Running:
    """A task in the middle of its upload; the rest of it comes with `finish`."""

    def __init__(self, stage: Stage, *, clip: bytes | None = None, **headers: str) -> None:
        self.task_id = new_task()
        self._stage = stage
        self._go_on = threading.Event()
        self._pool = ThreadPoolExecutor(1)
        self._sending: Future[int | None] = self._pool.submit(
            send_video,
            stage.fleet.url,
            self.task_id,
            clip or stage.clip,
            halfway=lambda: self._go_on.wait(WAIT_S * 3),
            **headers,
        )
        wait_until(lambda: self.reported >= 1, timeout_s=WAIT_S)

    @property
    def epoch(self) -> int:
        return latest_epoch(self._stage.layout, self.task_id)

    @property
    def reported(self) -> int:
        return len(list(reports(self._stage.layout, self.task_id))) if self.epoch else 0

    def until_taken_by(self, epoch: int) -> float:
        """How many seconds it takes until somebody has claimed that epoch."""
        return wait_until(lambda: self.epoch >= epoch, timeout_s=WAIT_S)

    def taken_over_at(self) -> Checkpoint | None:
        """Where the second taker went on from."""
        path = self._stage.layout.results(self.task_id, epoch=1)
        taken = list(records_backwards(self._stage.layout.results(self.task_id, epoch=2)))[-1][0]
        assert isinstance(taken, TakenOver)
        counted = records_backwards(path, bytes_max=taken.previous_bytes)
        return next((record for record, _ in counted if isinstance(record, Checkpoint)), None)

    def finish(self, *, reports_made: int = FRAMES) -> list[tuple[int, int]]:
        """Number and frame of each report, once all of it has ended well."""
        self._go_on.set()
        assert self._sending.result(WAIT_S * 3) == 202
        self._pool.shutdown()
        assert wait_for_end(self._stage.layout, self.task_id).failure is None
        accepted = [Accepted(task_id=self.task_id, reports=reports_made)]
        url = self._stage.broker.url
        wait_until(lambda: not check(asyncio.run(seen_on(url, accepted))).stuck, timeout_s=WAIT_S)
        verdict = check(asyncio.run(seen_on(url, accepted)))
        assert verdict.is_clean, verdict
        return [(report.sequence, report.frame_index) for report in reports(self._stage.layout, self.task_id)]

    def give_up(self) -> None:
        """Of an upload whose edge is gone."""
        self._go_on.set()
        assert self._sending.result(WAIT_S) is None
        self._pool.shutdown()

    def inferred_by(self, epoch: int) -> int:
        """Frames that a taker said it had looked at, at most a second before it died."""
        seen = asyncio.run(seen_on(self._stage.broker.url, []))
        said = [event for event in seen.events if isinstance(event, TaskProgressed) and event.task_id == self.task_id]
        return max((event.counts.inferred for event in said if event.epoch == epoch), default=0)


UNDISTURBED = [(number, number - 1) for number in range(1, FRAMES + 1)]


def told(what: str, took_s: list[float]) -> None:
    load = os.getloadavg()[0]
    print(
        f"{what}: median {statistics.median(took_s):.2f} s, max {max(took_s):.2f} s of {len(took_s)}, load {load:.1f}"
    )


def test_a_killed_consumer_is_taken_over_from_at_once(stage: Stage) -> None:
    took_s: list[float] = []
    for _ in range(KILLS):
        running = Running(stage)
        holder = stage.holder(running.task_id)
        killed_s = time.monotonic()
        os.kill(holder.pid, signal.SIGKILL)
        running.until_taken_by(2)
        took_s.append(time.monotonic() - killed_s)
        bring_back(holder)
        assert running.finish() == UNDISTURBED
    told("consumer killed -> lease taken", took_s)

    assert statistics.median(took_s) < 20, "ten times the goal: this machine may be busy"


def test_little_is_looked_at_again(stage: Stage, tmp_path: Path) -> None:
    """Of a video with one report and many frames: between reports there are checkpoints."""
    redone_s: list[float] = []
    clip = clip_of(tmp_path, frames=LONG_FRAMES, noise=20)
    for seen_before in (150, 200, 240):
        running = Running(stage, clip=clip, **{"X-Config": ONE_REPORT})
        wait_until(lambda: running.inferred_by(1) >= seen_before, timeout_s=WAIT_S)  # noqa: B023 - called at once
        holder = stage.holder(running.task_id)
        os.kill(holder.pid, signal.SIGKILL)
        running.until_taken_by(2)
        bring_back(holder)
        assert len(running.finish(reports_made=1)) == 1
        reached = running.taken_over_at()
        redone_s.append((running.inferred_by(1) - (reached.counts.inferred if reached else 0)) / FRAMES_PER_S)
    told("media looked at again, as far as was said", redone_s)

    assert max(redone_s) < REDONE_MAX_S


def bring_back(consumer: Actor) -> None:
    consumer.wait_until_dead()
    consumer.start()
    consumer.wait_until_ready()


def test_a_frozen_consumer_is_taken_over_from_and_says_nothing_when_it_wakes(stage: Stage) -> None:
    running = Running(stage)
    holder = stage.holder(running.task_id)
    holder.freeze()
    try:
        took_s = running.until_taken_by(2)
    finally:
        holder.wake()
    told("consumer frozen -> lease taken", [took_s])

    assert running.finish() == UNDISTURBED
    assert took_s < 60


def test_an_upload_whose_edge_dies_ends_where_another_edge_lives(stage: Stage) -> None:
    """Nobody asked to go on with it, so it is the silence of its writer that ends it."""
    other = stage.fleet.another_edge()
    other.start()
    stage.fleet.wait_until_ready()
    took_s: list[float] = []
    for _ in range(3):
        running = Running(stage)
        stage.fleet.edge.kill()
        killed_s = time.monotonic()
        end = wait_for_end(stage.layout, running.task_id)
        took_s.append(time.monotonic() - killed_s)
        assert end.failure is not None
        assert end.failure.code is FailureCode.UPLOAD_ABANDONED
        assert httpx.get(f"{other.url}/tasks/{running.task_id}", trust_env=False).json()["status"] == "Failed"
        assert not stage.layout.seal(running.task_id).exists(), "no file looks complete"
        running.give_up()
        stage.fleet.edge.start()
        stage.fleet.wait_until_ready()
    other.kill()
    told("edge killed in mid-upload -> its task has ended", took_s)

    assert statistics.median(took_s) < 60


def test_after_a_restart_of_the_broker_work_goes_on(stage: Stage) -> None:
    took_s: list[float] = []
    for _ in range(3):
        running = Running(stage)
        stage.broker.kill()
        stage.broker.start()
        opened_s = time.monotonic()
        running.until_taken_by(2)  # the command came back
        took_s.append(time.monotonic() - opened_s)
        assert running.finish() == UNDISTURBED
    told("broker's port open -> task taken again", took_s)

    assert statistics.median(took_s) < 50, "ten times the goal: this machine may be busy"


def test_a_disturbed_run_is_compared_with_a_real_one(stage: Stage) -> None:
    """So that `UNDISTURBED` is what an undisturbed run says."""
    assert Running(stage).finish() == UNDISTURBED
