"""What the command that chooses a model hears of the consumers, and of a broker that goes meanwhile."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from urllib.parse import urlsplit

import aio_pika
import pytest

from contracts import topology
from contracts.events import ActiveModel, ConsumerSeen, EngineStatus, ModelOutcome
from contracts.failures import Failure, FailureCode
from contracts.wire import encode
from detections import choosing
from detections.broker_setup import declare
from detections.choosing import Answer, announced
from tests.fault.proxy import Proxy
from tests.virtual_hosts import as_administrator

pytestmark = pytest.mark.broker

CHOSEN = ActiveModel(file="street.onnx", revision="r1")
SHORT_S = 0.4


@pytest.fixture(scope="module")
def amqp_url(new_host: Callable[[], dict[str, str]]) -> str:
    url = as_administrator(new_host()["AMQP_URL"])
    declare(url)
    return url


class Consumers:
    """Heartbeats, as of consumers that are told what to say."""

    def __init__(self) -> None:
        self.living: list[ConsumerSeen] = []

    def add(self, pid: int, revision: str | None = None) -> None:
        """In place of what it said before."""
        outcome = None if revision is None else ModelOutcome(revision=revision)
        known = {"host": "h", "engine_type": "onnx", "status": EngineStatus.ENABLED, "model": "street"}
        others = [each for each in self.living if each.id != f"h:{pid}:abc"]
        self.living = [*others, ConsumerSeen(id=f"h:{pid}:abc", model_outcome=outcome, **known)]  # type: ignore[arg-type]

    async def beat(self, amqp_url: str) -> None:
        async with await aio_pika.connect(amqp_url) as connection:
            channel = await connection.channel()
            presence = await channel.get_exchange(topology.PRESENCE)
            while True:
                for consumer in self.living:
                    await presence.publish(aio_pika.Message(encode(consumer)), "")
                await asyncio.sleep(SHORT_S / 8)


@pytest.fixture
async def consumers(amqp_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Consumers]:
    monkeypatch.setattr(choosing, "LISTEN_S", SHORT_S)
    monkeypatch.setattr(choosing, "SILENT_S", 2 * SHORT_S)
    made = Consumers()
    beating = asyncio.create_task(made.beat(amqp_url))
    yield made
    beating.cancel()
    await asyncio.wait((beating,))


async def answers(amqp_url: str, choose: Callable[[], Awaitable[ActiveModel]], wait_s: float = 60.0) -> list[str]:
    told: list[Answer] = []
    active: list[ActiveModel] = []
    heard = await announced(choose, activate=active.append, amqp_url=amqp_url, wait_s=wait_s, tell=told.append)
    assert (heard, active) == (told, [CHOSEN])
    return [str(answer) for answer in heard]


async def chosen() -> ActiveModel:
    await asyncio.sleep(SHORT_S)  # everybody is heard of
    return CHOSEN


async def test_a_consumer_that_dies_of_its_new_model_is_told(amqp_url: str, consumers: Consumers) -> None:
    consumers.add(1)

    async def fatal() -> ActiveModel:
        active = await chosen()
        consumers.living = []
        return active

    assert await answers(amqp_url, fatal) == ["h:1 keeps street: not heard of any more"]


async def test_a_consumer_that_starts_afterwards_is_not_waited_for(amqp_url: str, consumers: Consumers) -> None:
    """It loads what was chosen with its first command, and answers then."""
    consumers.add(1)
    answering = asyncio.create_task(answers(amqp_url, chosen))
    await asyncio.sleep(4 * SHORT_S)
    consumers.add(2)
    await asyncio.sleep(SHORT_S)
    consumers.add(1, CHOSEN.revision)
    async with asyncio.timeout(30):
        heard = await answering

    assert heard == ["h:1 serves street"]


async def test_a_consumer_that_answers_a_later_choice_has_answered_this_one(
    amqp_url: str, consumers: Consumers
) -> None:
    for pid in (1, 2):
        consumers.add(pid)
    answering = asyncio.create_task(answers(amqp_url, chosen))
    await asyncio.sleep(3 * SHORT_S)
    for pid, revision in ((1, CHOSEN.revision), (1, "r2"), (2, CHOSEN.revision)):
        consumers.add(pid, revision)
        await asyncio.sleep(SHORT_S)
    async with asyncio.timeout(30):
        heard = await answering

    assert sorted(heard) == ["h:1 serves street", "h:2 serves street"]


async def test_a_broker_that_goes_while_the_model_is_chosen_is_said(amqp_url: str) -> None:
    parts = urlsplit(amqp_url)
    proxy = Proxy(parts.port or 0)
    await proxy.start()
    through = parts._replace(netloc=parts.netloc.replace(f":{parts.port}", f":{proxy.port}")).geturl()

    async def cutting() -> ActiveModel:
        proxy.reset()
        await asyncio.sleep(SHORT_S)
        return CHOSEN

    with pytest.raises(Failure, match=r"street.onnx was chosen, but not announced") as failed:
        await answers(through, cutting)
    await proxy.stop()
    assert failed.value.code is FailureCode.BROKER_UNAVAILABLE
