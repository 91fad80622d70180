"""A cluster of three brokers loses the node that leads the queue of commands, in the middle of the work: nothing is lost.

With `make soak`; `FAULT_LEADER_KILLS` changes its size.
"""

import os
import threading
import time
from pathlib import Path

import pytest

from contracts import topology
from tests.broker.consumer_stage import scripted_model
from tests.fault.checker import check
from tests.fault.cluster import private_cluster
from tests.fault.fleet import WAIT_S, fleet
from tests.fault.flow import clip_of
from tests.fault.listeners import audience, to_be_heard
from tests.fault.timeline import timeline
from tests.fault.work import FRAMES, Work, judge
from tests.processes import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.broker, pytest.mark.soak, pytest.mark.timeout(3600)]

KILLS = int(os.environ.get("FAULT_LEADER_KILLS", "3"))
BATCH = 60
"""Commands that are sent together, again and again."""
QUEUED_MIN = 10
"""Commands that are unfinished at each kill, at least."""
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
        stop = threading.Event()
        sending = threading.Thread(target=send_until, args=(stop, work), daemon=True)
        with audience(system.url, live=LISTENERS, stalled=2) as listening:
            sending.start()
            for _ in range(KILLS):
                before = work.ended
                wait_until(lambda: work.ended > before and work.unfinished >= QUEUED_MIN, timeout_s=WAIT_S * 3)  # noqa: B023
                leader = cluster.leader(topology.VIDEO_COMMANDS)
                told.note(f"kill {leader.name}, which leads; {work.unfinished} unfinished")
                ended, killed_s = work.ended, time.monotonic()
                leader.kill_node()
                wait_until(lambda: work.ended > ended, timeout_s=WAIT_S)  # noqa: B023 - called at once
                told.note(f"the next task ended {time.monotonic() - killed_s:.1f} s later")
                leader.start()
                wait_until(cluster.is_whole, timeout_s=WAIT_S * 2)
                told.note(f"{leader.name} is back, {work.unfinished} unfinished")
            stop.set()
            sending.join(WAIT_S * 5)
            assert not sending.is_alive()
            wait_until(lambda: work.ended == len(work.accepted), timeout_s=WAIT_S * 5)
            seen = judge(system, cluster.url, work.accepted, refused=work.refused, is_ordered=False)
            listening.until_all_heard(to_be_heard(seen.events))
        late = len(check(seen).unordered)
        told.note(f"{late} tasks of which reports reached the log in another order; the results of all are complete")
        told.note(f"{len(work.accepted)} commands, {len(work.refused)} uploads refused; load {os.getloadavg()[0]:.1f}")
        print(told)


def send_until(stop: threading.Event, work: Work) -> None:
    """Batch after batch."""
    while not stop.is_set():
        work.send(BATCH)
