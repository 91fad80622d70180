"""Every process is restarted in turn under load, as a deployment does it: no request fails twice, and nothing is lost.

One round of edges and consumers in every run; with `make soak` as many as fit into `FAULT_ROLLING_S` (300), the three nodes of the
broker with them.
"""

import os
import time
from functools import partial
from pathlib import Path

import pytest

from detections.rabbitmq import PrivateRabbit
from tests.broker.consumer_stage import scripted_model
from tests.fault.cluster import Cluster, private_cluster
from tests.fault.deployment import PATIENT, Deployment, deployment, under_load
from tests.fault.fleet import WAIT_S, fleet
from tests.fault.flow import virtual_host
from tests.fault.timeline import Timeline, timeline
from tests.processes import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.broker]

ROLLING_S = float(os.environ.get("FAULT_ROLLING_S", "300"))


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
