"""Every process is restarted in turn under load, as a deployment does it: no request fails twice, and nothing is lost.

One round of edges and consumers in every run; with `make soak` as many as fit into `FAULT_ROLLING_S` (300), the three nodes of the
broker with them.
"""

import os
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec
import pytest

from detections.rabbitmq import PrivateRabbit
from tests.broker.consumer_stage import scripted_model
from tests.fault.callers import Caller
from tests.fault.cluster import Cluster, private_cluster
from tests.fault.fleet import WAIT_S, Actor, EdgeActor, Fleet, fleet
from tests.fault.flow import clip_of, virtual_host
from tests.fault.timeline import Timeline, timeline
from tests.fault.work import FRAMES, judge
from tests.media import STATIC, write_image
from tests.processes import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.broker]

CALLERS = 3
PATIENT = {"EDGE_PUBLISH_TIMEOUT_S": "40", "EDGE_PRESENCE_EXPIRY_S": "30"}
"""A machine that is busy for some seconds is no failed request in every run; with `make soak` the defaults hold."""
ROLLING_S = float(os.environ.get("FAULT_ROLLING_S", "300"))


class Deployment(msgspec.Struct, frozen=True, kw_only=True):
    """Two of each, so that one may go."""

    fleet: Fleet
    amqp_url: str
    edges: list[EdgeActor]
    consumers: list[Actor]

    def start(self) -> None:
        for actor in (*self.edges, *self.consumers):
            actor.start()
        self.fleet.wait_until_ready()

    def restart(self, *actors: Actor) -> None:
        """In good order, at the same time; return when they serve again."""
        for actor in actors:
            actor.terminate()
        for actor in actors:
            assert actor.wait_until_dead() == 0, actor.output
            actor.start()
        self.fleet.wait_until_ready()


def deployment(running: Fleet, amqp_url: str) -> Deployment:
    edges = [running.edge, running.another_edge()]
    return Deployment(fleet=running, amqp_url=amqp_url, edges=edges, consumers=[running.consumer(), running.consumer()])


def under_load(
    deployed: Deployment, folder: Path, work: Callable[[], None], *, told: Timeline, is_ordered: bool = True
) -> None:
    """Have clients call while `work` goes on; then nothing may have failed, and everything be there."""
    stop = threading.Event()
    picture = write_image(folder / "a.png", squares=STATIC).read_bytes()
    clip = clip_of(folder, frames=FRAMES)
    urls = [edge.url for edge in deployed.edges]
    callers = [Caller(urls, clip=clip, picture=picture, stop=stop) for _ in range(CALLERS)]
    for caller in callers:
        caller.start()
    try:
        work()
    finally:
        stop.set()
        for caller in callers:
            caller.join(WAIT_S * 3)
    requests, retried = sum(one.requests for one in callers), [why for one in callers for why in one.retried]
    accepted = [promise for one in callers for promise in one.accepted]
    told.note(f"{requests} requests, {len(retried)} of them twice; {len(accepted)} videos")
    assert len(accepted) >= CALLERS
    judge(deployed.fleet, deployed.amqp_url, accepted, is_ordered=is_ordered)
    told.note("nothing is lost")
    assert [why for one in callers for why in one.failed] == []


@pytest.mark.timeout(600)
def test_a_round_of_restarts_fails_no_request_and_loses_nothing(rabbit: PrivateRabbit, tmp_path: Path) -> None:
    model = scripted_model(tmp_path, delay_s=0.02)
    with (
        timeline("restarts") as told,
        virtual_host(rabbit) as url,
        fleet(tmp_path / "storage", amqp_url=url, model=model, **PATIENT) as running,
    ):
        deployed = deployment(running, url)
        deployed.start()

        def one_round() -> None:
            for edge, consumer in zip(deployed.edges, deployed.consumers, strict=True):
                told.note(f"restart {edge.name} and {consumer.name}")
                deployed.restart(edge, consumer)

        under_load(deployed, tmp_path, one_round, told=told)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_minutes_of_restarts_fail_no_request_and_lose_nothing(tmp_path: Path) -> None:
    """Also of the broker's nodes."""
    model = scripted_model(tmp_path, delay_s=0.02)
    with (
        timeline("restarts") as told,
        private_cluster(tmp_path / "rabbit") as cluster,
        fleet(tmp_path / "storage", amqp_url=cluster.url, model=model) as running,
    ):
        deployed = deployment(running, cluster.url)
        deployed.start()
        rounds = partial(restart_for, ROLLING_S, deployed, cluster, told=told)
        under_load(deployed, tmp_path, rounds, told=told, is_ordered=False)
        told.note(f"load {os.getloadavg()[0]:.1f}")
        print(told)


def restart_for(seconds: float, deployed: Deployment, cluster: Cluster, *, told: Timeline) -> None:
    until_s = time.monotonic() + seconds
    actors = (*deployed.edges, *deployed.consumers)
    while time.monotonic() < until_s:
        for actor in actors:
            told.note(f"restart {actor.name}")
            deployed.restart(actor)
        for node in cluster.nodes:
            told.note(f"restart {node.name}")
            node.stop_node()
            node.start()
            wait_until(cluster.is_whole, timeout_s=WAIT_S * 2)
            deployed.fleet.wait_until_ready()
