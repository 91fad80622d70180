"""A system that outlasts many deaths, and one death in it: who dies where, and what is sent meanwhile."""

import contextlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

import msgspec

from contracts import crashpoints
from contracts.results import latest_epoch, reports
from contracts.storage import Layout
from tests.annotations import AnnotationsProcess
from tests.broker.consumer_stage import scripted_model
from tests.cut_finder import write_scenes
from tests.fault.checker import Accepted
from tests.fault.crash_cases import Case, Content, Flow
from tests.fault.fleet import WAIT_S, Actor, BrokerHandle, Fleet, fleet
from tests.fault.flow import clip_of, new_task, send_video
from tests.fault.resuming_client import ResumingClient
from tests.fault.timeline import Timeline
from tests.media import RED, Container, Square
from tests.processes import wait_until
from tests.shots_here import shots_here

FRAMES = 40
SCENE_FRAMES = 200
CUTS = range(20, SCENE_FRAMES, 20)
SETTINGS = {"EDGE_POST_LEASE_S": "2", "EDGE_POST_DELAYS_S": "0.5", "EDGE_DEAD_LETTER_RETRY_S": "0.5"}
EVERYTHING = '{"frame_period_recognition": 1, "frame_recognition_seconds": 0, "shots": true}'
ABANDONED_AFTER_S = 2


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What a client sends, and what an undisturbed run makes of it."""

    path: str
    clip: bytes
    headers: dict[str, str] = {}
    reports_halfway: int = 5
    """Reports that are made of the first half at least."""
    reports: int | None = None
    shots: tuple[tuple[int, int], ...] | None = None

    def promised(self, task_id: str, *, posts: tuple[str, ...] = ()) -> Accepted:
        return Accepted(task_id=task_id, reports=self.reports, shots=self.shots, posts=posts)


class World:
    """A system that outlasts the cases; each of them costs it one process, which comes back."""

    def __init__(self, system: Fleet, amqp_url: str, annotations: AnnotationsProcess, folder: Path) -> None:
        self.fleet = system
        self.amqp_url = amqp_url
        self.annotations = annotations
        self.layout = Layout(system.storage)
        self.edge = system.edge
        self.consumer = system.consumer()
        self._folder = folder

    def start(self) -> None:
        self.edge.start()
        self.consumer.start()
        self.fleet.wait_until_ready()

    def order(self, content: Content) -> Order:
        match content:
            case Content.OBJECTS:
                return Order(path="/detect/video", clip=self.clip, reports=FRAMES)
            case Content.SHOTS:
                return Order(path="/shots", clip=self._scenes, reports_halfway=1, shots=self._shots)
            case Content.BOTH:
                headers = {"X-Config": EVERYTHING}
                return Order(path="/detect/video", clip=self._scenes, headers=headers, shots=self._shots)

    @cached_property
    def clip(self) -> bytes:
        return clip_of(self._folder, frames=FRAMES, noise=20)

    def reported(self, task_id: str) -> int:
        return len(list(reports(self.layout, task_id))) if latest_epoch(self.layout, task_id) else 0

    def said(self, task_id: str) -> list[tuple[object, ...]]:
        """What a task reported, without whose it is."""
        told = reports(self.layout, task_id)
        return [(one.sequence, one.frame_index, one.video_time, one.annotations, one.shots) for one in told]

    @cached_property
    def _scenes_path(self) -> Path:
        red = Square(rgb=RED, x=16, y=16, side=32)
        path = self._folder / "scenes.mp4"
        how = {"container": Container.MP4_FRAGMENTED, "noise": 20}
        return write_scenes(path, *CUTS, frames=SCENE_FRAMES, over=(red,), **how)

    @cached_property
    def _scenes(self) -> bytes:
        return self._scenes_path.read_bytes()

    @cached_property
    def _shots(self) -> tuple[tuple[int, int], ...]:
        found = tuple(shots_here(self._scenes_path))
        assert len(found) >= 6, "too few to die in the middle of"
        return found


@contextlib.contextmanager
def a_world(folder: Path, amqp_url: str) -> Iterator[World]:
    annotations = AnnotationsProcess(folder / "double")
    annotations.start()
    environ = {**SETTINGS, "ANNOTATIONS_URL": annotations.url}
    model = scripted_model(folder, delay_s=0.01)
    try:
        with fleet(folder / "storage", amqp_url=amqp_url, model=model, **environ) as running:
            made = World(running, amqp_url, annotations, folder)
            made.start()
            yield made
    finally:
        annotations.kill()


class Run:
    """One case: its victim, what was promised, and what came of it."""

    def __init__(self, world: World, case: Case, told: Timeline) -> None:
        self.world = world
        self.case = case
        self.order = world.order(case.content)
        self.task_id = new_task()
        self.victim: Actor = world.edge if case.victim == "edge" else world.consumer
        self._clip = unlike_others(self.order.clip)
        self._armed_life = self.victim.lives
        self._told = told
        self._pool = ThreadPoolExecutor(1)

    def arm(self, how: str = "") -> None:
        """A life of the victim that ends where the case says. how: `:stop`, if it only stops there."""
        armed = {crashpoints.VARIABLE: f"{self.case.point}:{self.case.passage}{how}"}
        if self.case.flow is Flow.ABANDONED:
            armed["EDGE_UPLOAD_RESUME_S"] = str(ABANDONED_AFTER_S)
        self.victim.kill()
        self.victim.start(**armed)
        self._armed_life = self.victim.lives
        self.world.fleet.wait_until_ready()
        self._told.note(f"{self.victim.name} is armed")

    def upload(self, halfway: Callable[[], None], **headers: str) -> "Future[int | None]":
        return self._pool.submit(
            send_video,
            self.world.fleet.url,
            self.task_id,
            self._clip,
            halfway=halfway,
            path=self.order.path,
            **(self.order.headers | headers),
        )

    def resuming_client(self) -> ResumingClient:
        """Of the same upload."""
        url, order = self.world.fleet.url, self.order
        return ResumingClient(url, self.task_id, self._clip, path=order.path, **order.headers)

    def meanwhile(self, work: "Callable[[], int | None]") -> "Future[int | None]":
        return self._pool.submit(work)

    def until_it_reports(self) -> None:
        wait_until(
            lambda: self._has_died() or self.world.reported(self.task_id) >= self.order.reports_halfway,
            timeout_s=WAIT_S,
        )

    def until_it_dies(self) -> None:
        wait_until(self._has_died, timeout_s=WAIT_S)

    def _has_died(self) -> bool:
        """Or stands still. Asked by clients while another thread may start it again."""
        return self.victim.lives > self._armed_life or not self.victim.is_working

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
        status = sending.result(WAIT_S * 3)
        self._told.note(f"the client got {status}")
        self._pool.shutdown()
        return status


def unlike_others(clip: bytes) -> bytes:
    """The same video as another file: one that came in before would be kept only once."""
    free = os.urandom(16)
    return clip + (8 + len(free)).to_bytes(4, "big") + b"free" + free
