"""A whole system is driven through all that can be counted, and every metric that somebody watches has moved."""

import asyncio
import contextlib
import json
import re
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import aio_pika
import httpx
import pytest
import yaml

from contracts import topology
from detections.local import LocalStack
from detections.rabbitmq import PrivateRabbit
from tests.conftest import REPOSITORY
from tests.e2e.conftest import write_scripted_model
from tests.fault.proxy import Proxy
from tests.gated import Gated
from tests.media import Container, write_image, write_video
from tests.metrics import Values, names_in, values_at
from tests.processes import WAIT_S
from tests.signing import bearer
from tests.virtual_hosts import as_administrator

pytestmark = pytest.mark.e2e

PROMETHEUS = REPOSITORY / "compose" / "prometheus"
DASHBOARD = REPOSITORY / "compose" / "grafana" / "dashboards" / "detections.json"
OF_PROMETHEUS = {"up"}
"""What it says itself of those whom it asks."""
STILL = {"detections_storage_free_bytes", "detections_storage_free_min_bytes"}
"""They have a value, and no test fills a disk."""
SETTINGS = {
    "ANNOTATIONS_URL": "http://127.0.0.1:9",  # where nobody is: a post is put off
    "EDGE_POST_SCAN_S": "0.2",
    "EDGE_POST_DELAYS_S": "0.5",
    "EDGE_CONFIRM_WAIT_S": "0.5",
    "EDGE_RING_EVENTS_MAX": "3",
}
NAMED = {"X-Filename": "a.mp4"}
NewHost = Callable[[], dict[str, str]]
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}|[0-9a-f]{32}")
LABEL_VALUES_MAX = 80
"""There are 60 codes of failures, and no other label has so many values."""
LOOK_EVERY_S = 0.2
ALL_FRAMES = json.dumps({"frame_period_recognition": 1, "frame_recognition_seconds": 0})


class Wire:
    """What lies between a system and its broker, in a thread of its own."""

    def __init__(self, amqp_url: str) -> None:
        parts = urlsplit(amqp_url)
        assert parts.port is not None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._proxy = Proxy(parts.port)
        asyncio.run_coroutine_threadsafe(self._proxy.start(), self._loop).result(WAIT_S)
        self.url = parts._replace(netloc=f"{parts.netloc.rpartition(':')[0]}:{self._proxy.port}").geturl()

    @contextlib.contextmanager
    def cut(self) -> Iterator[None]:
        """No connection through it stands, and none comes to be."""
        self._proxy.is_refusing = True
        self._loop.call_soon_threadsafe(self._proxy.reset)
        yield
        self._proxy.is_refusing = False

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._proxy.stop(), self._loop).result(WAIT_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class System:
    """A stack, and what its metrics were whenever somebody looked."""

    def __init__(self, folder: Path, amqp_url: str) -> None:
        model = write_scripted_model(folder, fail_every=7)
        self.stack = LocalStack(folder / "storage", model=model, environ={**SETTINGS, "AMQP_URL": amqp_url})
        self.looks: dict[str, list[Values]] = {"edge": [], "consumer": []}

    def look(self) -> None:
        """Remember what both processes show now."""
        self.looks["edge"].append(values_at(f"{self.stack.url}/metrics"))
        self.looks["consumer"].append(values_at(self.stack.metrics_urls["consumer-1"]))

    def wait_for(self, who: str, name: str, is_so: Callable[[float], bool], **labels: str) -> None:
        """Look until a series of a metric with these labels is so."""

        deadline_s = time.monotonic() + WAIT_S
        while True:
            self.look()
            series = self.looks[who][-1].get(name, {})
            if any(is_so(value) for said, value in series.items() if labels.items() <= dict(said).items()):
                return
            assert time.monotonic() < deadline_s, f"{name} of {who} is {series}"
            time.sleep(LOOK_EVERY_S)

    def has(self, name: str) -> bool:
        return any(name in values for looks in self.looks.values() for values in looks)

    def has_moved(self, name: str) -> bool:
        """Whether a series of it had two values, or another one appeared, while we looked."""
        return any(
            len({tuple(sorted(values.get(name, {}).items())) for values in looks}) > 1 for looks in self.looks.values()
        )

    def labels(self) -> dict[str, set[str]]:
        """Every value of every label that we saw."""
        values: dict[str, set[str]] = {}
        for series in (one for looks in self.looks.values() for look in looks for one in look.values()):
            for name, value in (label for labels in series for label in labels):
                values.setdefault(name, set()).add(value)
        return values


@pytest.fixture(scope="module")
def driven(tmp_path_factory: pytest.TempPathFactory, rabbit: PrivateRabbit, new_host: NewHost) -> Iterator[System]:
    """A system that was driven."""
    wire = Wire(as_administrator(new_host()["AMQP_URL"]))
    system = System(tmp_path_factory.mktemp("metrics"), wire.url)
    with contextlib.ExitStack() as ended:
        ended.callback(wire.close)
        ended.callback(system.stack.kill)
        system.stack.start()
        system.look()
        with httpx.Client(base_url=system.stack.url, timeout=WAIT_S, trust_env=False) as http:
            clip = write_video(
                tmp_path_factory.mktemp("media") / "a.mp4", frames=30, container=Container.MP4_FRAGMENTED
            )
            drive(system, http, clip.read_bytes())
            asyncio.run(send_junk(wire.url))
            system.wait_for("edge", "detections_dead_letters_total", lambda count: count > 0)
            through_an_alarm(system, http, clip.read_bytes(), rabbit)
            without_a_broker(system, http, clip.read_bytes(), wire)
        yield system


def drive(system: System, http: httpx.Client, clip: bytes) -> None:
    """Good media and bad ones, an upload of which nobody can be told, listeners from everywhere."""
    with listening(http, system):
        task_id = uploaded_slowly(
            http, clip, lambda: system.wait_for("edge", "detections_uploads_in_progress", is_some)
        )
        assert http.post("/detect", files={"file": ("a.png", picture())}).status_code in (200, 422)
    assert http.post("/shots", content=clip, headers=NAMED).status_code == 202
    assert http.post("/detect/video", content=clip, headers=NAMED | bearer("ada")).status_code == 202
    assert http.post("/detect/video", content=b"no video", headers={"X-Filename": "a.txt"}).status_code == 400
    http.post("/detect/video", content=b"no video" * 9_000, headers=NAMED)  # told of now, or by its task
    with http.stream("GET", "/detect/stream", headers={"Last-Event-ID": "999999"}) as beyond:
        assert any("event: gap" in line for line in beyond.iter_lines())
    with http.stream("GET", "/detect/stream", params={"taskId": task_id}, headers={"Last-Event-ID": "0"}) as behind:
        assert any(line.startswith("data:") for line in behind.iter_lines())
    system.wait_for("edge", "detections_outbox_oldest_seconds", is_some)
    system.wait_for("consumer", "detections_task_failures_total", is_some)
    system.wait_for("consumer", "detections_tasks_ended_total", is_some, kind="shots", outcome="succeeded")


def through_an_alarm(system: System, http: httpx.Client, clip: bytes, rabbit: PrivateRabbit) -> None:
    """The broker takes nothing, and what an edge has for it waits."""
    rabbit.ctl("set_vm_memory_high_watermark", "0.00001")
    try:
        for who in ("edge", "consumer"):
            system.wait_for(who, "detections_broker_blocked", is_some)
        assert http.post("/detect/video", content=clip, headers=NAMED).status_code == 503
        system.wait_for("edge", "detections_commands_unpublished", is_some)
    finally:
        rabbit.ctl("set_vm_memory_high_watermark", "absolute", "512MB")
    system.wait_for("edge", "detections_commands_unpublished", is_none)


def without_a_broker(system: System, http: httpx.Client, clip: bytes, wire: Wire) -> None:
    """In mid-task every connection is lost, and a listener who has come back cannot read the log."""

    def lose_it() -> None:
        system.wait_for("consumer", "detections_tasks_running", is_some)
        with wire.cut(), http.stream("GET", "/detect/stream", headers={"Last-Event-ID": "0"}):
            system.wait_for("edge", "detections_ready", is_none, check="broker")
            for who in ("edge", "consumer"):
                system.wait_for(who, "detections_broker_connected", is_none)
            system.wait_for("edge", "detections_sse_lag_events", is_some)
        system.wait_for("consumer", "detections_redeliveries_total", is_some)

    uploaded_slowly(http, clip, lose_it)


def is_some(value: float) -> bool:
    return value > 0


def is_none(value: float) -> bool:
    return value == 0


def picture() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return write_image(Path(folder) / "a.png").read_bytes()


@contextlib.contextmanager
def listening(http: httpx.Client, system: System) -> Iterator[None]:
    with http.stream("GET", "/detect/stream"):
        system.wait_for("edge", "detections_sse_listeners", is_some)
        yield


def uploaded_slowly(http: httpx.Client, clip: bytes, meanwhile: Callable[[], None]) -> str:
    """Send half of a clip, do something, send the rest. Returns the task's id."""
    body = Gated(clip, open_bytes=len(clip) // 2)
    headers = NAMED | {"X-Config": ALL_FRAMES, "X-Task-Id": str(uuid.uuid4())}
    with ThreadPoolExecutor(1) as sending:
        answer = sending.submit(http.post, "/detect/video", content=iter(lambda: body.read(4096), b""), headers=headers)
        try:
            meanwhile()
        finally:
            body.gate.set()
        assert answer.result(WAIT_S).status_code == 202
    return headers["X-Task-Id"]


async def send_junk(amqp_url: str) -> None:
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        await channel.default_exchange.publish(aio_pika.Message(b"junk"), topology.VIDEO_COMMANDS)


def watched() -> dict[str, set[str]]:
    """What each alert and each panel asks for."""
    rules = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"][0]["rules"]
    alerts = {rule["alert"]: names_in(rule["expr"]) for rule in rules}
    panels = {
        panel["title"]: {name for target in panel["targets"] for name in names_in(target["expr"])}
        for panel in json.loads(DASHBOARD.read_text())["panels"]
        if panel["type"] != "row"
    }
    return alerts | panels


WATCHED = sorted({name for names in watched().values() for name in names} - OF_PROMETHEUS)
OURS = [name for name in WATCHED if not name.startswith("rabbitmq_")]


@pytest.mark.parametrize("name", OURS)
def test_what_an_alert_or_a_panel_asks_for_is_there_and_moves(driven: System, name: str) -> None:
    assert driven.has(name)
    assert driven.has_moved(name) or name in STILL


def test_what_they_ask_the_broker_for_is_there(driven: System, rabbit: PrivateRabbit) -> None:
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    jobs = [job for job in config["scrape_configs"] if job["job_name"].startswith("rabbitmq")]
    assert rabbit.metrics_url is not None
    shown: set[str] = set()
    for job in jobs:
        path = job.get("metrics_path", "/metrics")
        shown |= values_at(str(httpx.URL(rabbit.metrics_url, path=path, params=job.get("params")))).keys()

    assert set(WATCHED) - set(OURS) <= shown


def test_no_label_has_an_id_or_many_values(driven: System) -> None:
    labels = driven.labels()

    assert [value for values in labels.values() for value in values if UUID.search(value)] == []
    assert {name: len(values) for name, values in labels.items() if len(values) > LABEL_VALUES_MAX} == {}
