"""What a consumer sends, and in which order it arrives."""

import asyncio

import pytest

from consumers import lane as lanes
from consumers.lane import Lane
from consumers.outgoing import (
    Outgoing,
    Undelivered,
    command_message,
    dead_letter,
    event_message,
    presence_message,
)
from contracts import topology, wire
from contracts.commands import DetectVideo
from contracts.events import ConsumerSeen, EngineStatus, FrameDetected, TaskEnded, TaskProgressed
from contracts.failures import FailureCode, FailureRecord
from contracts.media import Medium, MediumKind
from tests.unit.consumer_fakes import FakeBroker

TASK = "0b8b8a2e-0000-4000-8000-000000000001"


def numbered(number: int) -> Outgoing:
    return Outgoing(exchange="e", type="t", body=b"", id=str(number))


def ids(broker: FakeBroker) -> list[str | None]:
    return [message.id for message in broker.messages]


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "RESEND_PAUSES_S", (0.0, 0.0))


def test_a_report_carries_the_id_that_is_equal_on_every_run() -> None:
    message = event_message(FrameDetected(task_id=TASK, media_id="m", sequence=3))

    assert (message.exchange, message.routing_key, message.id) == (topology.EVENTS, "frame.free", f"{TASK}:3")
    assert message.headers == {topology.TASK_ID_HEADER: TASK}
    assert message.type == "FrameDetected"
    assert message.is_kept


def test_progress_has_no_id_and_is_not_kept() -> None:
    message = event_message(TaskProgressed(task_id=TASK, media_id="m"))

    assert (message.id, message.is_kept, message.routing_key) == (None, False, "progress.free")


def test_an_end_has_the_number_after_the_last_report() -> None:
    assert event_message(TaskEnded(task_id=TASK, media_id="m", sequence=4)).id == f"{TASK}:4"


def test_a_continuation_goes_back_to_the_queue_of_its_kind() -> None:
    medium = Medium(root="storage", path="a", kind=MediumKind.VIDEO)
    message = command_message(DetectVideo(task_id=TASK, medium=medium, continuation=1))

    assert (message.exchange, message.routing_key) == (topology.COMMANDS, "video")
    assert wire.decode_command(message.body).continuation == 1


def test_a_dead_letter_keeps_the_body_and_names_the_reason() -> None:
    message = dead_letter(b"{", FailureRecord(code=FailureCode.MALFORMED_MESSAGE, detail="torn"))

    assert (message.exchange, message.body) == (topology.DEAD, b"{")
    assert message.headers == {
        topology.FAILURE_CODE_HEADER: "malformed_message",
        topology.FAILURE_DETAIL_HEADER: "torn",
    }


def test_nobody_needs_to_listen_to_a_heartbeat() -> None:
    seen = ConsumerSeen(id="c", host="h", engine_type=None, status=EngineStatus.NONE, model=None)

    assert not presence_message(seen).is_kept


async def test_a_lane_keeps_the_order_with_several_confirms_in_flight() -> None:
    broker = FakeBroker()
    async with Lane(broker, in_flight_max=4) as lane:
        for number in range(20):
            await lane.send(numbered(number))
        await lane.flush()

    assert ids(broker) == [str(number) for number in range(20)]
    assert 1 < broker.waiting_max <= 4


async def test_a_lane_waits_when_too_many_confirms_are_missing() -> None:
    broker = FakeBroker()
    broker.hold_confirms()
    async with Lane(broker, in_flight_max=2) as lane:
        await lane.send(numbered(0))
        await lane.send(numbered(1))
        third = asyncio.create_task(lane.send(numbered(2)))
        await asyncio.sleep(0)
        assert not third.done()
        broker.confirm_all()
        await third
        await lane.flush()

    assert ids(broker) == ["0", "1", "2"]


async def test_what_follows_a_lost_message_is_sent_again_behind_it() -> None:
    broker = FakeBroker(fails=[1])
    async with Lane(broker, in_flight_max=8) as lane:
        for number in range(3):
            await lane.send(numbered(number))
        await lane.flush()

    assert ids(broker) == ["0", "2", "1", "2"]


async def test_a_loss_that_is_known_is_made_good_before_the_next_message() -> None:
    broker = FakeBroker(fails=[0])
    async with Lane(broker, in_flight_max=8) as lane:
        await lane.send(numbered(0))
        for _ in range(3):
            await asyncio.sleep(0)
        await lane.send(numbered(1))
        await lane.flush()

    assert ids(broker) == ["0", "1"]


async def test_a_lane_gives_up_after_its_last_pause() -> None:
    broker = FakeBroker(is_away=True)
    async with Lane(broker) as lane:
        await lane.send(numbered(0))
        with pytest.raises(Undelivered):
            await lane.flush()


async def test_leaving_a_lane_leaves_nothing_running() -> None:
    broker = FakeBroker()
    broker.hold_confirms()
    async with Lane(broker) as lane:
        await lane.send(numbered(0))
        await asyncio.sleep(0)

    assert broker.waiting == 0
