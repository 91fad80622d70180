"""RabbitMQ's own management, in a real browser, as its operator sees it while a system works: everything says whose it is."""

import asyncio
import os
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import aio_pika
import pytest
from playwright.sync_api import Browser, Page, expect

from contracts import topology
from contracts.wire import CONTENT_TYPE
from detections import Client
from detections.broker_users import OPERATOR, PUBLISHER
from detections.local import LocalStack
from detections.rabbitmq import PrivateRabbit
from tests.e2e.conftest import write_scripted_model
from tests.media import STATIC, write_video
from tests.virtual_hosts import PASSWORDS, as_user

pytestmark = [pytest.mark.e2e, pytest.mark.broker]

SLOW_S = 0.2
"""For each frame: the system works for as long as the pages are looked at."""
SHOWN_MS = 60_000
"""The broker tells its management of what is new every 5 s."""
SCREENSHOTS = os.environ.get("SCREENSHOTS")
"""A folder in which to keep what was seen."""
UNREADABLE = b'{"type":"Teleport","version":1,"taskId":"0c6d1e4e-6a5e-4f5e-9a3c-2f6f3a4d8b10"}'


@pytest.fixture(scope="module")
def working(tmp_path_factory: pytest.TempPathFactory, new_host: Callable[[], dict[str, str]]) -> Iterator[LocalStack]:
    """A system that looks at a video, and has a dead letter."""
    folder = tmp_path_factory.mktemp("working")
    model = write_scripted_model(folder, delay_s=SLOW_S)
    stack = LocalStack(folder / "storage", model=model, environ=new_host())
    stack.start()
    with Client(stack.url) as client:
        client.submit(write_video(folder / "long.mp4", frames=3_000, squares=STATIC), config=EVERY_FRAME)
    with ThreadPoolExecutor(1) as elsewhere:  # Playwright's event loop runs in this thread
        elsewhere.submit(asyncio.run, ask_for_the_impossible(as_user(stack.amqp_url, PUBLISHER))).result()
    yield stack
    stack.kill()


EVERY_FRAME = {"frame_recognition_seconds": 0, "frame_period_recognition": 1}


async def ask_for_the_impossible(amqp_url: str) -> None:
    async with await aio_pika.connect(amqp_url) as connection:
        exchange = await (await connection.channel()).get_exchange(topology.COMMANDS)
        message = aio_pika.Message(
            UNREADABLE, content_type=CONTENT_TYPE, type="Teleport", app_id="shop", delivery_mode=2
        )
        await exchange.publish(message, "video")


class Management:
    """The pages of the management, of one virtual host."""

    def __init__(self, page: Page, address: str, host: str) -> None:
        self.page = page
        self._address = address
        self._host = host

    def log_in(self) -> None:
        self.page.goto(self._address)
        self.page.fill("input[name=username]", OPERATOR.name)
        self.page.fill("input[name=password]", PASSWORDS[OPERATOR.name])
        self.page.click("input[type=submit]")
        self.page.select_option("#show-vhost", self._host)

    def show(self, place: str, *texts: str, picture: str) -> None:
        """Open a page and wait until it says all of these."""
        self.page.goto(f"{self._address}/#/{place}")
        for text in texts:
            expect(self.page.locator("#main")).to_contain_text(text, timeout=SHOWN_MS)
        self.keep(picture)

    def unfold(self, section: str) -> None:
        heading = self.page.locator("h2", has_text=section)
        heading.click(timeout=SHOWN_MS)

    def keep(self, picture: str) -> None:
        if SCREENSHOTS is not None:
            self.page.screenshot(path=Path(SCREENSHOTS) / f"{picture}.jpg", type="jpeg", quality=70, full_page=True)

    def queue(self, name: str) -> str:
        return f"queues/{quote(self._host, safe='')}/{quote(name)}"


@pytest.fixture
def management(browser: Browser, rabbit: PrivateRabbit, working: LocalStack) -> Iterator[Management]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    shown = Management(context.new_page(), rabbit.management_url or "", working.amqp_url.rpartition("/")[2])
    shown.log_in()
    yield shown
    context.close()


def test_the_management_says_who_is_connected_and_what_waits_where(management: Management, working: LocalStack) -> None:
    host = socket.gethostname()
    [edge], [consumer] = working.pids("edge"), working.pids("consumer-1")
    edge_name, consumer_name = f"edge {host}:{edge}", f"consumer {host}:{consumer}"

    edges = [f"{edge_name} {work}" for work in ("publish", "log", "presence", "outbox", "dead-letters")]
    consumers = [f"{consumer_name} {work}" for work in ("consume", "publish")]
    management.show("connections", *edges, *consumers, picture="connections")
    management.show("channels", "edge", "consumer", "running", picture="channels")
    queues = [queue.name for queue in topology.topology().queues]
    own = [topology.own_queue(topology.PRESENCE, edge_name), f"{topology.CONTROL}.{host}:{consumer}"]
    management.show("queues", *queues, *own, "running", picture="queues")
    tag = f"{consumer_name} {topology.VIDEO_COMMANDS}"
    management.show(management.queue(topology.VIDEO_COMMANDS), "Policy", picture="queue")
    management.unfold("Consumers")
    expect(management.page.get_by_role("cell", name=tag)).to_be_visible(timeout=SHOWN_MS)
    management.keep("consumers")


def test_the_management_shows_a_message_so_that_a_person_can_read_it(management: Management) -> None:
    management.show(management.queue(topology.DEAD_LETTERS), "Get messages", picture="dead-letters")
    management.unfold("Get messages")
    management.page.click("input[value='Get Message(s)']")
    shown = management.page.locator("#msg-wrapper")
    expected = ("DeadLetter", "application/json", "consumer", "timestamp", topology.FAILURE_CODE_HEADER, "unknown_type")
    for text in (*expected, UNREADABLE.decode()):
        expect(shown).to_contain_text(text, timeout=SHOWN_MS)
    management.keep("message")
