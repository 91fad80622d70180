"""A command's way through a consumer, on real media and a scripted model, with a broker that only remembers."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import structlog

from consumers import lane, metrics, roots
from consumers.attempt import StopReason
from consumers.detect import NotPutAside
from consumers.leases import ATTEMPTS_MAX, Claim, Leases
from consumers.media_limits import MediaLimits
from consumers.outgoing import Undelivered
from contracts import topology, wire
from contracts.commands import AnyCommand, DetectImage, DetectVideo
from contracts.detections import Counts
from contracts.events import FrameDetected, TaskEnded
from contracts.failures import FailureCode, FailureRecord
from contracts.media import Medium, MediumKind
from contracts.options import DetectionOptions
from contracts.results import latest_epoch, reports
from contracts.storage import Lease, TaskRecord, create_record, read_record, upload_medium
from engine.detector import Detector
from engine.images import PictureLimits
from engine.loading import load_detector
from engine.sources import ModelSource
from engine.video import VideoLimits
from tests.broker.consumer_stage import Upload, new_task_id, scripted_model, until
from tests.media import STATIC, write_audio_only, write_image, write_video
from tests.unit.consumer_alone import Consumer
from tests.unit.consumer_fakes import FakeBroker
from tests.unit.small_disk import fill, small_disk

__all__ = ["small_disk"]

EVERY_FRAME = DetectionOptions(frame_period_recognition=1, frame_recognition_seconds=0)


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane, "RESEND_PAUSES_S", (0.0,))
    monkeypatch.setattr(roots, "LATE_FILE_S", 0.0)


@pytest.fixture
async def consumer(tmp_path: Path) -> AsyncIterator[Consumer]:
    made = Consumer(tmp_path, model=scripted_model(tmp_path))
    yield made
    made.close()


def picture(consumer: Consumer, *, is_quiet: bool) -> DetectImage:
    write_image(consumer.folder / "a.png", squares=STATIC)
    medium = Medium(root="images", path="a.png", kind=MediumKind.IMAGE, media_id="m")
    return DetectImage(task_id=new_task_id(), medium=medium, is_quiet=is_quiet)


TILES = 400
"""About so many has a large picture."""


def large_picture(consumer: Consumer, *, is_quiet: bool) -> DetectImage:
    write_image(consumer.folder / "large.png", size=(2600, 2000), squares=STATIC)
    medium = Medium(root="images", path="large.png", kind=MediumKind.IMAGE, media_id="m")
    return DetectImage(task_id=new_task_id(), medium=medium, is_quiet=is_quiet)


def has_waiting_tiles(consumer: Consumer) -> bool:
    return consumer.room.ready is not None and bool(consumer.room.ready._turns)


async def tiles_waiting(consumer: Consumer) -> None:
    """Wait until the first tiles of a picture are looked at."""
    await until(lambda: has_waiting_tiles(consumer))


def finished_video(consumer: Consumer, *, frames: int = 5, **changes: object) -> DetectVideo:
    """A video that lies whole in a media root."""
    write_video(consumer.folder / "clip.mp4", frames=frames, squares=STATIC)
    medium = Medium(root="images", path="clip.mp4", kind=MediumKind.VIDEO, media_id="v")
    command = DetectVideo(task_id=new_task_id(), medium=medium, options=EVERY_FRAME)
    return msgspec.structs.replace(command, **changes)


def uploaded_video(consumer: Consumer) -> tuple[DetectVideo, Upload]:
    task_id = new_task_id()
    upload = Upload(consumer.layout, task_id)
    upload.write(write_video(consumer.folder / "clip.mp4", frames=5).read_bytes())
    medium = upload_medium(task_id, kind=MediumKind.VIDEO, name="clip.mp4", is_growing=True)
    return DetectVideo(task_id=task_id, medium=medium, options=EVERY_FRAME), upload


def only_end(broker: FakeBroker) -> TaskEnded:
    (end,) = broker.ends
    return end


def failure_code(end: TaskEnded) -> FailureCode | None:
    return end.failure.code if end.failure else None


async def seen(broker: FakeBroker, count: int) -> None:
    """Wait until so many events were sent; the thread that sees them runs meanwhile."""
    await until(lambda: len(broker.events) >= count)


# A picture that somebody waits for


async def test_a_quiet_picture_is_one_report_and_an_end_and_leaves_no_trace(consumer: Consumer) -> None:
    command = picture(consumer, is_quiet=True)
    await consumer.take(command)

    report, end = consumer.broker.events
    assert isinstance(report, FrameDetected)
    assert isinstance(end, TaskEnded)
    assert (report.sequence, report.is_quiet, report.media_id, report.video_time) == (1, True, "m", None)
    assert [detection.label for detection in report.annotations] == ["red"]
    assert (end.sequence, end.percent, end.failure) == (2, 100, None)
    assert end.counts == Counts(decoded=1, sampled=1, inferred=1, reported=1)
    assert not consumer.layout.task(command.task_id).exists()


async def test_a_quiet_picture_that_cannot_be_read_ends_with_its_failure(consumer: Consumer) -> None:
    command = picture(consumer, is_quiet=True)
    (consumer.folder / "a.png").write_bytes(b"")
    await consumer.take(command)

    end = only_end(consumer.broker)
    assert (end.sequence, failure_code(end), end.percent) == (1, FailureCode.EMPTY_MEDIA, 0)
    assert consumer.broker.reports == []


async def test_a_picture_that_nobody_waits_for_goes_the_whole_way(consumer: Consumer) -> None:
    command = picture(consumer, is_quiet=False)
    await consumer.take(command)

    end = only_end(consumer.broker)
    assert (end.sequence, end.failure, end.media_id) == (2, None, "m")
    assert [report.sequence for report in reports(consumer.layout, command.task_id)] == [1]
    assert read_record(consumer.layout.end(command.task_id), TaskEnded) == end


# A video


async def test_a_video_is_reported_in_order_and_ended(consumer: Consumer) -> None:
    command = finished_video(consumer)
    await consumer.take(command)

    assert [report.sequence for report in consumer.broker.reports] == [1, 2, 3, 4, 5]
    end = only_end(consumer.broker)
    assert (end.sequence, end.failure, end.percent, end.media_id) == (6, None, 100, "v")
    assert end.counts == Counts(decoded=5, sampled=5, inferred=5, reported=5)
    assert list(reports(consumer.layout, command.task_id)) == consumer.broker.reports


async def test_an_upload_that_has_come_whole_is_told_of_under_the_id_of_its_content(consumer: Consumer) -> None:
    command, upload = uploaded_video(consumer)
    upload.seal("hash")
    await consumer.take(command)

    assert {event.media_id for event in consumer.broker.events} == {"hash"}
    assert {report.media_id for report in reports(consumer.layout, command.task_id)} == {"hash"}


async def test_an_upload_is_told_of_under_its_task_until_the_id_of_its_content_is_known(consumer: Consumer) -> None:
    command, upload = uploaded_video(consumer)
    working = asyncio.create_task(consumer.take(command))
    await seen(consumer.broker, 1)
    upload.seal("hash")
    await working

    names = [event.media_id for event in consumer.broker.events]
    known_from = names.index("hash")
    assert (names[0], names[-1]) == (command.task_id, "hash")
    assert names == [command.task_id] * known_from + ["hash"] * (len(names) - known_from)


async def test_what_is_larger_than_this_consumer_takes_ends_with_that(tmp_path: Path) -> None:
    small = MediaLimits(picture=PictureLimits(side_px_max=8), video=VideoLimits(frames_max=2))
    consumer = Consumer(tmp_path, model=scripted_model(tmp_path), limits=small)
    for command in (picture(consumer, is_quiet=True), picture(consumer, is_quiet=False), finished_video(consumer)):
        await consumer.take(command)
    consumer.close()

    ends = [failure_code(event) for event in consumer.broker.events if isinstance(event, TaskEnded)]
    assert ends == [FailureCode.TOO_MANY_PIXELS, FailureCode.TOO_MANY_PIXELS, FailureCode.DURATION_LIMIT]


async def test_an_aborted_upload_keeps_what_was_reported(consumer: Consumer) -> None:
    command, upload = uploaded_video(consumer)
    working = asyncio.create_task(consumer.take(command))
    await seen(consumer.broker, 4)
    upload.abort()
    await working

    end = only_end(consumer.broker)
    assert failure_code(end) is FailureCode.UPLOAD_ABORTED
    assert len(consumer.broker.reports) >= 4
    assert end.sequence == len(consumer.broker.reports) + 1


async def test_an_aborted_upload_ends_with_the_reason_that_its_writer_left(consumer: Consumer) -> None:
    command, upload = uploaded_video(consumer)
    working = asyncio.create_task(consumer.take(command))
    await seen(consumer.broker, 1)
    stalled = FailureRecord(code=FailureCode.UPLOAD_STALLED, detail="no bytes for 60 s")
    create_record(consumer.layout.abort(command.task_id), stalled)
    upload.abort()
    await working

    assert only_end(consumer.broker).failure == stalled


async def test_a_file_without_a_picture_in_it_ends_with_the_reason(consumer: Consumer) -> None:
    write_audio_only(consumer.folder / "clip.mp4")
    medium = Medium(root="images", path="clip.mp4", kind=MediumKind.VIDEO)
    await consumer.take(DetectVideo(task_id=new_task_id(), medium=medium))

    assert failure_code(only_end(consumer.broker)) is FailureCode.NO_VIDEO_STREAM


async def test_a_medium_that_is_not_there_ends_the_task(consumer: Consumer) -> None:
    medium = Medium(root="images", path="gone.mp4", kind=MediumKind.VIDEO)
    await consumer.take(DetectVideo(task_id=new_task_id(), medium=medium))

    assert failure_code(only_end(consumer.broker)) is FailureCode.MEDIUM_MISSING
    assert consumer.broker.of(topology.DEAD) == []


async def test_the_record_says_when_the_work_began(consumer: Consumer) -> None:
    command = finished_video(consumer)
    await consumer.take(command)

    record = read_record(consumer.layout.task_record(command.task_id), TaskRecord)
    assert record is not None
    assert record.started_at is not None
    assert record.command == command


# What leads to nothing


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "malformed_message"),
        (b"\xff\xfe", "malformed_message"),
        (b"[" * 5000, "malformed_message"),
        (b'{"type":"DetectVideo","version":1}', "malformed_message"),
        (b'{"type":"Guess","version":1}', "unknown_type"),
        (b'{"type":"DetectVideo","version":99}', "unknown_version"),
    ],
)
async def test_what_nobody_understands_is_put_aside_with_the_reason(consumer: Consumer, body: bytes, code: str) -> None:
    await consumer.take(body)

    (letter,) = consumer.broker.messages
    assert (letter.exchange, letter.body) == (topology.DEAD, body)
    assert letter.headers[topology.FAILURE_CODE_HEADER] == code


async def test_whoever_waits_for_what_nobody_understands_is_told(consumer: Consumer) -> None:
    task_id = new_task_id()
    await consumer.take(msgspec.json.encode({"type": "Guess", "version": 1, "taskId": task_id, "isQuiet": True}))

    end = only_end(consumer.broker)
    assert (end.task_id, end.is_quiet, failure_code(end)) == (task_id, True, FailureCode.UNKNOWN_TYPE)


@pytest.mark.parametrize("is_quiet", [True, False])
async def test_a_path_that_leaves_its_root_ends_the_task_and_is_put_aside(consumer: Consumer, is_quiet: bool) -> None:
    medium = Medium(root="images", path="../etc/passwd", kind=MediumKind.IMAGE)
    command = DetectImage(task_id=new_task_id(), medium=medium, is_quiet=is_quiet)
    await consumer.take(command)

    assert failure_code(only_end(consumer.broker)) is FailureCode.FORBIDDEN_PATH
    (letter,) = consumer.broker.of(topology.DEAD)
    assert letter.headers[topology.FAILURE_CODE_HEADER] == "forbidden_path"


async def test_a_task_that_cannot_be_claimed_is_put_aside_and_not_ended_in_front_of_its_reports(
    consumer: Consumer,
) -> None:
    """The edge that takes the letter's notice knows what the task has reported, and writes the end behind it."""
    command, _ = uploaded_video(consumer)
    first = asyncio.create_task(consumer.take(command))
    await seen(consumer.broker, 3)
    first.cancel()
    await asyncio.wait((first,))
    consumer.layout.lease(command.task_id).unlink()
    consumer.layout.lease(command.task_id).mkdir()
    await consumer.take(command, is_redelivered=True)

    (letter,) = consumer.broker.of(topology.DEAD)
    assert letter.headers[topology.FAILURE_CODE_HEADER] == "internal"
    assert consumer.broker.ends == []


async def test_without_a_broker_the_reason_is_left_to_the_broker(tmp_path: Path) -> None:
    away = Consumer(tmp_path, model=scripted_model(tmp_path), broker=FakeBroker(is_away=True))

    with pytest.raises(NotPutAside):
        await away.take(b"{")
    away.close()


# The engine


async def test_a_missing_model_ends_the_task_and_the_next_command_tries_again(tmp_path: Path) -> None:
    model = tmp_path / "later.json"
    consumer = Consumer(tmp_path, model=model)
    await consumer.take(picture(consumer, is_quiet=True))
    scripted_model(tmp_path).rename(model)
    await consumer.take(picture(consumer, is_quiet=True))

    first, second = consumer.broker.ends
    assert failure_code(first) is FailureCode.MODEL_MISSING
    assert second.failure is None
    consumer.close()


# Claims


async def test_a_duplicate_is_dropped(consumer: Consumer) -> None:
    command = finished_video(consumer)
    await asyncio.gather(*(consumer.take(command) for _ in range(20)))

    assert [report.sequence for report in consumer.broker.reports] == [1, 2, 3, 4, 5]
    assert len(consumer.broker.ends) == 1
    assert latest_epoch(consumer.layout, command.task_id) == 1


async def test_an_ended_task_is_ended_again_only_for_a_redelivery(consumer: Consumer) -> None:
    command = finished_video(consumer)
    await consumer.take(command)
    await consumer.take(command)
    assert len(consumer.broker.ends) == 1
    await consumer.take(command, is_redelivered=True)

    first, again = consumer.broker.ends
    assert again == first
    assert latest_epoch(consumer.layout, command.task_id) == 1


async def test_a_taker_tells_again_what_may_not_have_been_confirmed_and_goes_on(consumer: Consumer) -> None:
    """The first consumer loses its broker in the middle; the second has everything once and in order."""
    command, upload = uploaded_video(consumer)
    first = asyncio.create_task(consumer.take(command))
    await seen(consumer.broker, 3)
    first.cancel()
    await asyncio.wait((first,))
    upload.seal("hash")
    second = Consumer(consumer.folder, model=scripted_model(consumer.folder), name="b")
    await second.take(command, is_redelivered=True)
    second.close()

    assert [report.sequence for report in second.broker.reports] == [1, 2, 3, 4, 5]
    assert {report.epoch for report in second.broker.reports} == {2}
    assert [report.sequence for report in reports(consumer.layout, command.task_id)] == [1, 2, 3, 4, 5]
    end = only_end(second.broker)
    assert (end.sequence, end.counts) == (6, Counts(decoded=5, sampled=5, inferred=5, reported=5))


async def test_whoever_is_superseded_publishes_nothing_more(consumer: Consumer) -> None:
    command, upload = uploaded_video(consumer)
    first = asyncio.create_task(consumer.take(command))
    await seen(consumer.broker, 3)
    second = Consumer(consumer.folder, model=scripted_model(consumer.folder), name="b")
    taking_over = asyncio.create_task(second.take(command, is_redelivered=True))
    await until(lambda: latest_epoch(consumer.layout, command.task_id) == 2)
    upload.seal(
        "hash"
    )  # not before: the first may have ended the task by itself, and the second would only say so again
    await asyncio.gather(taking_over, first)
    second.close()

    assert consumer.broker.ends == []
    assert only_end(second.broker).epoch == 2
    assert [report.sequence for report in second.broker.reports] == [1, 2, 3, 4, 5]
    assert [report.sequence for report in reports(consumer.layout, command.task_id)] == [1, 2, 3, 4, 5]


async def test_a_task_whose_storage_was_away_for_a_while_goes_on(tmp_path: Path) -> None:
    may_load = threading.Event()

    def load(source: ModelSource) -> Detector:
        may_load.wait(60)
        return load_detector(source)

    consumer = Consumer(tmp_path, model=scripted_model(tmp_path), load=load)
    command = finished_video(consumer)
    working = asyncio.create_task(consumer.take(command))
    lease = consumer.layout.lease(command.task_id)
    await until(lease.exists)
    with structlog.testing.capture_logs() as logs:
        consumer.layout.root.rename(away := tmp_path / "away")
        await until(lambda: working.done() or any(log["event"] == "lease not renewed" for log in logs))
        away.rename(consumer.layout.root)
    may_load.set()
    await working
    consumer.close()

    assert failure_code(only_end(consumer.broker)) is None


async def test_a_task_that_brings_nothing_three_times_is_poison(consumer: Consumer) -> None:
    command = finished_video(consumer)
    leases = Leases(consumer.layout, owner="crashes")
    for _ in range(3):
        leases.claim(command, is_handed_on=True)
    await consumer.take(command, is_redelivered=True)

    assert failure_code(only_end(consumer.broker)) is FailureCode.POISON
    assert consumer.broker.reports == []


async def test_a_connection_that_is_lost_while_tasks_are_claimed_is_no_poison(tmp_path: Path) -> None:
    """Whoever takes a message is cancelled with its connection."""
    has_claimed, may_go_on = threading.Event(), threading.Event()

    class SlowLeases(Leases):
        def claim(self, command: AnyCommand, *, is_handed_on: bool) -> Claim:
            claim = super().claim(command, is_handed_on=is_handed_on)
            has_claimed.set()
            may_go_on.wait(60)
            return claim

    consumer = Consumer(tmp_path, model=scripted_model(tmp_path), leases=SlowLeases)
    command = finished_video(consumer)
    for attempt in range(ATTEMPTS_MAX):
        working = asyncio.create_task(consumer.take(command, is_redelivered=attempt > 0))
        await until(has_claimed.is_set)
        working.cancel()
        await asyncio.sleep(0)
        may_go_on.set()
        await asyncio.wait((working,))
        has_claimed.clear()
        may_go_on.clear()
    lease = read_record(consumer.layout.lease(command.task_id), Lease)
    may_go_on.set()
    await consumer.take(command, is_redelivered=True)
    consumer.close()

    assert lease is not None
    assert lease.is_released
    assert failure_code(only_end(consumer.broker)) is None


async def test_pictures_that_come_again_are_looked_at_one_after_the_other(tmp_path: Path) -> None:
    """One of them may have killed a consumer: the next death tells which, and costs no other one an attempt."""
    claims: list[str] = []
    may_go_on = threading.Event()

    class SlowLeases(Leases):
        def claim(self, command: AnyCommand, *, is_handed_on: bool) -> Claim:
            claims.append(command.task_id)
            may_go_on.wait(60)
            return super().claim(command, is_handed_on=is_handed_on)

    consumer = Consumer(tmp_path, model=scripted_model(tmp_path), leases=SlowLeases)
    again = [picture(consumer, is_quiet=is_quiet) for is_quiet in (True, False)]
    async with asyncio.TaskGroup() as working:
        for command in again:
            working.create_task(consumer.take(command, is_redelivered=True))
        await until(lambda: bool(claims))
        await consumer.take(picture(consumer, is_quiet=True))  # the first time: it waits for nobody
        claimed_at_once = list(claims)
        may_go_on.set()
    consumer.close()

    assert claimed_at_once == [again[0].task_id]
    assert claims == [command.task_id for command in again]
    ends = [event for event in consumer.broker.events if isinstance(event, TaskEnded)]
    assert [failure_code(end) for end in ends] == [None] * 3


@pytest.mark.parametrize("is_quiet", [True, False])
async def test_a_picture_that_cost_three_consumers_their_life_is_poison(consumer: Consumer, is_quiet: bool) -> None:
    command = picture(consumer, is_quiet=is_quiet)
    deaths_written_down = ATTEMPTS_MAX - is_quiet  # of the first look at one that somebody waits for nothing is
    for epoch in range(1, deaths_written_down + 1):
        results = consumer.layout.results(command.task_id, epoch=epoch)
        results.parent.mkdir(parents=True, exist_ok=True)
        results.touch()
    await consumer.take(command, is_redelivered=True)

    assert failure_code(only_end(consumer.broker)) is FailureCode.POISON
    assert only_end(consumer.broker).is_quiet is is_quiet


async def test_a_task_whose_message_was_given_out_often_goes_on_with_a_fresh_one(consumer: Consumer) -> None:
    command = finished_video(consumer)
    await consumer.take(command, is_redelivered=True, is_worn=True)
    (handed_on,) = (message for message in consumer.broker.messages if message.exchange == topology.COMMANDS)
    assert (consumer.broker.ends, consumer.hung_up) == ([], 0)
    await consumer.take(handed_on.body)

    assert wire.decode_command(handed_on.body).continuation == 1
    assert failure_code(only_end(consumer.broker)) is None


async def test_a_task_that_kills_consumers_gets_no_fresh_message(consumer: Consumer) -> None:
    command = finished_video(consumer)
    Leases(consumer.layout, owner="crashes").claim(command, is_handed_on=True)
    await consumer.take(command, is_redelivered=True, is_worn=True)

    assert failure_code(only_end(consumer.broker)) is None, "it was worked on as it came"
    assert all(message.exchange != topology.COMMANDS for message in consumer.broker.messages)


async def test_a_broker_that_stays_away_gives_the_task_back(tmp_path: Path) -> None:
    consumer = Consumer(tmp_path, model=scripted_model(tmp_path), broker=FakeBroker(is_away=True))
    command = finished_video(consumer)
    with pytest.raises(Undelivered):
        await consumer.take(command)
    consumer.broker.is_away = False
    await consumer.take(command, is_redelivered=True)
    consumer.close()

    assert [report.sequence for report in consumer.broker.reports] == [1, 2, 3, 4, 5]
    assert only_end(consumer.broker).failure is None


async def test_an_end_is_counted_by_whoever_wrote_it_and_once_however_often_it_is_told(tmp_path: Path) -> None:
    consumer = Consumer(tmp_path, model=scripted_model(tmp_path), broker=FakeBroker(is_away=True))
    command = finished_video(consumer)
    consumer.layout.task(command.task_id).mkdir(parents=True)
    consumer.layout.cancel(command.task_id).touch()
    cancelled = {"kind": "video", "outcome": "cancelled"}
    before = metrics.REGISTRY.get_sample_value("detections_tasks_ended_total", cancelled) or 0
    with pytest.raises(Undelivered):
        await consumer.take(command)
    consumer.broker.is_away = False
    await consumer.take(command, is_redelivered=True)
    consumer.close()

    assert only_end(consumer.broker).is_cancelled
    assert metrics.REGISTRY.get_sample_value("detections_tasks_ended_total", cancelled) == before + 1


# Stopping


async def test_a_cancelled_task_ends_so_and_keeps_what_was_reported(consumer: Consumer) -> None:
    command, _ = uploaded_video(consumer)
    working = asyncio.create_task(consumer.take(command))
    await seen(consumer.broker, 3)
    consumer.detecting.cancel(command.task_id)
    await working

    end = only_end(consumer.broker)
    assert end.is_cancelled
    assert end.counts.sampled == end.counts.inferred + end.counts.failed
    assert len(list(reports(consumer.layout, command.task_id))) == end.sequence - 1


async def test_a_task_that_was_cancelled_before_it_began_ends_at_once(consumer: Consumer) -> None:
    command = finished_video(consumer)
    consumer.layout.task(command.task_id).mkdir(parents=True)
    consumer.layout.cancel(command.task_id).touch()
    await consumer.take(command)

    assert only_end(consumer.broker).is_cancelled
    assert consumer.broker.reports == []


@pytest.mark.parametrize("is_cancelled", [True, False], ids=["cancelled", "handed on"])
async def test_a_task_stops_while_its_model_is_still_being_loaded(tmp_path: Path, is_cancelled: bool) -> None:
    is_loading, may_go_on = threading.Event(), threading.Event()

    def load(source: ModelSource) -> Detector:
        is_loading.set()
        may_go_on.wait(60)
        return load_detector(source)

    consumer = Consumer(tmp_path, model=scripted_model(tmp_path), load=load)
    working = asyncio.create_task(consumer.take(command := finished_video(consumer)))
    await until(is_loading.is_set)
    if is_cancelled:
        consumer.detecting.cancel(command.task_id)
    else:
        consumer.detecting.stop()
    await asyncio.wait((working,), timeout=30)

    assert working.done(), "nobody waits for the model"
    assert [end.is_cancelled for end in consumer.broker.ends] == [True] * is_cancelled
    assert len(consumer.broker.of(topology.COMMANDS)) == (not is_cancelled)
    may_go_on.set()
    await consumer.room.workers()
    consumer.close()


async def test_cancelling_another_task_changes_nothing(consumer: Consumer) -> None:
    command = finished_video(consumer)
    working = asyncio.create_task(consumer.take(command))
    consumer.detecting.cancel(new_task_id())
    await working

    assert only_end(consumer.broker).failure is None


@pytest.mark.parametrize("is_quiet", [True, False])
async def test_a_large_picture_is_cancelled_between_two_tiles(tmp_path: Path, is_quiet: bool) -> None:
    consumer = Consumer(tmp_path, model=scripted_model(tmp_path, delay_s=0.1))
    working = asyncio.create_task(consumer.take(large := large_picture(consumer, is_quiet=is_quiet)))
    await tiles_waiting(consumer)
    consumer.detecting.cancel(large.task_id)
    async with asyncio.timeout(TILES * 0.1 / 2):
        await working

    assert only_end(consumer.broker).is_cancelled
    assert consumer.broker.reports == []
    consumer.close()


@pytest.mark.parametrize("is_quiet", [True, False])
async def test_a_picture_that_is_looked_at_keeps_its_consumer_busy(tmp_path: Path, is_quiet: bool) -> None:
    consumer = Consumer(tmp_path, model=scripted_model(tmp_path, delay_s=0.1))
    working = asyncio.create_task(consumer.take(large := large_picture(consumer, is_quiet=is_quiet)))
    await tiles_waiting(consumer)
    running = consumer.detecting.tasks_running
    consumer.detecting.cancel(large.task_id)
    await working

    assert (running, consumer.detecting.tasks_running) == (1, 0)
    consumer.close()


async def test_a_picture_whose_command_will_come_again_is_not_looked_at_to_its_end(tmp_path: Path) -> None:
    consumer = Consumer(tmp_path, model=scripted_model(tmp_path, delay_s=0.1))
    working = asyncio.create_task(consumer.take(large_picture(consumer, is_quiet=True)))
    await tiles_waiting(consumer)
    working.cancel()
    async with asyncio.timeout(TILES * 0.1 / 2):
        await asyncio.wait((working,))
        await until(lambda: not has_waiting_tiles(consumer))

    assert consumer.broker.events == []
    consumer.close()


async def test_a_stopping_consumer_hands_its_large_picture_on(tmp_path: Path) -> None:
    consumer = Consumer(tmp_path, model=scripted_model(tmp_path, delay_s=0.01))
    working = asyncio.create_task(consumer.take(large := large_picture(consumer, is_quiet=False)))
    await tiles_waiting(consumer)
    consumer.detecting.stop()
    await working

    (continuation,) = consumer.broker.of(topology.COMMANDS)
    assert wire.decode_command(continuation.body) == msgspec.structs.replace(large, continuation=1)
    assert consumer.broker.events == []
    consumer.close()


async def test_a_stopping_consumer_hands_its_video_on(consumer: Consumer) -> None:
    command, upload = uploaded_video(consumer)
    working = asyncio.create_task(consumer.take(command))
    await seen(consumer.broker, 3)
    consumer.detecting.stop()
    await working

    (continuation,) = consumer.broker.of(topology.COMMANDS)
    continued = wire.decode_command(continuation.body)
    assert continued == msgspec.structs.replace(command, continuation=1)
    assert consumer.hung_up == 1
    assert consumer.broker.ends == []
    lease = read_record(consumer.layout.lease(command.task_id), Lease)
    assert lease is not None
    assert lease.is_released

    upload.seal("hash")
    second = Consumer(consumer.folder, model=scripted_model(consumer.folder), name="b")
    await second.take(continued)
    second.close()
    assert [report.sequence for report in reports(consumer.layout, command.task_id)] == [1, 2, 3, 4, 5]
    assert only_end(second.broker).failure is None


async def test_a_stopping_consumer_hands_nothing_on_that_somebody_else_works_on(consumer: Consumer) -> None:
    task_id = new_task_id()
    Upload(consumer.layout, task_id)  # nothing to see has come yet
    medium = upload_medium(task_id, kind=MediumKind.VIDEO, name="clip.mp4", is_growing=True)
    working = asyncio.create_task(consumer.take(command := DetectVideo(task_id=task_id, medium=medium)))
    await until(lambda: latest_epoch(consumer.layout, task_id) == 1 and consumer.room.ready is not None)
    Leases(consumer.layout, owner="b").claim(command, is_handed_on=True)
    consumer.detecting.stop()
    await working

    assert consumer.broker.of(topology.COMMANDS) == []
    assert latest_epoch(consumer.layout, task_id) == 2


async def test_a_command_that_comes_while_stopping_is_handed_on_untouched(consumer: Consumer) -> None:
    consumer.detecting.stop()
    await consumer.take(finished_video(consumer))

    assert len(consumer.broker.of(topology.COMMANDS)) == 1
    assert consumer.broker.events == []


# A GPU that is lost


async def test_a_consumer_hears_that_its_gpu_is_lost_and_hands_the_video_on_as_an_attempt(tmp_path: Path) -> None:
    consumer = Consumer(tmp_path, model=scripted_model(tmp_path, lost_from=1))
    working = asyncio.create_task(consumer.take(command := finished_video(consumer)))
    reason = await consumer.room.lost()
    consumer.detecting.stop(StopReason.ENGINE_LOST)
    await working

    (continuation,) = consumer.broker.of(topology.COMMANDS)
    assert "inference 1 as scripted" in reason
    assert wire.decode_command(continuation.body) == msgspec.structs.replace(command, continuation=1)
    assert consumer.broker.events == []
    consumer.close()


async def test_a_video_that_loses_three_gpus_is_poison(tmp_path: Path) -> None:
    command, folder = None, tmp_path
    for turn in range(3):
        consumer = Consumer(folder, model=scripted_model(folder, lost_from=1), name=f"turn-{turn}")
        command = command or finished_video(consumer)
        working = asyncio.create_task(consumer.take(command))
        await consumer.room.lost()
        consumer.detecting.stop(StopReason.ENGINE_LOST)
        await working
        (continuation,) = consumer.broker.of(topology.COMMANDS)
        command = wire.decode_command(continuation.body)
        consumer.close()

    assert command is not None
    last = Consumer(folder, model=scripted_model(folder), name="last")
    await last.take(command)
    last.close()
    failure = only_end(last.broker).failure
    assert failure is not None
    assert failure.code is FailureCode.POISON


# The disk


async def test_a_full_disk_ends_the_task_by_name(tmp_path: Path, small_disk: Path) -> None:
    """On a real full disk: the end itself still has its room."""
    consumer = Consumer(tmp_path, model=scripted_model(tmp_path), storage=small_disk)
    command = finished_video(consumer, frames=100)
    fill(small_disk, leaving_bytes=32_768)
    await consumer.take(command)
    consumer.close()

    end = read_record(consumer.layout.end(command.task_id), TaskEnded)
    assert end is not None
    assert failure_code(end) is FailureCode.STORAGE_FULL
    assert only_end(consumer.broker) == end
    assert 0 < len(consumer.broker.reports) < 100
    assert list(reports(consumer.layout, command.task_id)) == consumer.broker.reports


async def test_a_task_ended_by_somebody_else_is_not_ended_twice(consumer: Consumer) -> None:
    command, upload = uploaded_video(consumer)
    working = asyncio.create_task(consumer.take(command))
    await seen(consumer.broker, 3)
    create_record(consumer.layout.end(command.task_id), TaskEnded(task_id=command.task_id, media_id="m", sequence=9))
    upload.seal("hash")
    await working

    assert consumer.broker.ends == []


@pytest.mark.parametrize("is_quiet", [True, False])
async def test_the_log_says_why_a_task_failed(consumer: Consumer, *, is_quiet: bool) -> None:
    command = picture(consumer, is_quiet=is_quiet)
    (consumer.folder / "a.png").unlink()

    with structlog.testing.capture_logs([structlog.contextvars.merge_contextvars]) as lines:
        await consumer.take(command)

    (line,) = [line for line in lines if line["event"] == "ended"]
    assert (line["task_id"], line["failure"]) == (command.task_id, "medium_missing")
    assert "a.png" in line["detail"]
