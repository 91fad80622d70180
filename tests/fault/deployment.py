"""Two edges and two consumers, so that one of each may go, and clients who must not notice."""

import threading
from collections.abc import Callable
from pathlib import Path

import msgspec

from tests.fault.callers import Caller
from tests.fault.fleet import WAIT_S, Actor, EdgeActor, Fleet
from tests.fault.flow import clip_of
from tests.fault.timeline import Timeline
from tests.fault.work import FRAMES, judge
from tests.media import STATIC, write_image

CALLERS = 3
PATIENT = {"EDGE_PUBLISH_TIMEOUT_S": "40", "EDGE_PRESENCE_EXPIRY_S": "30"}
"""A machine that is busy for some seconds is no failed request in every run; with `make soak` the defaults hold."""


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

    def restart(self, *actors: Actor, meanwhile: Callable[[], None] = lambda: None) -> None:
        """In good order, at the same time; return when they serve again. meanwhile: happens once they were told to stop."""
        for actor in actors:
            actor.terminate()
        meanwhile()
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
