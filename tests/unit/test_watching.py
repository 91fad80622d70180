"""A whole video from its bytes to its reports."""

import itertools
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from contracts.failures import FailureCode
from contracts.options import DetectionOptions
from contracts.results import Checkpoint
from engine.batching import Workers
from engine.decode_thread import Terms
from engine.growing_file import MediumFile
from engine.loading import load_detector
from engine.postprocess import Boxes
from engine.preprocess import View
from engine.video import VideoLimits
from engine.watching import Finished, FrameReport, Progressed, Seen, watch_video
from tests.finders import RedFinder
from tests.media import (
    MOVING,
    STATIC,
    Container,
    Square,
    write_audio_only,
    write_no_frames,
    write_resolution_change,
    write_video,
)
from tests.tiny_models import write_script
from tests.uploads import Upload, VirtualTime

EVERY = DetectionOptions(frame_period_recognition=1, frame_recognition_seconds=0)
WAIT_S = 20


@pytest.fixture
def finder() -> RedFinder:
    return RedFinder()


@pytest.fixture
def workers(finder: RedFinder) -> Iterator[Workers]:
    workers = Workers(finder, count=2)
    yield workers
    workers.close()


@pytest.fixture(autouse=True)
def no_thread_is_left_behind() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert {thread.name for thread in set(threading.enumerate()) - before} == set()


def _watch(
    medium: MediumFile | Path,
    workers: Workers,
    options: DetectionOptions = EVERY,
    *,
    resume: Checkpoint | None = None,
    limits: VideoLimits | None = None,
    time: VirtualTime | None = None,
) -> list[Seen]:
    if isinstance(medium, Path):
        medium = MediumFile(path=medium)
    terms = Terms(limits=limits or VideoLimits(), passing=(time or VirtualTime()).passing())
    stop = threading.Event()
    return list(watch_video(medium, workers=workers, options=options, stop=stop, resume=resume, terms=terms))


def _reports(seen: list[Seen]) -> list[FrameReport]:
    return [each for each in seen if isinstance(each, FrameReport)]


def _finished(seen: list[Seen]) -> Finished:
    assert sum(isinstance(each, Finished) for each in seen) == 1
    assert isinstance(seen[-1], Finished)
    counts = seen[-1].counts
    assert counts.decoded >= counts.sampled == counts.inferred + counts.failed
    assert counts.reported <= counts.inferred
    return seen[-1]


def _failed(seen: list[Seen]) -> FailureCode:
    failure = _finished(seen).failure
    assert failure is not None
    return failure.code


def test_every_frame_with_detections_is_reported_in_order(workers: Workers, tmp_path: Path) -> None:
    seen = _watch(write_video(tmp_path / "clip", frames=20), workers)
    assert [each.frame_index for each in _reports(seen)] == list(range(20))
    assert [each.sequence for each in _reports(seen)] == list(range(1, 21))
    assert [each.at_s for each in _reports(seen)] == pytest.approx([index / 25 for index in range(20)])
    end = _finished(seen)
    assert end.failure is None
    assert end.percent == 100
    assert not end.is_partial
    assert (end.counts.decoded, end.counts.sampled, end.counts.inferred, end.counts.reported) == (20, 20, 20, 20)


def test_detections_are_where_the_square_is(workers: Workers, tmp_path: Path) -> None:
    square = Square(x=20, y=10, side=40, dx=2)
    seen = _watch(write_video(tmp_path / "clip", frames=20, size=(200, 100), squares=(square,)), workers)
    (found,) = _reports(seen)[10].detections
    assert found.center_x == pytest.approx(60 / 200, abs=0.02)
    assert found.center_y == pytest.approx(30 / 100, abs=0.02)
    assert found.width == pytest.approx(40 / 200, abs=0.02)


def test_300_frames_with_period_4_are_75_inferred(workers: Workers, finder: RedFinder, tmp_path: Path) -> None:
    seen = _watch(write_video(tmp_path / "clip", frames=300), workers, DetectionOptions())
    counts = _finished(seen).counts
    assert (counts.decoded, counts.sampled, counts.inferred) == (300, 75, 75)
    assert finder.calls == 75


def test_a_checkpoint_follows_each_report(workers: Workers, tmp_path: Path) -> None:
    seen = [
        each for each in _watch(write_video(tmp_path / "clip", frames=8), workers) if not isinstance(each, Progressed)
    ]
    for reported, checkpoint in zip(seen[:-1:2], seen[1:-1:2], strict=True):
        assert isinstance(reported, FrameReport)
        assert isinstance(checkpoint, Checkpoint)
        assert checkpoint.frame_index == reported.frame_index
        assert checkpoint.sequence == reported.sequence
        assert checkpoint.counts.decoded == reported.frame_index + 1
        assert checkpoint.last_report is not None
        assert checkpoint.last_report.annotations == reported.detections


@pytest.mark.parametrize("period", [4, 1000])
def test_a_checkpoint_comes_every_five_seconds_of_media(workers: Workers, tmp_path: Path, period: int) -> None:
    clip = write_video(tmp_path / "clip", frames=160, fps=10, squares=())
    seen = _watch(clip, workers, DetectionOptions(frame_period_recognition=period))
    checkpoints = [each for each in seen if isinstance(each, Checkpoint)]
    times = [0, *(each.at_s for each in checkpoints)]
    assert [later - earlier for earlier, later in itertools.pairwise(times)] == pytest.approx([5, 5, 5], abs=0.4)
    assert all(each.counts.decoded == each.frame_index + 1 for each in checkpoints)


@pytest.mark.parametrize("done", [0, 3, 11, 19])
def test_resuming_anywhere_reports_the_rest_and_the_counts_add_up(
    workers: Workers, finder: RedFinder, tmp_path: Path, done: int
) -> None:
    clip = write_video(tmp_path / "clip", frames=20)
    whole = _watch(clip, workers)
    checkpoint = next(each for each in whole if isinstance(each, Checkpoint) and each.frame_index == done)
    calls = finder.calls
    rest = _watch(clip, workers, resume=checkpoint)
    assert _reports(rest) == _reports(whole)[done + 1 :]
    assert _finished(rest) == _finished(whole)
    assert finder.calls - calls == 20 - done - 1


def test_resuming_remembers_what_was_reported_last(workers: Workers, tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip", frames=100, squares=MOVING)
    options = DetectionOptions(frame_period_recognition=1, frame_recognition_seconds=2)
    whole = _watch(clip, workers, options)
    assert [each.frame_index for each in _reports(whole)] == [0, 50]
    first = next(each for each in whole if isinstance(each, Checkpoint))
    assert [each.frame_index for each in _reports(_watch(clip, workers, options, resume=first))] == [50]


def test_a_report_comes_while_the_decoder_waits_for_bytes(workers: Workers, tmp_path: Path) -> None:
    content = write_video(tmp_path / "clip", frames=60, size=(320, 256), noise=25).read_bytes()
    upload = Upload(tmp_path, content, chunks=(4096,))
    upload.send_until(len(content) // 2)
    may_go_on = threading.Event()

    def wait_for_the_report() -> None:
        assert may_go_on.wait(WAIT_S)
        upload.step()

    time = VirtualTime(wait_for_the_report)
    watching = watch_video(
        upload.medium, workers=workers, options=EVERY, stop=threading.Event(), terms=Terms(passing=time.passing())
    )
    reports = 0
    for each in watching:
        reports += isinstance(each, FrameReport)
        if reports > 5:
            assert not may_go_on.is_set() or upload.sent_bytes > len(content) // 2
            may_go_on.set()
    assert reports == 60


def test_percent_never_falls_and_is_100_only_at_the_end(workers: Workers, tmp_path: Path) -> None:
    content = write_video(tmp_path / "clip", frames=60, noise=10).read_bytes()
    upload = Upload(tmp_path, content, chunks=(997,))
    seen = _watch(upload.medium, workers, time=VirtualTime(upload.step))
    percents = [each.percent for each in seen]
    assert percents == sorted(percents)
    assert percents[-1] == 100
    assert percents[-2] <= 99
    assert len(set(percents)) > 20


def test_percent_is_0_while_the_length_is_unknown(workers: Workers, tmp_path: Path) -> None:
    content = write_video(tmp_path / "clip", frames=30, container=Container.MKV, noise=10).read_bytes()
    upload = Upload(tmp_path, content, chunks=(997,), is_total_known=False)
    reports = _reports(_watch(upload.medium, workers, time=VirtualTime(upload.step)))
    assert reports[10].percent == 0


def test_a_growing_file_with_its_index_last_says_that_it_waits_for_it(workers: Workers, tmp_path: Path) -> None:
    content = write_video(tmp_path / "clip", frames=30, container=Container.MP4_END).read_bytes()
    upload = Upload(tmp_path, content, chunks=(500,))
    told = threading.Event()
    time = VirtualTime(lambda: None)

    def step_when_told() -> None:
        if upload.sent_bytes < 2000 or told.wait(WAIT_S):
            upload.step()

    time.on_sleep = step_when_told
    watching = watch_video(
        upload.medium, workers=workers, options=EVERY, stop=threading.Event(), terms=Terms(passing=time.passing())
    )
    waits: list[str | None] = []
    for each in watching:
        if isinstance(each, Progressed):
            waits.append(each.waiting_for)
            told.set()
    assert waits[0] == "moov"
    assert waits[-1] is None


def test_a_file_with_its_index_first_waits_for_no_index(workers: Workers, tmp_path: Path) -> None:
    content = write_video(tmp_path / "clip", frames=30).read_bytes()
    upload = Upload(tmp_path, content, chunks=(500,))
    seen = _watch(upload.medium, workers, time=VirtualTime(upload.step))
    assert {each.waiting_for for each in seen if isinstance(each, Progressed)} <= {None}


def test_an_aborted_upload_keeps_its_reports_and_fails(workers: Workers, tmp_path: Path) -> None:
    content = write_video(tmp_path / "clip", frames=60, noise=10).read_bytes()
    upload = Upload(tmp_path, content, chunks=(997,))

    def send_half_then_abort() -> None:
        upload.step() if upload.sent_bytes < len(content) // 2 else upload.abort()

    seen = _watch(upload.medium, workers, time=VirtualTime(send_half_then_abort))
    assert _failed(seen) is FailureCode.UPLOAD_ABORTED
    assert 10 < len(_reports(seen)) < 50
    assert _finished(seen).percent < 60


def test_an_abandoned_upload_fails(workers: Workers, tmp_path: Path) -> None:
    content = write_video(tmp_path / "clip", frames=60, noise=10).read_bytes()
    upload = Upload(tmp_path, content)
    upload.send_until(len(content) // 2)
    seen = _watch(upload.medium, workers)
    assert _failed(seen) is FailureCode.UPLOAD_ABANDONED
    assert _reports(seen)


@pytest.mark.parametrize("is_sealed", [True, False])
def test_the_end_waits_for_the_seal(workers: Workers, tmp_path: Path, is_sealed: bool) -> None:
    content = write_video(tmp_path / "clip", frames=20).read_bytes()
    upload = Upload(tmp_path, content)
    upload.send_until(len(content))
    time = VirtualTime(lambda: None)
    started_s = time.now_s
    time.on_sleep = lambda: upload.seal() if is_sealed and time.now_s > started_s + 5 else None
    seen = _watch(upload.medium, workers, time=time)
    assert len(_reports(seen)) == 20
    assert time.now_s > started_s + 5
    assert (_finished(seen).failure is None) == is_sealed


def test_a_stop_ends_with_a_checkpoint_to_go_on_from(workers: Workers, tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip", frames=300, squares=STATIC)
    stop = threading.Event()
    seen: list[Seen] = []
    for each in watch_video(MediumFile(path=clip), workers=workers, options=EVERY, stop=stop):
        seen.append(each)
        if isinstance(each, FrameReport) and each.frame_index == 40:
            stop.set()
    assert isinstance(seen[-1], Checkpoint)
    assert seen[-1].frame_index == 40
    assert not any(isinstance(each, Finished) for each in seen)
    rest = _watch(clip, workers, resume=seen[-1])
    assert [each.frame_index for each in _reports(seen) + _reports(rest)] == list(range(300))


def test_a_stop_ends_a_video_that_waits_for_bytes(workers: Workers, tmp_path: Path) -> None:
    upload = Upload(tmp_path, write_video(tmp_path / "clip", frames=60, noise=10).read_bytes())
    upload.send_until(60_000)
    stop = threading.Event()
    seen: list[Seen] = []
    for each in watch_video(upload.medium, workers=workers, options=EVERY, stop=stop):
        seen.append(each)
        if isinstance(each, FrameReport):
            stop.set()
    assert isinstance(seen[-1], Checkpoint)


def test_a_stop_before_the_first_frame_leaves_nothing(workers: Workers, tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()
    clip = write_video(tmp_path / "clip")
    assert list(watch_video(MediumFile(path=clip), workers=workers, options=EVERY, stop=stop)) == []


def test_closing_the_generator_ends_its_thread(workers: Workers, tmp_path: Path) -> None:
    upload = Upload(tmp_path, write_video(tmp_path / "clip", frames=60, noise=10).read_bytes())
    upload.send_until(20_000)
    watching = watch_video(upload.medium, workers=workers, options=EVERY, stop=threading.Event())
    next(watching)
    watching.close()
    assert not any(thread.name.startswith("video-") for thread in threading.enumerate())


def test_closing_the_generator_waits_for_no_detector(tmp_path: Path) -> None:
    class Hangs(RedFinder):
        may_end = threading.Event()

        def look(self, views: Sequence[View], *, score_min: float) -> list[Boxes]:
            assert self.may_end.wait(WAIT_S)
            return super().look(views, score_min=score_min)

    workers = Workers(Hangs(), count=1)
    medium = MediumFile(path=write_video(tmp_path / "clip", frames=30))
    watching = watch_video(medium, workers=workers, options=EVERY, stop=threading.Event())
    assert isinstance(next(watching), Progressed)  # after a second without a result
    watching.close()
    assert not any(thread.name.startswith("video-") for thread in threading.enumerate())
    Hangs.may_end.set()
    workers.close()


def test_percent_does_not_fall_when_a_task_is_resumed(workers: Workers, tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip", frames=20)
    done = next(each for each in _watch(clip, workers) if isinstance(each, Checkpoint))
    rest = _watch(clip, workers, resume=msgspec.structs.replace(done, percent=97))
    assert {each.percent for each in rest} <= {97, 98, 99, 100}


def test_the_tiles_of_a_frame_are_seen_by_many_workers_as_by_one(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip", frames=4, size=(640, 480), squares=(Square(x=300, y=100, side=60, dx=9),))
    model = write_script(tmp_path / "model.json", tolerance=60)
    seen: list[list[FrameReport]] = []
    for count in (1, 4):
        with closing(Workers(load_detector(model), count=count)) as workers:
            seen.append(_reports(_watch(clip, workers)))
    assert len(seen[0]) == 4
    assert seen[0] == seen[1]


def test_closed_workers_are_a_stop_and_no_failed_frames(finder: RedFinder, tmp_path: Path) -> None:
    workers = Workers(finder, count=1)
    seen: list[Seen] = []
    clip = write_video(tmp_path / "clip", frames=100)
    for each in watch_video(MediumFile(path=clip), workers=workers, options=EVERY, stop=threading.Event()):
        seen.append(each)
        if len(seen) == 20:
            workers.close()
    assert isinstance(seen[-1], Checkpoint)
    assert seen[-1].counts.failed == 0


def test_single_frames_that_fail_are_counted_and_the_rest_is_reported(tmp_path: Path) -> None:
    workers = Workers(RedFinder(fails_at=frozenset((2, 5))), count=1)
    seen = _watch(write_video(tmp_path / "clip", frames=10), workers)
    workers.close()
    end = _finished(seen)
    assert end.failure is None
    assert (end.counts.failed, end.counts.inferred, end.counts.reported) == (2, 8, 8)


def test_a_video_whose_frames_all_fail_has_failed(tmp_path: Path) -> None:
    workers = Workers(RedFinder(fails_at=frozenset(range(10))), count=1)
    seen = _watch(write_video(tmp_path / "clip", frames=10), workers)
    workers.close()
    assert _failed(seen) is FailureCode.INFERENCE_FAILED
    assert _finished(seen).counts.failed == 10


def test_a_static_object_is_reported_once_and_a_moving_one_again(workers: Workers, tmp_path: Path) -> None:
    options = DetectionOptions(frame_recognition_seconds=1, tracking_distance_confidence=0.05)
    moving = _watch(write_video(tmp_path / "moving", frames=70, squares=MOVING), workers, options)
    static = _watch(write_video(tmp_path / "static", frames=70, squares=STATIC), workers, options)
    assert [each.frame_index for each in _reports(static)] == [0]
    assert [each.frame_index for each in _reports(moving)] == [0, 28, 56]


def _cut(path: Path, share: float) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


@pytest.mark.parametrize(
    "container",
    [
        Container.MP4_FRONT,
        Container.MP4_FRAGMENTED,
        Container.MKV,
        Container.WEBM_VP8,
        Container.AVI_MJPEG,
        Container.TS,
    ],
    ids=lambda each: each.name,
)
def test_of_a_cut_file_everything_decodable_is_reported_and_the_end_is_partial(
    workers: Workers, tmp_path: Path, container: Container
) -> None:
    clip = _cut(write_video(tmp_path / "clip", frames=60, container=container, noise=10), 0.61)
    end = _finished(_watch(clip, workers))
    assert end.failure is None
    assert end.is_partial
    assert 20 < end.counts.decoded < 55
    assert end.counts.reported == end.counts.decoded


@pytest.mark.parametrize(
    "container", [Container.MP4_FRONT, Container.MKV, Container.AVI_MPEG4], ids=lambda each: each.name
)
def test_damage_in_the_middle_is_partial_and_the_frames_after_it_are_seen(
    workers: Workers, tmp_path: Path, container: Container
) -> None:
    clip = write_video(tmp_path / "clip", frames=60, container=container, noise=10, gop=10)
    content = bytearray(clip.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 3000] = bytes(3000)
    clip.write_bytes(content)
    seen = _watch(clip, workers)
    assert _finished(seen).is_partial
    assert _finished(seen).counts.decoded > 40
    assert _reports(seen)[-1].percent > 85


def test_a_change_of_size_in_the_middle_is_followed(workers: Workers, tmp_path: Path) -> None:
    end = _finished(_watch(write_resolution_change(tmp_path / "clip", frames=20), workers))
    assert (end.counts.decoded, end.counts.reported) == (40, 40)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", FailureCode.EMPTY_MEDIA),
        (b"\0", FailureCode.UNSUPPORTED_MEDIA),
        (bytes(range(256)) * 800, FailureCode.UNSUPPORTED_MEDIA),
        (b"ffconcat version 1.0\nfile 'other.mp4'\n", FailureCode.UNSUPPORTED_MEDIA),
        (b"#EXTM3U\n#EXTINF:10,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n", FailureCode.UNSUPPORTED_MEDIA),
        (
            b"v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
            FailureCode.UNSUPPORTED_MEDIA,
        ),
        (b"<html><video src=x></html>", FailureCode.UNSUPPORTED_MEDIA),
        (b"\0\0\0\x20ftypisom" + bytes(20), FailureCode.UNREADABLE_MEDIA),
    ],
    ids=["empty", "one byte", "noise", "ffconcat", "m3u8", "sdp", "html", "header only"],
)
@pytest.mark.parametrize("is_growing", [False, True])
def test_what_is_no_video_fails_with_its_code(
    workers: Workers, tmp_path: Path, content: bytes, code: FailureCode, is_growing: bool
) -> None:
    write_video(tmp_path / "other.mp4")
    upload = Upload(tmp_path, content)
    (tmp_path / "clip.mp4").write_bytes(content)
    medium = upload.medium if is_growing else MediumFile(path=tmp_path / "clip.mp4")
    assert _failed(_watch(medium, workers, time=VirtualTime(upload.step))) is code


def test_sound_without_a_picture_is_no_video(workers: Workers, tmp_path: Path) -> None:
    assert _failed(_watch(write_audio_only(tmp_path / "clip"), workers)) is FailureCode.NO_VIDEO_STREAM


def test_a_stream_without_frames_is_named(workers: Workers, tmp_path: Path) -> None:
    assert _failed(_watch(write_no_frames(tmp_path / "clip"), workers)) is FailureCode.NO_FRAMES


def test_a_missing_file_is_named(workers: Workers, tmp_path: Path) -> None:
    assert _failed(_watch(tmp_path / "nothing", workers)) is FailureCode.MEDIUM_MISSING


def test_limits_end_a_video_with_their_code(workers: Workers, tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip", frames=50)
    assert _failed(_watch(clip, workers, limits=VideoLimits(pixels_max=160 * 128 - 1))) is FailureCode.TOO_MANY_PIXELS
    assert _failed(_watch(clip, workers, limits=VideoLimits(duration_max_s=1))) is FailureCode.DURATION_LIMIT
    many = _watch(clip, workers, limits=VideoLimits(frames_max=20))
    assert _failed(many) is FailureCode.DURATION_LIMIT
    assert len(_reports(many)) == 20


def test_a_starving_video_holds_no_worker(workers: Workers, tmp_path: Path) -> None:
    upload = Upload(tmp_path, write_video(tmp_path / "slow", frames=60, noise=10).read_bytes())
    upload.send_until(60_000)
    stop = threading.Event()
    slow = watch_video(upload.medium, workers=workers, options=EVERY, stop=stop)
    assert any(isinstance(each, FrameReport) for each in slow)
    assert _finished(_watch(write_video(tmp_path / "clip", frames=50), workers)).counts.inferred == 50
    stop.set()
    slow.close()


def test_frames_in_flight_are_few_when_the_reports_are_not_taken(
    workers: Workers, finder: RedFinder, tmp_path: Path
) -> None:
    watching = watch_video(
        MediumFile(path=write_video(tmp_path / "clip", frames=300)),
        workers=workers,
        options=EVERY,
        stop=threading.Event(),
    )
    next(watching)
    threading.Event().wait(0.3)
    assert finder.calls < 120
    watching.close()
