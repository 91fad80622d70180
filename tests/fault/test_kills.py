"""Broker, edge and consumers are killed at random while work is queued: nothing is lost, double, out of order or stuck, and
whoever listens hears all of it.

A small slice in every run; with `make soak` as many as `FAULT_COMMANDS` and `FAULT_KILLS` say. `FAULT_SEED` repeats a run.
"""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.broker.consumer_stage import scripted_model
from tests.fault.fleet import WAIT_S, Actor, BrokerHandle, Fleet, fleet, private_broker
from tests.fault.flow import (
    clip_of,
)
from tests.fault.listeners import audience, to_be_heard
from tests.fault.timeline import Timeline, timeline
from tests.fault.work import FRAMES, Work, judge

pytestmark = [pytest.mark.e2e, pytest.mark.broker]

CONSUMERS = 2
LISTENERS = 20
STALLED = 2
"""Listeners beside them that do not read."""
SLICE = (60, 4)
SOAK = (500, 15)


class Killer:
    """Kills whom chance names, and brings them back."""

    def __init__(self, system: Fleet, broker: BrokerHandle, consumers: list[Actor], told: Timeline) -> None:
        self._broker = broker
        self._actors = {"edge": system.edge, **{actor.name: actor for actor in consumers}}
        self._told = told
        self.deaths: list[str] = []
        """Processes that ended by themselves."""
        self._turn: list[str] = []

    def kill_one(self, *, unfinished: int) -> None:
        if not self._turn:  # everybody once, then everybody again
            self._turn = self._told.chance.sample(["broker", *self._actors], k=1 + len(self._actors))
        name = self._turn.pop()
        self._told.note(f"kill {name}, {unfinished} unfinished")
        if name == "broker":
            self._broker.kill()
            self._broker.start()
        else:
            self._actors[name].kill()
            time.sleep(self._told.chance.uniform(0, 0.5))
            self._actors[name].start()
        self._told.note(f"{name} is back")

    def revive(self) -> None:
        """Start again who died without having been killed, and remember it."""
        for actor in self._actors.values():
            if not actor.is_running:
                self.deaths.append(f"{actor.name} ended with {actor.wait_until_dead()}: {actor.output[-2000:]}")
                self._told.note(self.deaths[-1])
                actor.start()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[BrokerHandle]:
    with private_broker(tmp_path / "rabbit") as handle:
        yield handle


def run(folder: Path, broker: BrokerHandle, *, commands: int, kills: int, told: Timeline) -> None:
    clip = clip_of(folder, frames=FRAMES)
    (folder / "clip.mp4").write_bytes(clip)
    model = scripted_model(folder, delay_s=0.02)
    with fleet(folder / "storage", amqp_url=broker.url, model=model, VIDEOS_DIR=str(folder)) as system:
        consumers = [system.consumer() for _ in range(CONSUMERS)]
        for actor in (system.edge, *consumers):
            actor.start()
        system.wait_until_ready()
        broker.settle()
        work, killer = Work(system, broker.url, clip=clip), Killer(system, broker, consumers, told)
        with audience(system.url, live=LISTENERS, stalled=STALLED) as listening:
            kill_while_it_works(work, killer, commands=commands, kills=kills, told=told)
            seen = judge(system, broker.url, work.accepted, refused=work.refused)
            listening.until_all_heard(to_be_heard(seen.events))
        assert killer.deaths == []


def kill_while_it_works(work: Work, killer: Killer, *, commands: int, kills: int, told: Timeline) -> None:
    """A kill whenever the next share of the commands has ended: each finds the others waiting."""
    sending = threading.Thread(target=work.send, args=(commands,), daemon=True)
    sending.start()
    for kill in range(kills):
        due = commands * kill // (kills + 1)
        patience_s = time.monotonic() + WAIT_S * 3
        while work.ended < due or work.unfinished == 0:
            killer.revive()
            assert time.monotonic() < patience_s, f"{work.ended} of {due} have ended"
            time.sleep(0.05)
        killer.kill_one(unfinished=work.unfinished)
    sending.join(WAIT_S * 3)
    assert not sending.is_alive()
    told.note(f"all {commands} are promised, {len(work.refused)} uploads were not")
    patience_s = time.monotonic() + WAIT_S * 3
    while work.unfinished:
        assert time.monotonic() < patience_s, f"{work.ended} of {commands} have ended"
        killer.revive()
        assert work.ended >= 0
        time.sleep(0.1)
    told.note("all have ended")


@pytest.mark.timeout(600)
def test_a_few_kills_cost_nothing_that_was_promised(broker: BrokerHandle, tmp_path: Path) -> None:
    commands, kills = SLICE
    with timeline("kills") as told:
        run(tmp_path, broker, commands=commands, kills=kills, told=told)
        print(told)


@pytest.mark.soak
@pytest.mark.timeout(6 * 3600)
def test_many_kills_cost_nothing_that_was_promised(broker: BrokerHandle, tmp_path: Path) -> None:
    commands, kills = (
        int(os.environ.get(name, size)) for name, size in zip(("FAULT_COMMANDS", "FAULT_KILLS"), SOAK, strict=True)
    )
    with timeline("kills") as told:
        run(tmp_path, broker, commands=commands, kills=kills, told=told)
        print(told)
