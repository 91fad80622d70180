"""A cluster of three brokers loses the node that leads the queue of commands, in the middle of the work: nothing is lost.

With `make soak`; `FAULT_LEADER_KILLS` and `FAULT_COMMANDS` change its size.
"""

import os
import threading
import time
from pathlib import Path

import pytest

from contracts import topology
from tests.broker.consumer_stage import scripted_model
from tests.fault.cluster import private_cluster
from tests.fault.fleet import WAIT_S, fleet
from tests.fault.flow import clip_of
from tests.fault.listeners import audience, to_be_heard
from tests.fault.timeline import timeline
from tests.fault.work import FRAMES, Work, judge
from tests.processes import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.broker, pytest.mark.soak, pytest.mark.timeout(3600)]

KILLS = int(os.environ.get("FAULT_LEADER_KILLS", "3"))
COMMANDS = int(os.environ.get("FAULT_COMMANDS", "200"))
LISTENERS = 20


def test_the_death_of_the_node_that_leads_costs_nothing_that_was_promised(tmp_path: Path) -> None:
    clip = clip_of(tmp_path, frames=FRAMES)
    (tmp_path / "clip.mp4").write_bytes(clip)
    model = scripted_model(tmp_path, delay_s=0.02)
    with (
        timeline("leaders") as told,
        private_cluster(tmp_path / "rabbit") as cluster,
        fleet(tmp_path / "storage", amqp_url=cluster.url, model=model, VIDEOS_DIR=str(tmp_path)) as system,
    ):
        for actor in (system.edge, system.consumer(), system.consumer()):
            actor.start()
        system.wait_until_ready()
        wait_until(cluster.is_whole, timeout_s=WAIT_S)
        work = Work(system, cluster.url, clip=clip)
        sending = threading.Thread(target=work.send, args=(COMMANDS,), daemon=True)
        with audience(system.url, live=LISTENERS, stalled=2) as listening:
            sending.start()
            for kill in range(KILLS):
                due = COMMANDS * (kill + 1) // (KILLS + 2)
                wait_until(lambda: work.ended >= due and work.unfinished > 0, timeout_s=WAIT_S * 3)  # noqa: B023
                leader = cluster.leader(topology.VIDEO_COMMANDS)
                told.note(f"kill {leader.name}, which leads; {work.unfinished} unfinished")
                ended, killed_s = work.ended, time.monotonic()
                leader.kill_node()
                wait_until(lambda: work.ended > ended, timeout_s=WAIT_S)  # noqa: B023 - called at once
                told.note(f"the next task ended {time.monotonic() - killed_s:.1f} s later")
                leader.start()
                wait_until(cluster.is_whole, timeout_s=WAIT_S * 2)
                told.note(f"{leader.name} is back, {work.unfinished} unfinished")
            sending.join(WAIT_S * 5)
            assert not sending.is_alive()
            wait_until(lambda: work.ended == COMMANDS, timeout_s=WAIT_S * 5)
            seen = judge(system, cluster.url, work.accepted, refused=work.refused)
            listening.until_all_heard(to_be_heard(seen.events))
        told.note(f"{COMMANDS} commands, {len(work.refused)} uploads refused; load {os.getloadavg()[0]:.1f}")
        print(told)
