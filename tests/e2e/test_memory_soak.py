"""A light load for long: memory, file descriptors, threads and tasks of edge and consumer stay what they are.

`MEMORY_SOAK_S` says how long (default 10 min). Every bound that is reached only after days of this load is set so that it
is reached in the warm-up: what is measured is what has no bound.
"""

import itertools
import os
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import httpx
import msgspec
import pytest

from contracts.allocator import HUGE_PAGES
from detections.processes import Guard, Program
from detections.rabbitmq import free_port
from tests.conftest import REPOSITORY
from tests.fault.fleet import Actor
from tests.growth import Sample, floor_rise, rise, sample, slope_per_h
from tests.media import STATIC, Container, write_image, write_video
from tests.processes import wait_until
from tests.scripted import write_model

SOAK_S = float(os.environ.get("MEMORY_SOAK_S", "600"))
WARM_UP_S = min(1200.0, SOAK_S / 4)
"""Until caches are full: bounds, the allocator's arenas, the thread pools."""
LONG_S = 3600.0
"""From here on the slope alone decides."""
SAMPLE_S = 5.0
TURN_S = 2.0
END_TIMEOUT_S = 120.0
LISTENER_TURN_S = 20.0
SLOPE_MAX_MB_PER_H = 1.0
NOISE_MB = 3.0
"""What thread pools and the collector still take after a short warm-up; it decides only where the soak is short."""
POOL_THREADS = (os.cpu_count() or 1) + 4
"""The event loop's own pool begins a thread whenever all others are busy, up to so many."""
BOUNDS = {
    "EDGE_RING_EVENTS_MAX": "200",
    "EDGE_TASKS_REMEMBERED_MAX": "100",
    "EDGE_TASKS_KEPT_S": "60",
    "EDGE_MEDIA_KEPT_S": "60",
}
PATHS_REMEMBERED = 1_024
"""By each of Litestar's caches of paths: filled by the load alone they grow for half an hour."""
EVERY_FRAME = '{"frame_period_recognition": 4, "frame_recognition_seconds": 0}'


class Service:
    """An edge and a consumer, both counted."""

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        self.folder = folder
        self._guard = Guard()
        self._port = free_port()
        model = write_model(folder / "model.json")
        self._environ = {
            **os.environ,
            "STORAGE_DIR": str(folder / "storage"),
            "CONSUMER_MODEL": str(model),
            "CONSUMER_WORKERS": "1",
            "EDGE_PORT": str(self._port),
            "PYTHONPATH": str(REPOSITORY),
            "PYTHONUNBUFFERED": "1",
            **BOUNDS,
        }
        self.actors = [
            self._actor("edge", "edge", amqp_url=environ["EDGE_AMQP_URL"], ready="edge listens"),
            self._actor("consumer", "consumers", amqp_url=environ["CONSUMER_AMQP_URL"], ready='"ready"'),
        ]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        for actor in self.actors:
            actor.start()
        for actor in self.actors:
            actor.wait_until_ready()
        wait_until(self._is_ready)

    def end(self) -> None:
        for actor in self.actors:
            actor.kill()
        self._guard.close()

    def say_where(self) -> None:
        """Have both write down what they are doing."""
        for actor in self.actors:
            os.kill(actor.pid, signal.SIGUSR2)

    def sample(self, actor: Actor) -> Sample:
        return sample(actor.pid, self._counted(actor.name), time.monotonic())

    def _actor(self, name: str, module: str, *, amqp_url: str, ready: str) -> Actor:
        command = (sys.executable, "-P", "-m", "tests.counted", str(self._counted(name)), module)
        program = Program(
            name=name,
            command=command,
            environ=self._environ | {"AMQP_URL": amqp_url} | (HUGE_PAGES if module == "consumers" else {}),
            log=self.folder / f"{name}.log",
        )
        return Actor(self._guard, program, ready=ready)

    def _counted(self, name: str) -> Path:
        return self.folder / f"{name}.counted"

    def _is_ready(self) -> bool:
        if not all(self._counted(actor.name).exists() for actor in self.actors):
            return False
        try:
            return httpx.get(f"{self.url}/health/ready", timeout=10, trust_env=False).is_success
        except httpx.TransportError:
            return False


class Load:
    """What many callers do, one after the other, each turn something else; all of it is answered as it should be."""

    def __init__(self, service: Service, *, until_s: float) -> None:
        self._service = service
        self._url = service.url
        self.until_s = until_s
        self.turns = 0
        self.wrong: list[str] = []
        """Tasks that ended otherwise than they should, or not at all."""
        self.heard = 0
        kinds = (Container.MP4_FRAGMENTED, Container.MKV, Container.MP4_FRONT, Container.TS, Container.WEBM_VP8)
        self._clips = [
            (f"clip{kind.suffix}", write_video(service.folder / "clip", frames=20, container=kind).read_bytes())
            for kind in kinds
        ]
        self._pictures = [
            write_image(service.folder / f"picture.{suffix}", squares=STATIC).read_bytes() for suffix in ("jpg", "png")
        ]

    def run(self) -> None:
        with self._http() as http:
            for _ in range(PATHS_REMEMBERED):
                http.get(f"/tasks/{uuid.uuid4()}")
            for turn in itertools.count():
                due_s = time.monotonic() + TURN_S
                if due_s > self.until_s:
                    return
                self._take(http, turn)
                self.turns += 1
                time.sleep(max(0.0, due_s - time.monotonic()))

    def listen(self) -> None:
        """To everything, each time a little further: a listener that goes and comes."""
        last_id = ""
        while time.monotonic() < self.until_s:
            leave_s = time.monotonic() + LISTENER_TURN_S
            with (
                self._http() as http,
                http.stream("GET", "/detect/stream", headers={"Last-Event-ID": last_id} if last_id else {}) as answer,
            ):
                assert answer.status_code == 200
                for line in answer.iter_lines():
                    if line.startswith("id:"):
                        last_id = line[3:].strip()
                        self.heard += 1
                    if time.monotonic() > leave_s:
                        break

    def stay(self) -> None:
        """One that listens all the time."""
        with self._http() as http, http.stream("GET", "/detect/stream") as answer:
            for _ in answer.iter_raw():
                if time.monotonic() > self.until_s:
                    break

    def _take(self, http: httpx.Client, turn: int) -> None:
        name, clip = self._clips[turn % len(self._clips)]
        match turn % 10:
            case 3:
                self._send(http, "/shots", name, clip, ends_as="Succeeded")
            case 5:
                self._abandon(name, clip)
            case 7:
                self._send(http, "/detect/video", name, b"nonsense", ends_as="Failed")
            case 9:
                self._send(http, "/detect/video", name, clip[: len(clip) // 2])
            case _:
                task_id = self._send(http, "/detect/video", name, clip, ends_as="Succeeded")
                if task_id is not None:
                    http.get(f"/tasks/{task_id}/results").raise_for_status()
        picture = self._pictures[turn % len(self._pictures)]
        answer = http.post("/detect", files={"file": ("picture.jpg", picture)})
        if answer.status_code != 200 or not answer.json():
            self.wrong.append(f"{time.ctime()}: {answer.status_code} {answer.text}")

    def _send(
        self, http: httpx.Client, path: str, name: str, content: bytes, *, ends_as: str | None = None
    ) -> str | None:
        """The id of a task that has ended; None for one that failed while its upload was still being taken in."""
        answer = http.post(path, content=content, headers={"X-Filename": name, "X-Config": EVERY_FRAME})
        if answer.status_code != 202:
            if answer.status_code != 422 or ends_as == "Succeeded":
                self.wrong.append(f"{time.ctime()}: {answer.status_code} {answer.text}")
            return None
        task_id = answer.json()["taskId"]
        deadline_s = time.monotonic() + END_TIMEOUT_S
        while (task := http.get(f"/tasks/{task_id}").json())["status"] in ("Queued", "Running"):
            if time.monotonic() > deadline_s:
                self._service.say_where()
                break
            time.sleep(0.1)
        if task["status"] != (ends_as or task["status"]) or task["status"] in ("Queued", "Running"):
            self.wrong.append(f"{time.ctime()}: {task}")
        return task_id

    def _abandon(self, name: str, clip: bytes) -> None:
        """Send half of what was promised and go."""

        def half() -> Iterator[bytes]:
            yield clip[: len(clip) // 2]
            raise ConnectionAbortedError

        said = {"X-Filename": name, "X-Task-Id": str(uuid.uuid4()), "Content-Length": str(len(clip))}
        with self._http() as http, pytest.raises(ConnectionAbortedError):
            http.post("/detect/video", content=half(), headers=said)

    def _http(self) -> httpx.Client:
        return httpx.Client(base_url=self._url, timeout=END_TIMEOUT_S, trust_env=False)


@pytest.fixture
def service(tmp_path: Path, new_host: Callable[[], dict[str, str]]) -> Iterator[Service]:
    service = Service(tmp_path, new_host())
    try:
        service.start()
        yield service
    finally:
        service.end()


class Growth(msgspec.Struct, frozen=True, kw_only=True):
    """What became more after the warm-up."""

    hours: float
    mb_per_h: float
    mb: float
    descriptors: int
    threads: int
    tasks: int
    blocks_per_h: float

    @property
    def is_flat(self) -> bool:
        is_steady = self.mb_per_h < SLOPE_MAX_MB_PER_H or (SOAK_S < LONG_S and self.mb < NOISE_MB)
        return is_steady and self.threads <= POOL_THREADS and max(self.descriptors, self.tasks) <= 0


def growth(samples: Sequence[Sample], *, since_s: float) -> Growth:
    kept = [each for each in samples if each.at_s >= since_s]
    times = [each.at_s for each in kept]
    memory = [each.held_bytes / 1e6 for each in kept]
    return Growth(
        hours=(times[-1] - times[0]) / 3600,
        mb_per_h=slope_per_h(times, memory),
        mb=rise(memory),
        descriptors=floor_rise([each.descriptors for each in kept]),
        threads=floor_rise([each.threads for each in kept]),
        tasks=floor_rise([each.tasks for each in kept]),
        blocks_per_h=slope_per_h(times, [each.blocks for each in kept]),
    )


@pytest.mark.soak
@pytest.mark.timeout(4 * 3600)
def test_nothing_grows_under_a_light_load(service: Service) -> None:
    started_s = time.monotonic()
    load = Load(service, until_s=started_s + SOAK_S)
    working = [threading.Thread(target=each, daemon=True) for each in (load.run, load.listen, load.stay)]
    for thread in working:
        thread.start()
    samples: dict[str, list[Sample]] = {actor.name: [] for actor in service.actors}
    while time.monotonic() < started_s + SOAK_S:
        time.sleep(SAMPLE_S)
        for actor in service.actors:
            samples[actor.name].append(service.sample(actor))
            write_down(service.folder / f"{actor.name}.samples", samples[actor.name][-1])
        assert all(thread.is_alive() for thread in working) or time.monotonic() > load.until_s - TURN_S, (
            "the load broke"
        )
    for thread in working:
        thread.join(END_TIMEOUT_S)
    told = {name: growth(each, since_s=started_s + WARM_UP_S) for name, each in samples.items()}
    print(f"{SOAK_S:.0f} s, {load.turns} turns, {load.heard} events heard, {told}")

    assert load.wrong == []
    assert load.turns > SOAK_S / TURN_S / 4
    assert load.heard > load.turns
    for name, grown in told.items():
        assert grown.is_flat, (name, grown)


def write_down(file: Path, taken: Sample) -> None:
    """So that a soak that is cut short has said something too."""
    with file.open("ab") as out:
        out.write(msgspec.json.encode(taken) + b"\n")
