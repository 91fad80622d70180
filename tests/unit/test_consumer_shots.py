"""A command to find shots on its way through a consumer: alone, with objects, handed on, refused, and without its server."""

import asyncio
import io
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import av
import msgspec
import numpy as np
import pytest

from consumers import absence
from consumers.shot_room import LoadedShots, ShotRoom
from contracts.commands import DetectVideo, FindShots
from contracts.events import EngineStatus, FrameDetected
from contracts.failures import Failure, FailureCode
from contracts.media import Medium, MediumKind
from contracts.options import DetectionOptions
from contracts.results import reports
from contracts.shots import Shot
from contracts.storage import upload_medium
from engine.shot_windows import HEIGHT, WIDTH, WINDOW
from tests.broker.consumer_stage import Upload, new_task_id, scripted_model
from tests.cut_finder import CutFinder, write_scenes
from tests.media import RED, STATIC, Container, Square, write_audio_only, write_image
from tests.unit.consumer_alone import Consumer
from tests.unit.consumer_fakes import FakeBroker

CUTS = (60, 130, 175)
SHOTS = [(0, 59), (60, 129), (130, 174), (175, 239)]
AWAY = Failure(FailureCode.ENGINE_UNAVAILABLE, "the server is away")
WAIT_S = 60


@pytest.fixture
async def consumer(tmp_path: Path) -> AsyncIterator[Consumer]:
    made = Consumer(tmp_path, model=scripted_model(tmp_path))
    yield made
    made.close()


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A video of 240 frames and three cuts, which can be read as it comes."""
    folder = tmp_path_factory.mktemp("scenes")
    return write_scenes(folder / "a.mp4", *CUTS, frames=240, container=Container.MP4_FRAGMENTED).read_bytes()


def whole(consumer: Consumer, content: bytes) -> FindShots:
    (consumer.folder / "clip.mp4").write_bytes(content)
    medium = Medium(root="images", path="clip.mp4", kind=MediumKind.VIDEO, media_id="v")
    return FindShots(task_id=new_task_id(), medium=medium)


def growing(consumer: Consumer) -> tuple[FindShots, Upload]:
    task_id = new_task_id()
    upload = Upload(consumer.layout, task_id)
    medium = upload_medium(task_id, kind=MediumKind.VIDEO, name="clip.mp4", is_growing=True)
    return FindShots(task_id=task_id, medium=medium), upload


def found(told: list[FrameDetected]) -> list[Shot]:
    """The shots in the reports, each number once, in order."""
    by_number = {report.sequence: report.shots for report in told}
    return [shot for _, shots in sorted(by_number.items()) for shot in shots]


def frames(shots: list[Shot]) -> list[tuple[int, int]]:
    return [(shot.start_frame, shot.end_frame) for shot in shots]


async def told(broker: FakeBroker, count: int) -> None:
    async with asyncio.timeout(WAIT_S):
        while len(broker.reports) < count:
            await asyncio.sleep(0.001)


async def test_a_video_is_told_shot_by_shot_and_no_model_for_objects_is_loaded(
    consumer: Consumer, scenes: bytes
) -> None:
    command = whole(consumer, scenes)
    await consumer.take(command)

    shots = found(consumer.broker.reports)
    assert frames(shots) == SHOTS
    assert [shot.transition for shot in shots] == ["cut", "cut", "cut", None]
    assert (shots[0].start_time, shots[0].end_time, shots[1].start_time) == (
        "00:00:00.000",
        "00:00:02.400",
        "00:00:02.400",
    )
    (end,) = consumer.broker.ends
    assert (end.failure, end.percent, end.counts.shots, end.counts.decoded) == (None, 100, 4, 240)
    assert [report.sequence for report in consumer.broker.reports] == [1, 2, 3, 4]
    assert [report.annotations for report in consumer.broker.reports] == [[]] * 4
    assert found(list(reports(consumer.layout, command.task_id))) == shots
    assert (consumer.room.state.status, consumer.shot_room.state.status) == (EngineStatus.NONE, EngineStatus.ENABLED)


async def test_shots_are_told_while_the_video_still_arrives(consumer: Consumer, scenes: bytes) -> None:
    command, upload = growing(consumer)
    upload.write(scenes[: len(scenes) * 3 // 4])
    taking = asyncio.create_task(consumer.take(command))
    await told(consumer.broker, 1)
    assert frames(found(consumer.broker.reports))[:1] == SHOTS[:1]
    assert consumer.broker.ends == []

    upload.write(scenes[len(scenes) * 3 // 4 :])
    upload.seal("abc")
    await taking
    assert frames(found(consumer.broker.reports)) == SHOTS
    assert consumer.broker.ends[0].media_id == "abc"


async def test_a_boundary_is_told_when_the_bytes_of_the_window_that_decides_it_are_there_and_no_more(
    consumer: Consumer, scenes: bytes
) -> None:
    with av.open(io.BytesIO(scenes)) as container:
        ends = [packet.pos + packet.size for packet in container.demux(video=0) if packet.pos is not None]
    last_of_window = 50 + 50 + 25 - 1  # of the one that is asked about the frames 50..99
    command, upload = growing(consumer)
    upload.write(scenes[: ends[last_of_window]])
    taking = asyncio.create_task(consumer.take(command))
    await told(consumer.broker, 1)
    shots = frames(found(consumer.broker.reports))
    upload.abort()
    await taking

    assert shots == SHOTS[:1]


async def test_the_options_of_the_command_count(consumer: Consumer, scenes: bytes) -> None:
    options = DetectionOptions(min_shot_frames=50)
    await consumer.take(msgspec.structs.replace(whole(consumer, scenes), options=options))

    assert frames(found(consumer.broker.reports)) == [(0, 59), (60, 129), (130, 239)]


async def test_objects_and_shots_of_a_video_are_told_in_one_sequence(consumer: Consumer, tmp_path: Path) -> None:
    red = Square(rgb=RED, x=16, y=16, side=32)
    write_scenes(tmp_path / "both.mp4", 60, frames=150, over=(red,))
    command = DetectVideo(
        task_id=new_task_id(),
        medium=Medium(root="images", path="both.mp4", kind=MediumKind.VIDEO, media_id="v"),
        options=DetectionOptions(shots=True, frame_recognition_seconds=3600, frame_period_recognition=1),
    )
    await consumer.take(command)

    (end,) = consumer.broker.ends
    assert end.failure is None
    assert frames(found(consumer.broker.reports)) == [(0, 59), (60, 149)]
    seen = [report.frame_index for report in consumer.broker.reports if report.annotations]
    assert seen == [0, 60], "the first sight of each shot"
    numbers = [report.sequence for report in consumer.broker.reports]
    assert numbers == list(range(1, len(numbers) + 1))


async def test_a_taker_goes_on_where_the_one_before_stood(tmp_path: Path, scenes: bytes) -> None:
    broker = FakeBroker()
    first, second = (
        Consumer(tmp_path, model=scripted_model(tmp_path), name=name, broker=broker) for name in ("a", "b")
    )
    command, upload = growing(first)
    upload.write(scenes[: len(scenes) * 3 // 4])
    taking = asyncio.create_task(first.take(command))
    await told(broker, 1)
    first.detecting.stop()
    await taking
    handed_on = broker.of("detections.commands")
    assert [message.routing_key for message in handed_on] == ["shots"]

    upload.write(scenes[len(scenes) * 3 // 4 :])
    upload.seal("abc")
    await second.take(handed_on[0].body)
    first.close()
    second.close()

    assert frames(found(broker.reports)) == SHOTS
    (end,) = broker.ends
    assert (end.epoch, end.counts.shots, end.counts.decoded, end.failure) == (2, 4, 240, None)
    assert len(second.cuts.windows) < 5, "what had been judged is not judged again"


async def test_a_cancelled_search_ends_as_cancelled_and_keeps_what_it_found(consumer: Consumer, scenes: bytes) -> None:
    command, upload = growing(consumer)
    upload.write(scenes[: len(scenes) * 3 // 4])
    taking = asyncio.create_task(consumer.take(command))
    await told(consumer.broker, 1)
    consumer.detecting.cancel(command.task_id)
    await taking

    (end,) = consumer.broker.ends
    assert end.is_cancelled
    assert frames(found(list(reports(consumer.layout, command.task_id))))[:1] == SHOTS[:1]


async def test_an_upload_that_is_given_up_keeps_what_was_certain(consumer: Consumer, scenes: bytes) -> None:
    command, upload = growing(consumer)
    upload.write(scenes[: len(scenes) * 3 // 4])
    taking = asyncio.create_task(consumer.take(command))
    await told(consumer.broker, 1)
    upload.abort()
    await taking

    (end,) = consumer.broker.ends
    assert end.failure is not None
    assert end.failure.code is FailureCode.UPLOAD_ABORTED


@pytest.mark.parametrize(("count", "expected"), [(1, [(0, 0)]), (30, [(0, 29)]), (99, [(0, 59), (60, 98)])])
async def test_fewer_frames_than_a_window_have_shots_too(
    consumer: Consumer, tmp_path: Path, count: int, expected: list[tuple[int, int]]
) -> None:
    write_scenes(tmp_path / "short.mp4", *(cut for cut in CUTS if cut < count), frames=count)
    await consumer.take(whole(consumer, (tmp_path / "short.mp4").read_bytes()))

    assert frames(found(consumer.broker.reports)) == expected
    assert consumer.broker.ends[0].failure is None


async def test_a_video_that_is_cut_off_is_partial(consumer: Consumer, tmp_path: Path) -> None:
    content = write_scenes(tmp_path / "cut.mp4", *CUTS, frames=240, noise=20).read_bytes()
    await consumer.take(whole(consumer, content[: len(content) * 3 // 4]))

    (end,) = consumer.broker.ends
    assert (end.failure, end.is_partial) == (None, True)
    assert frames(found(consumer.broker.reports))[:2] == SHOTS[:2]


async def test_what_is_no_video_is_refused_by_its_code(consumer: Consumer, tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", squares=STATIC)
    write_audio_only(tmp_path / "sound.mp4")
    codes: list[FailureCode | None] = []
    for content in ((tmp_path / "a.png").read_bytes(), (tmp_path / "sound.mp4").read_bytes(), b"no video", b""):
        await consumer.take(whole(consumer, content))
        failure = consumer.broker.ends[-1].failure
        codes.append(failure and failure.code)

    assert codes == [
        FailureCode.UNSUPPORTED_MEDIA,
        FailureCode.NO_VIDEO_STREAM,
        FailureCode.UNSUPPORTED_MEDIA,
        FailureCode.EMPTY_MEDIA,
    ]


async def test_a_model_that_cannot_be_loaded_ends_the_task_and_is_tried_again_by_the_next(
    consumer: Consumer, scenes: bytes
) -> None:
    consumer.shot_failure = Failure(FailureCode.MODEL_CORRUPT, "not a model")
    await consumer.take(whole(consumer, scenes))
    failed, state = consumer.broker.ends[-1].failure, consumer.shot_room.state
    consumer.shot_failure = None
    await consumer.take(whole(consumer, scenes))

    assert failed is not None
    assert failed.code is FailureCode.MODEL_CORRUPT
    assert (state.status, "not a model" in (state.reason or "")) == (EngineStatus.ERROR, True)
    assert consumer.broker.ends[-1].failure is None
    assert consumer.shot_room.state.status is EngineStatus.ENABLED
    assert consumer.shot_loads == 2


@pytest.fixture
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(absence, "RETRY_PERIOD_S", 0.05)


@pytest.mark.usefixtures("_short_pauses")
async def test_a_server_that_goes_away_in_the_middle_costs_a_pause(tmp_path: Path, scenes: bytes) -> None:
    finder = CutFinder(fails_at=frozenset((2,)))
    finder.failure = AWAY
    consumer = Consumer(tmp_path, model=scripted_model(tmp_path), cuts=finder)
    await consumer.take(whole(consumer, scenes))
    consumer.close()

    (end,) = consumer.broker.ends
    assert (end.failure, end.epoch) == (None, 1)
    assert frames(found(consumer.broker.reports)) == SHOTS
    assert consumer.shot_loads == 2, "it is looked at afresh"
    assert finder.is_closed


@pytest.mark.usefixtures("_short_pauses")
async def test_a_server_that_stays_away_fails_the_task(
    consumer: Consumer, scenes: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(absence, "AWAY_MAX_S", 0.2)
    consumer.shot_failure = AWAY
    await consumer.take(whole(consumer, scenes))

    (end,) = consumer.broker.ends
    assert end.failure is not None
    assert end.failure.code is FailureCode.ENGINE_UNAVAILABLE
    assert consumer.shot_loads > 1, "it was waited for"
    assert consumer.shot_room.state.status is EngineStatus.ERROR


async def test_workers_that_were_lost_are_closed_behind_their_last_user_and_used_by_nobody_new() -> None:
    finders: list[CutFinder] = []

    def load() -> LoadedShots:
        finders.append(CutFinder(fails_at=frozenset((0,))))
        finders[-1].failure = AWAY
        return LoadedShots(name="cuts", engine_type="scripted", finder=finders[-1])

    room = ShotRoom(load, cores=1)
    workers = await room.workers()
    with room.used(workers):
        with pytest.raises(Failure), room.used(workers):
            workers.submit(np.zeros((WINDOW, HEIGHT, WIDTH, 3), np.uint8)).result(WAIT_S)
        assert not finders[0].is_closed
        assert (room.state.status, room.model) == (EngineStatus.ERROR, None)
    assert finders[0].is_closed
    with pytest.raises(Failure) as refused, room.used(workers):
        pass
    assert refused.value.code is FailureCode.ENGINE_UNAVAILABLE

    following = await room.workers()
    assert following is not workers
    with pytest.raises(Failure), room.used(following):
        raise Failure(FailureCode.INFERENCE_FAILED, "a fault of the video")
    assert await room.workers() is following
    with pytest.raises(Failure), room.used(following):
        raise Failure(FailureCode.ENGINE_UNAVAILABLE, "that for objects")
    assert (await room.workers(), room.state.status) == (following, EngineStatus.ENABLED)
    room.close()


@pytest.mark.usefixtures("_short_pauses")
async def test_a_server_for_objects_that_goes_away_leaves_the_model_for_shots_alone(tmp_path: Path) -> None:
    write_scenes(tmp_path / "both.mp4", 60, frames=150)
    medium = Medium(root="images", path="both.mp4", kind=MediumKind.VIDEO, media_id="v")
    options = DetectionOptions(shots=True, frame_period_recognition=1)
    consumer = Consumer(tmp_path, model=scripted_model(tmp_path, away=[5, 8]))
    await consumer.take(DetectVideo(task_id=new_task_id(), medium=medium, options=options))
    status = consumer.shot_room.state.status
    consumer.close()

    (end,) = consumer.broker.ends
    assert (end.failure, end.counts.inferred, end.counts.failed, end.counts.shots) == (None, 150, 0, 2)
    assert (status, consumer.shot_loads) == (EngineStatus.ENABLED, 1)


async def test_a_model_whose_load_ends_after_the_room_was_closed_is_freed_and_does_not_serve() -> None:
    finder, may_go_on = CutFinder(), threading.Event()

    def load() -> LoadedShots:
        may_go_on.wait(10)
        return LoadedShots(name="cuts", engine_type="scripted", finder=finder)

    room = ShotRoom(load, cores=1)
    waiting = asyncio.create_task(room.workers())
    await asyncio.sleep(0)
    room.close()
    may_go_on.set()
    with pytest.raises(Failure) as refused:
        await waiting
    assert refused.value.code is FailureCode.ENGINE_UNAVAILABLE
    assert finder.is_closed
    assert room.model is None


async def test_a_machine_without_room_for_another_thread_is_a_failure_and_the_next_one_tries_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Refused(threading.Thread):
        def start(self) -> None:
            raise RuntimeError("can't start new thread")

    finder = CutFinder()
    room = ShotRoom(lambda: LoadedShots(name="cuts", engine_type="scripted", finder=finder), cores=1)
    await asyncio.to_thread(int)  # the loop's own thread is there
    with monkeypatch.context() as full:
        full.setattr("engine.shot_workers.threading.Thread", Refused)
        with pytest.raises(Failure, match="can't start new thread"):
            await room.workers()
    assert room.state.status is EngineStatus.ERROR

    assert await room.workers() is not None
    room.close()
