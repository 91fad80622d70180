"""Connections break and processes are told to stop, whenever it comes, under load: each leaves, comes back, and nothing is lost.

Some turns in every run; with `make soak` as many as `FAULT_TURNS` (100) says.
"""

import os
import time
from functools import partial
from pathlib import Path

import pytest

from detections.rabbitmq import PrivateRabbit
from tests.broker.consumer_stage import scripted_model
from tests.fault.deployment import PATIENT, Deployment, deployment, under_load
from tests.fault.fleet import fleet
from tests.fault.flow import virtual_host
from tests.fault.proxy import Proxy, ProxyBeside, proxy_beside, through
from tests.fault.timeline import Timeline, timeline

pytestmark = [pytest.mark.e2e, pytest.mark.broker]

TURNS = 4
SOAK_TURNS = int(os.environ.get("FAULT_TURNS", "100"))
BREAKS_MAX = 3
"""Of connections in one turn, before processes are told to stop."""
PAUSES_S = (0.0, 0.005, 0.05, 0.5, 1.2)
"""Between two such things: they meet work, a process that stops, and one that connects again."""


class Restlessness:
    """What happens in one turn."""

    def __init__(self, deployed: Deployment, network: ProxyBeside, *, told: Timeline) -> None:
        self._deployed = deployed
        self._network = network
        self._told = told

    def turn(self) -> None:
        chance = self._told.chance
        for _ in range(chance.randrange(BREAKS_MAX + 1)):
            self._break_some()
        pair = chance.randrange(len(self._deployed.edges))
        both = (self._deployed.edges[pair], self._deployed.consumers[pair])
        told_to_stop = chance.choice([both, both[:1], both[1:]])
        self._told.note(f"restart {' and '.join(actor.name for actor in told_to_stop)}")
        self._deployed.restart(*told_to_stop, meanwhile=self._break_some)

    def _break_some(self) -> None:
        chance = self._told.chance
        time.sleep(chance.choice(PAUSES_S))
        action = chance.choice([Proxy.reset, partial(Proxy.reset_some, chance=chance), Proxy.cut])
        self._told.note(f"{getattr(action, '__name__', 'reset_some')}")
        self._network.do(action)
        time.sleep(chance.choice(PAUSES_S))


def be_restless(turns: int, rabbit: PrivateRabbit, folder: Path, **environ: str) -> None:
    model = scripted_model(folder, delay_s=0.02)
    with (
        timeline("a restless network") as told,
        virtual_host(rabbit) as url,
        proxy_beside(rabbit.port) as network,
        fleet(folder / "storage", amqp_url=through(network.port, url), model=model, **environ) as running,
    ):
        deployed = deployment(running, url)
        deployed.start()
        restlessness = Restlessness(deployed, network, told=told)

        def work() -> None:
            for _ in range(turns):
                restlessness.turn()

        under_load(deployed, folder, work, told=told)
        print(told)


@pytest.mark.timeout(600)
def test_what_meets_a_stop_holds_nobody_and_loses_nothing(rabbit: PrivateRabbit, tmp_path: Path) -> None:
    be_restless(TURNS, rabbit, tmp_path, **PATIENT)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_many_that_meet_a_stop_hold_nobody_and_lose_nothing(rabbit: PrivateRabbit, tmp_path: Path) -> None:
    be_restless(SOAK_TURNS, rabbit, tmp_path, **PATIENT)
