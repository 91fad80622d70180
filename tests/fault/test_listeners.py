"""Many listeners while the broker and the edge are killed under them: each hears every event once, and in order.

With `make soak`; `FAULT_LISTENERS`, `FAULT_STALLED`, `FAULT_BROKER_KILLS`, `FAULT_EDGE_KILLS` and `FAULT_EVENTS_PER_S` change its
size. A slice of it is in every run of `test_kills.py`, with real work.
"""

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import aio_pika
import pytest

from contracts import topology
from contracts.detections import Detection
from contracts.events import AnyEvent, FrameDetected, TaskEnded
from contracts.wire import encode
from tests.broker.consumer_stage import scripted_model
from tests.fault.fleet import WAIT_S, Actor, BrokerHandle, Fleet, fleet, private_broker
from tests.fault.flow import channel_on, new_task, seen_on
from tests.fault.listeners import Audience, Heard, audience, to_be_heard
from tests.fault.timeline import Timeline, timeline
from tests.processes import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.broker, pytest.mark.soak, pytest.mark.timeout(3600)]

LISTENERS = int(os.environ.get("FAULT_LISTENERS", "200"))
STALLED = int(os.environ.get("FAULT_STALLED", "10"))
BROKER_KILLS = int(os.environ.get("FAULT_BROKER_KILLS", "3"))
EDGE_KILLS = int(os.environ.get("FAULT_EDGE_KILLS", "5"))
EVENTS_PER_S = float(os.environ.get("FAULT_EVENTS_PER_S", "20"))
BETWEEN_S = 10.0
"""Of events, between two kills: stalled listeners fall behind, live ones come back."""
GROWTH_MAX_BYTES = 50_000_000
TASKS = 4
"""That report in turns."""
REPORTS = 100
"""Of each of them, before another one begins."""
SEEN = [Detection(center_x=0.5, center_y=0.5, width=0.1, height=0.1, class_num=0, label="car", confidence=0.9)] * 10


class Speaker:
    """Says what consumers say, one event after the other, each until the broker has confirmed it."""

    def __init__(self, amqp_url: str) -> None:
        self.said: list[Heard] = []
        """In the order in which they were confirmed."""
        self.failed = 0
        """Times that an event was not confirmed, and was sent again."""
        self._amqp_url = amqp_url
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._speak()), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.finish()

    def finish(self) -> None:
        """Return when the last task has ended."""
        self._stop.set()
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive()

    async def _speak(self) -> None:
        events = self._events()
        event = next(events, None)
        while event is not None:
            with contextlib.suppress(OSError, RuntimeError, aio_pika.exceptions.AMQPError, asyncio.CancelledError):
                async with channel_on(self._amqp_url) as channel:
                    exchange = await channel.get_exchange(topology.EVENTS, ensure=False)
                    while event is not None:
                        await self._say(exchange, event)
                        event = next(events, None)
                        await asyncio.sleep(1 / EVENTS_PER_S)
            self.failed += event is not None

    async def _say(self, exchange: aio_pika.abc.AbstractExchange, event: FrameDetected | TaskEnded) -> None:
        message = aio_pika.Message(encode(event), delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        async with asyncio.timeout(10):
            await exchange.publish(message, topology.event_key(event))
        self.said.append((event.task_id, event.sequence))

    def _events(self) -> Iterator[FrameDetected | TaskEnded]:
        while not self._stop.is_set():
            tasks = [new_task() for _ in range(TASKS)]
            for sequence in range(1, REPORTS + 1):
                for task in tasks:
                    yield FrameDetected(task_id=task, media_id=task, sequence=sequence, annotations=SEEN)
                if self._stop.is_set():
                    break
            for task in tasks:
                yield TaskEnded(task_id=task, media_id=task, sequence=sequence + 1)


class Edge:
    """What an edge has needed of memory over its lives."""

    def __init__(self, actor: Actor) -> None:
        self._actor = actor
        self.idle_bytes = self._now("VmRSS")
        self.most_bytes = self.idle_bytes

    def look(self) -> None:
        """Its most so far, in this life."""
        self.most_bytes = max(self.most_bytes, self._now("VmHWM"))

    def _now(self, name: str) -> int:
        lines = Path(f"/proc/{self._actor.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[BrokerHandle]:
    with private_broker(tmp_path / "rabbit") as handle:
        yield handle


@pytest.fixture
def system(broker: BrokerHandle, tmp_path: Path) -> Iterator[Fleet]:
    with fleet(tmp_path / "storage", amqp_url=broker.url, model=scripted_model(tmp_path)) as running:
        consumer = running.consumer()  # that the edge is ready says that its queues are there
        for actor in (running.edge, consumer):
            actor.start()
        running.wait_until_ready()
        consumer.kill()
        broker.settle()
        yield running


def test_listeners_hear_every_event_once_and_in_order_whatever_is_killed(broker: BrokerHandle, system: Fleet) -> None:
    edge = Edge(system.edge)
    with timeline("listeners") as told, audience(system.url, live=LISTENERS, stalled=STALLED) as listening:
        told.note(f"{LISTENERS} listen, {STALLED} do not read")
        with Speaker(broker.url) as speaker:
            kills = ["broker"] * BROKER_KILLS + ["edge"] * EDGE_KILLS
            told.chance.shuffle(kills)
            for victim in kills:
                until_more_was_said(speaker)
                edge.look()
                kill(victim, broker, system, listening, told=told)
            until_more_was_said(speaker)
        edge.look()
        log: list[AnyEvent] = list(asyncio.run(seen_on(broker.url, [])).events)
        expected = to_be_heard(log)
        assert expected == speaker.said, "what was confirmed is in the log, in this order"
        listening.until_all_heard(expected)
        edge.look()
        told.note(
            f"{len(expected)} events ({len(log)} in the log, {speaker.failed} times one was not confirmed) to each of "
            f"{LISTENERS} over {sum(one.connections for one in listening.live)} connections; edge "
            f"{edge.idle_bytes / 1e6:.0f} MB idle, {edge.most_bytes / 1e6:.0f} MB at most; load {os.getloadavg()[0]:.1f}"
        )
        print(told)
    assert edge.most_bytes - edge.idle_bytes < GROWTH_MAX_BYTES


def until_more_was_said(speaker: Speaker) -> None:
    """As much as takes `BETWEEN_S`."""
    due = len(speaker.said) + BETWEEN_S * EVENTS_PER_S
    wait_until(lambda: len(speaker.said) >= due, timeout_s=WAIT_S * 3)


def kill(victim: str, broker: BrokerHandle, system: Fleet, listening: Audience, *, told: Timeline) -> None:
    told.note(f"kill {victim}")
    if victim == "broker":
        broker.kill()
        time.sleep(told.chance.uniform(0, 2))
        broker.start()
    else:
        system.edge.kill()
        time.sleep(told.chance.uniform(0, 2))
        system.edge.start()
        system.edge.wait_until_ready()
        listening.stall()
    told.note(f"{victim} is back")
