"""A video's way through real consumer processes and a real broker, also when they are killed on the way."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from consumers.leases import HEARTBEAT_PERIOD_S, STALE_AFTER_S
from contracts import topology
from contracts.commands import DetectVideo
from contracts.detections import Counts
from contracts.events import FrameDetected, TaskEnded
from contracts.media import Medium, MediumKind
from contracts.options import DetectionOptions
from contracts.results import reports
from contracts.storage import read_record, upload_medium
from detections.rabbitmq import PrivateRabbit
from tests.broker.consumer_stage import ConsumerProcess, Stage, new_task_id, scripted_model, stage, until
from tests.media import STATIC, Container, write_video

pytestmark = pytest.mark.broker


def red_clip(folder: Path) -> bytes:
    """A clip with a red square: every frame is reported, since no time has to pass between reports. With its noise, half
    of it is more than the 64 KiB that FFmpeg looks at before the first frame."""
    clip = write_video(folder / "clip", frames=40, squares=STATIC, container=Container.MP4_FRAGMENTED, noise=20)
    return clip.read_bytes()


EVERY_FRAME = DetectionOptions(frame_period_recognition=1, frame_recognition_seconds=0)


def growing(task_id: str) -> DetectVideo:
    medium = upload_medium(task_id, kind=MediumKind.VIDEO, name="a.mp4", is_growing=True)
    return DetectVideo(task_id=task_id, medium=medium, options=EVERY_FRAME)


async def test_a_video_is_reported_while_it_is_still_being_uploaded(rabbit: PrivateRabbit, tmp_path: Path) -> None:
    async with stage(rabbit.url, tmp_path) as on:
        await on.consumer(model=scripted_model(tmp_path)).until_ready()
        task_id, rest = await half_seen(on)
        rest()
        end = await on.end_of(task_id)

    assert end.failure is None
    assert [report.sequence for report in on.reports(task_id)] == list(range(1, 41))
    assert [report.frame_index for report in on.reports(task_id)] == list(range(40))
    assert (end.sequence, end.media_id, end.failure, end.percent) == (41, "abc", None, 100)
    assert end.counts == Counts(decoded=40, sampled=40, inferred=40, reported=40)
    assert read_record(on.layout.end(task_id), TaskEnded) == end


def whole(folder: Path, name: str, *, frames: int) -> DetectVideo:
    """A command for a video that lies whole in the media root `videos`."""
    write_video(folder / name, frames=frames, squares=STATIC)
    medium = Medium(root="videos", path=name, kind=MediumKind.VIDEO, media_id="v")
    return DetectVideo(task_id=new_task_id(), medium=medium, options=EVERY_FRAME)


def close_connections(rabbit: PrivateRabbit, *, of: str) -> None:
    """Close what an operator sees under a name; consumers have names that a person can read."""
    listed = rabbit.ctl("list_connections", "vhost", "pid", "client_properties", "--quiet").splitlines()
    pids = [line.split()[1] for line in listed if line.split()[0] == "/" and of in line]
    assert len(pids) == 2, listed
    for pid in pids:
        rabbit.ctl("close_connection", pid, "test")


def each_once(seen: list[FrameDetected]) -> list[FrameDetected]:
    """What a reader keeps who has seen a number already, or a later one."""
    kept: list[FrameDetected] = []
    for report in seen:
        if not kept or report.sequence > kept[-1].sequence:
            kept.append(report)
    return kept


async def test_a_killed_consumer_is_replaced_and_no_report_is_lost_or_numbered_twice(
    rabbit: PrivateRabbit, tmp_path: Path
) -> None:
    async with stage(rabbit.url, tmp_path) as on:
        task_id, rest, holder = await half_seen_by_one_of_two(on)
        killed_at_s = time.monotonic()
        holder.kill()
        rest()
        await until(lambda: len({report.epoch for report in on.reports(task_id)}) == 2)
        silence_s = time.monotonic() - killed_at_s
        end = await on.end_of(task_id)

    kept = each_once(on.reports(task_id))
    assert [report.sequence for report in kept] == list(range(1, 41))
    assert [report.frame_index for report in kept] == list(range(40))
    assert silence_s < STALE_AFTER_S - HEARTBEAT_PERIOD_S, "nobody waited for the lease to grow old"
    assert (end.sequence, end.failure, end.epoch) == (41, None, 2)
    assert end.counts == Counts(decoded=40, sampled=40, inferred=40, reported=40)
    assert [report.sequence for report in reports(on.layout, task_id)] == list(range(1, 41))


async def half_seen_by_one_of_two(on: Stage) -> tuple[str, Callable[[], None], ConsumerProcess]:
    """A task whose first frames are reported, what sends the rest of its video, and the one of two consumers that has it."""
    consumers = [on.consumer(model=scripted_model(on.folder)) for _ in range(2)]
    await asyncio.gather(*(consumer.until_ready() for consumer in consumers))
    task_id, rest = await half_seen(on)
    (holder,) = (consumer for consumer in consumers if consumer.process.pid == on.holder_of(task_id))
    return task_id, rest, holder


async def half_seen(on: Stage) -> tuple[str, Callable[[], None]]:
    """A task whose first frames are reported, and what sends the rest of its video."""
    clip, task_id = red_clip(on.folder), new_task_id()
    upload = on.upload(task_id)
    upload.write(clip[: len(clip) // 2])
    await on.command(growing(task_id))
    await until(lambda: len(on.reports(task_id)) >= 3)

    def send_the_rest() -> None:
        upload.write(clip[len(clip) // 2 :])
        upload.seal("abc")

    return task_id, send_the_rest


async def test_a_terminated_consumer_hands_its_video_on(rabbit: PrivateRabbit, tmp_path: Path) -> None:
    async with stage(rabbit.url, tmp_path) as on:
        task_id, rest, holder = await half_seen_by_one_of_two(on)
        code = await holder.terminate()
        rest()
        end = await on.end_of(task_id)

    assert code == 0, holder.output
    assert '"handed on"' in holder.output
    assert [report.sequence for report in each_once(on.reports(task_id))] == list(range(1, 41))
    assert (end.sequence, end.failure, end.epoch) == (41, None, 2)


async def test_a_consumer_whose_gpu_is_lost_hands_its_video_on_and_ends(rabbit: PrivateRabbit, tmp_path: Path) -> None:
    async with stage(rabbit.url, tmp_path) as on:
        first = on.consumer(model=scripted_model(tmp_path, lost_from=8))
        await first.until_ready()
        task_id, rest = await half_seen(on)
        rest()
        await until(lambda: first.process.poll() is not None)
        await on.consumer(model=scripted_model(tmp_path)).until_ready()  # a process that has a GPU again
        end = await on.end_of(task_id)

    assert first.process.poll() == 1, first.output
    assert '"ends, for another process to go on"' in first.output
    assert [report.sequence for report in each_once(on.reports(task_id))] == list(range(1, 41))
    assert (end.failure, end.epoch, end.counts.failed) == (None, 2, 0)


async def test_a_video_without_another_consumer_waits_for_the_next_one(rabbit: PrivateRabbit, tmp_path: Path) -> None:
    async with stage(rabbit.url, tmp_path) as on:
        first = on.consumer(model=scripted_model(tmp_path))
        await first.until_ready()
        task_id, rest = await half_seen(on)
        assert await first.terminate() == 0
        rest()
        assert await on.ready_messages(topology.VIDEO_COMMANDS) == 1
        await on.consumer(model=scripted_model(tmp_path)).until_ready()
        end = await on.end_of(task_id)

    assert [report.sequence for report in each_once(on.reports(task_id))] == list(range(1, 41))
    assert end.failure is None


async def test_a_lost_connection_costs_no_report(rabbit: PrivateRabbit, tmp_path: Path) -> None:
    """The handler is cancelled while its thread goes on; the same process takes its own task over."""
    async with stage(rabbit.url, tmp_path) as on:
        await on.consumer(model=scripted_model(tmp_path)).until_ready()
        task_id, rest = await half_seen(on)
        await asyncio.to_thread(close_connections, rabbit, of="consumer ")
        rest()
        end = await on.end_of(task_id)

    assert [report.sequence for report in each_once(on.reports(task_id))] == list(range(1, 41))
    assert end.epoch > 1, "the connection was lost in the middle"
    assert (end.failure, end.counts.inferred) == (None, 40)
    assert [report.sequence for report in reports(on.layout, task_id)] == list(range(1, 41))


async def test_a_cancelled_video_ends_so_at_once(rabbit: PrivateRabbit, tmp_path: Path) -> None:
    async with stage(rabbit.url, tmp_path) as on:
        await on.consumer(model=scripted_model(tmp_path)).until_ready()
        task_id = new_task_id()
        upload = on.upload(task_id)
        upload.write(red_clip(tmp_path))
        await on.command(growing(task_id))
        await until(lambda: len(on.reports(task_id)) >= 30)
        await on.cancel(task_id)
        end = await on.end_of(task_id)  # by the message alone: nothing on disk says it, and the upload goes on

    assert end.is_cancelled
    assert len(list(reports(on.layout, task_id))) == end.sequence - 1


async def test_the_same_command_twenty_times_is_one_task(rabbit: PrivateRabbit, tmp_path: Path) -> None:
    command = whole(tmp_path, "a.mp4", frames=20)
    after = whole(tmp_path, "b.mp4", frames=1)
    async with stage(rabbit.url, tmp_path) as on:
        for _ in range(20):
            await on.command(command)
        await on.command(after)
        for _ in range(2):
            on.consumer(model=scripted_model(tmp_path, delay_s=0.02), VIDEOS_DIR=str(tmp_path))
        await on.end_of(command.task_id)
        await on.end_of(after.task_id)

    assert [report.sequence for report in on.reports(command.task_id)] == list(range(1, 21))
    assert len(on.ends(command.task_id)) == 1


async def test_many_videos_share_one_consumer(rabbit: PrivateRabbit, tmp_path: Path) -> None:
    commands = [whole(tmp_path, f"{number}.mp4", frames=10) for number in range(12)]
    async with stage(rabbit.url, tmp_path) as on:
        await on.consumer(model=scripted_model(tmp_path), VIDEOS_DIR=str(tmp_path)).until_ready()
        for command in commands:
            await on.command(command)
        for command in commands:
            await on.end_of(command.task_id)

    assert [[report.sequence for report in on.reports(command.task_id)] for command in commands] == [
        list(range(1, 11))
    ] * 12


@pytest.mark.real_media
async def test_a_real_clip_and_a_real_model_go_the_same_way(
    rabbit: PrivateRabbit, tmp_path: Path, shared_data: Path
) -> None:
    content = (shared_data / "videos" / "clips" / "car-detection.mp4").read_bytes()
    async with stage(rabbit.url, tmp_path) as on:
        await on.consumer(model=shared_data / "models" / "yolox_nano_dynbatch.onnx").until_ready()
        task_id = new_task_id()
        upload = on.upload(task_id)
        upload.write(content[: len(content) // 2])
        command = msgspec.structs.replace(growing(task_id), options=DetectionOptions(frame_period_recognition=25))
        await on.command(command)
        await until(lambda: bool(on.reports(task_id)))
        upload.write(content[len(content) // 2 :])
        upload.seal("abc")
        end = await on.end_of(task_id)

    labels = {detection.label for report in on.reports(task_id) for detection in report.annotations}
    assert "car" in labels
    assert end.failure is None
    assert end.counts.sampled == end.counts.inferred > 3
