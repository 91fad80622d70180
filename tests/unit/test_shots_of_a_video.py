"""A whole video from its bytes to its shots, alone and in one decode pass with its objects."""

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from fractions import Fraction
from pathlib import Path

import av
import msgspec
import numpy as np
import pytest

from contracts.failures import Failure, FailureCode
from contracts.options import DetectionOptions
from contracts.results import Checkpoint
from engine.batching import Workers
from engine.decode_thread import Terms
from engine.growing_file import MediumFile
from engine.shot_finder import FoundShot
from engine.shot_model import Odds, open_shot_model
from engine.shot_windows import HEIGHT, MARGIN, STEP, WIDTH, WINDOW, Window
from engine.shot_workers import ShotWorkers
from engine.video import VideoLimits
from engine.watching import Finished, FrameReport, Seen, watch_video
from tests.conftest import REPOSITORY
from tests.cut_finder import CutFinder, scenes, write_scenes
from tests.finders import RedFinder
from tests.media import (
    RED,
    Container,
    Square,
    draw,
    write_audio_only,
    write_no_frames,
    write_resolution_change,
)
from tests.uploads import Upload, VirtualTime

WAIT_S = 60
RED_SQUARE = Square(rgb=RED, x=40, y=40, side=40)
RARELY = DetectionOptions(frame_period_recognition=1, frame_recognition_seconds=3600)
"""Only what the rule reports first is reported."""
Frames = list[tuple[int, int]]


@pytest.fixture(autouse=True)
def no_thread_is_left_behind() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert {thread.name for thread in set(threading.enumerate()) - before} == set()


@pytest.fixture
def finder() -> CutFinder:
    return CutFinder()


@pytest.fixture
def searchers(finder: CutFinder) -> Iterator[ShotWorkers]:
    with closing(ShotWorkers(finder, count=2)) as workers:
        yield workers


@pytest.fixture
def workers() -> Iterator[Workers]:
    with closing(Workers(RedFinder(), count=2)) as workers:
        yield workers


def watch(
    medium: MediumFile | Path,
    searchers: ShotWorkers,
    options: DetectionOptions = RARELY,
    *,
    workers: Workers | None = None,
    resume: Checkpoint | None = None,
    terms: Terms | None = None,
) -> list[Seen]:
    if isinstance(medium, Path):
        medium = MediumFile(path=medium)
    terms = terms or Terms(passing=VirtualTime().passing())
    terms = msgspec.structs.replace(terms, shots=searchers)
    stop = threading.Event()
    return list(watch_video(medium, workers=workers, options=options, stop=stop, resume=resume, terms=terms))


def reports(seen: Sequence[Seen]) -> list[FrameReport]:
    return [each for each in seen if isinstance(each, FrameReport)]


def shots(seen: Sequence[Seen]) -> list[FoundShot]:
    return [shot for report in reports(seen) for shot in report.shots]


def frames(seen: Sequence[Seen]) -> Frames:
    return [(shot.start_frame, shot.end_frame) for shot in shots(seen)]


def finished(seen: Sequence[Seen]) -> Finished:
    end = seen[-1]
    assert isinstance(end, Finished)
    assert end.counts.decoded >= end.counts.sampled == end.counts.inferred + end.counts.failed
    assert end.counts.reported <= end.counts.inferred
    assert end.counts.shots == len(shots(seen))
    return end


def failure_of(seen: Sequence[Seen]) -> FailureCode:
    failure = finished(seen).failure
    assert failure is not None
    return failure.code


# Shots alone


def test_every_shot_is_reported_with_the_frame_that_makes_it_certain(searchers: ShotWorkers, tmp_path: Path) -> None:
    seen = watch(write_scenes(tmp_path / "clip", 30, 110, frames=200), searchers)

    assert frames(seen) == [(0, 29), (30, 109), (110, 199)]
    assert [(report.sequence, report.frame_index) for report in reports(seen)] == [(1, 31), (2, 111), (3, 199)]
    assert [shot.transition for shot in shots(seen)] == ["cut", "cut", None]
    assert [shot.confidence for shot in shots(seen)] == [1.0, 1.0, None]
    assert [report.detections for report in reports(seen)] == [[], [], []]
    end = finished(seen)
    assert (end.counts.decoded, end.counts.sampled, end.counts.reported, end.counts.shots) == (200, 200, 0, 3)
    assert (end.percent, end.is_partial, end.failure) == (100, False, None)


@pytest.mark.parametrize("count", [1, 2, 25, 26, 50, 51, 99, 100, 101])
def test_a_video_of_any_length_has_its_shots(searchers: ShotWorkers, tmp_path: Path, count: int) -> None:
    assert frames(watch(write_scenes(tmp_path / "clip", frames=count), searchers)) == [(0, count - 1)]


def test_a_shorter_shot_than_allowed_belongs_to_the_next_one(searchers: ShotWorkers, tmp_path: Path) -> None:
    clip = write_scenes(tmp_path / "clip", 30, 35, frames=60)

    assert frames(watch(clip, searchers)) == [(0, 29), (30, 34), (35, 59)]
    options = DetectionOptions(min_shot_frames=10)
    assert frames(watch(clip, searchers, options)) == [(0, 29), (30, 59)]


def test_times_are_those_of_the_frames_also_where_they_come_unevenly(searchers: ShotWorkers, tmp_path: Path) -> None:
    clip = write_scenes(
        tmp_path / "clip", 40, frames=80, pts=lambda index: index if index < 40 else 40 + (index - 40) * 3
    )

    first, last = shots(watch(clip, searchers))
    assert (first.start_s, first.end_s) == pytest.approx((0, 40 / 25))
    assert (last.start_s, last.end_s) == pytest.approx((40 / 25, (40 + 40 * 3) / 25))


def test_frames_without_times_get_some(searchers: ShotWorkers, tmp_path: Path) -> None:
    """An elementary stream inside an AVI: no pts, only a rate."""
    clip = tmp_path / "clip.avi"
    with av.open(str(clip), "w", format="avi") as out:
        stream = out.add_stream("libx264", rate=10, options={"preset": "ultrafast", "bf": "2"})
        stream.width, stream.height, stream.pix_fmt = 160, 128, "yuv420p"
        for index in range(60):
            frame = av.VideoFrame.from_ndarray(draw((160, 128), scenes(30), index), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 10)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))

    first, last = shots(watch(clip, searchers))
    assert (first.end_frame, last.end_frame) == (29, 59)
    assert (first.end_s, last.end_s) == pytest.approx((3.0, 6.0), abs=0.21)


def test_a_change_of_size_is_followed(searchers: ShotWorkers, tmp_path: Path) -> None:
    seen = watch(write_resolution_change(tmp_path / "clip", frames=40), searchers)

    assert finished(seen).failure is None
    assert frames(seen)[-1][1] == 79


def test_of_a_cut_file_what_is_certain_is_reported_and_the_end_is_partial(
    searchers: ShotWorkers, tmp_path: Path
) -> None:
    clip = write_scenes(tmp_path / "clip", 30, 60, 120, 190, frames=200, noise=10)
    clip.write_bytes(clip.read_bytes()[: int(clip.stat().st_size * 0.75)])
    seen = watch(clip, searchers)

    end = finished(seen)
    assert (end.is_partial, end.failure) == (True, None)
    assert frames(seen) == [(0, 29), (30, 59), (60, 119), (120, end.counts.decoded - 1)]


def test_an_upload_that_is_aborted_tells_no_last_shot(searchers: ShotWorkers, tmp_path: Path) -> None:
    content = write_scenes(tmp_path / "clip", 30, frames=100, noise=10).read_bytes()
    upload = Upload(tmp_path, content)

    def send_most_then_abort() -> None:
        upload.step() if upload.sent_bytes < len(content) * 0.8 else upload.abort()

    seen = watch(upload.medium, searchers, terms=Terms(passing=VirtualTime(send_most_then_abort).passing()))
    assert failure_of(seen) is FailureCode.UPLOAD_ABORTED
    assert frames(seen) == [(0, 29)]


@pytest.mark.parametrize("frames_max", [20, 75, 80, 124, 125, 190])
def test_of_a_failed_video_a_shot_is_told_if_the_model_saw_what_lies_behind_it(
    workers: Workers, searchers: ShotWorkers, tmp_path: Path, frames_max: int
) -> None:
    """As if the picture stood still there it would tell of others: of a fade that is cut off it tells a cut in its middle."""
    clip = write_scenes(tmp_path / "clip", 10, 30, 70, 110, frames=200, over=(RED_SQUARE,))
    options = DetectionOptions(frame_period_recognition=1, frame_recognition_seconds=0)
    terms = Terms(limits=VideoLimits(frames_max=frames_max))
    seen = watch(clip, searchers, options, workers=workers, terms=terms)

    assert failure_of(seen) is FailureCode.DURATION_LIMIT
    certain = (frames_max + MARGIN) // STEP * STEP - STEP
    assert frames(seen) == [shot for shot in [(0, 9), (10, 29), (30, 69), (70, 109)] if shot[1] < certain]
    assert [report.frame_index for report in reports(seen)] == list(range(frames_max)), "objects are known at once"
    alone = watch(clip, searchers, terms=terms)
    assert frames(alone) == frames(seen)
    last = [each for each in alone if isinstance(each, Checkpoint)][-1:]
    assert all(place.shots is None or place.shots.next_frame == place.frame_index + 1 for place in last)


def test_a_shot_is_told_while_the_bytes_behind_it_are_on_their_way(searchers: ShotWorkers, tmp_path: Path) -> None:
    content = write_scenes(tmp_path / "clip", 30, frames=300, noise=10).read_bytes()
    upload = Upload(tmp_path, content, chunks=(4096,))
    upload.send_until(len(content) // 2)
    was_told = threading.Event()

    def wait_until_it_is_told() -> None:
        assert was_told.wait(WAIT_S)
        upload.step()

    terms = Terms(passing=VirtualTime(wait_until_it_is_told).passing(), shots=searchers)
    seen: list[Seen] = []
    for each in watch_video(upload.medium, workers=None, options=RARELY, stop=threading.Event(), terms=terms):
        seen.append(each)
        if isinstance(each, FrameReport):
            was_told.set()
    assert frames(seen) == [(0, 29), (30, 299)]


@pytest.mark.parametrize(
    ("write", "code"),
    [
        (write_audio_only, FailureCode.NO_VIDEO_STREAM),
        (write_no_frames, FailureCode.NO_FRAMES),
        (lambda path: path, FailureCode.MEDIUM_MISSING),
    ],
    ids=["sound alone", "no frames", "no file"],
)
def test_what_has_no_frames_fails_with_its_code(
    searchers: ShotWorkers, tmp_path: Path, write: "type[Path]", code: FailureCode
) -> None:
    seen = watch(write(tmp_path / "clip"), searchers)

    assert failure_of(seen) is code
    assert shots(seen) == []


# Stopping and going on


@pytest.mark.parametrize("shots_done", [1, 2, 3])
def test_a_resumed_search_tells_what_the_whole_one_told_after_it(
    finder: CutFinder, searchers: ShotWorkers, tmp_path: Path, shots_done: int
) -> None:
    clip = write_scenes(tmp_path / "clip", 30, 49, 50, 120, 230, frames=300)
    whole = watch(clip, searchers)
    done = [each for each in whole if isinstance(each, Checkpoint) and each.counts.shots == shots_done][-1]
    done = msgspec.json.decode(msgspec.json.encode(done), type=Checkpoint)
    finder.windows.clear()

    rest = watch(clip, searchers, resume=done)

    assert reports(rest) == reports(whole)[shots_done:]
    assert rest[-1] == whole[-1]
    assert len(finder.windows) == (300 - (done.frame_index + 1) // STEP * STEP) // STEP


def test_a_search_can_go_on_from_every_checkpoint(searchers: ShotWorkers, tmp_path: Path) -> None:
    clip = write_scenes(tmp_path / "clip", 30, 49, 50, 74, frames=130, fps=1)  # a checkpoint every 5 frames
    whole = watch(clip, searchers)
    places = [each for each in whole if isinstance(each, Checkpoint)]
    assert len(places) > 20
    for place in places[::4]:
        rest = watch(clip, searchers, resume=place)
        assert reports(rest) == reports(whole)[place.sequence :]
        assert rest[-1] == whole[-1]


def test_a_stop_ends_a_search_with_a_checkpoint_to_go_on_from(searchers: ShotWorkers, tmp_path: Path) -> None:
    clip = write_scenes(tmp_path / "clip", 30, 120, 230, frames=300)
    stop = threading.Event()
    seen: list[Seen] = []
    terms = Terms(shots=searchers)
    for each in watch_video(MediumFile(path=clip), workers=None, options=RARELY, stop=stop, terms=terms):
        seen.append(each)
        if isinstance(each, FrameReport):
            stop.set()
    last = seen[-1]
    assert isinstance(last, Checkpoint)
    assert frames(seen) + frames(watch(clip, searchers, resume=last)) == frames(watch(clip, searchers))


def test_windows_of_a_stopped_search_are_not_looked_at(tmp_path: Path) -> None:
    class Held(CutFinder):
        """Takes its first window and is in no hurry with it."""

        may_answer = threading.Event()
        has_begun = threading.Event()

        def look(self, windows: Sequence[Window]) -> tuple[Odds, Odds]:
            self.has_begun.set()
            assert self.may_answer.wait(WAIT_S)
            return super().look(windows)

    clip = write_scenes(tmp_path / "clip", 30, frames=300)
    finder, stop = Held(), threading.Event()
    with closing(ShotWorkers(finder, count=1)) as searchers:
        asked = [searchers.submit(np.zeros((WINDOW, HEIGHT, WIDTH, 3), np.uint8))]  # of another video
        assert finder.has_begun.wait(WAIT_S)
        terms = Terms(shots=searchers, offered=lambda _: stop.set())
        list(watch_video(MediumFile(path=clip), workers=None, options=RARELY, stop=stop, terms=terms))
        finder.may_answer.set()
        asked.append(searchers.submit(np.zeros((WINDOW, HEIGHT, WIDTH, 3), np.uint8)))
        for odds in asked:
            odds.result(WAIT_S)
    assert len(finder.windows) == len(asked)


def test_before_a_server_is_said_to_be_away_comes_a_checkpoint(tmp_path: Path) -> None:
    clip = write_scenes(tmp_path / "clip", 30, 120, 230, frames=300)
    away = CutFinder(fails_at=frozenset({3}))
    away.failure = Failure(FailureCode.ENGINE_UNAVAILABLE, "away")
    seen: list[Seen] = []
    with closing(ShotWorkers(away, count=1)) as searchers:
        watched = watch_video(
            MediumFile(path=clip), workers=None, options=RARELY, stop=threading.Event(), terms=Terms(shots=searchers)
        )
        with pytest.raises(Failure, match="away"):
            seen.extend(watched)  # what came before it raised is kept
    last = seen[-1]
    assert isinstance(last, Checkpoint)
    assert last.frame_index == 149
    with closing(ShotWorkers(CutFinder(), count=1)) as searchers:
        assert frames(seen) + frames(watch(clip, searchers, resume=last)) == [
            (0, 29),
            (30, 119),
            (120, 229),
            (230, 299),
        ]


def test_a_window_that_fails_ends_the_search_and_what_was_certain_is_kept(tmp_path: Path) -> None:
    clip = write_scenes(tmp_path / "clip", 30, 120, 230, frames=300)
    with closing(ShotWorkers(CutFinder(fails_at=frozenset({3})), count=1)) as searchers:
        seen = watch(clip, searchers)
    assert failure_of(seen) is FailureCode.INFERENCE_FAILED
    assert frames(seen) == [(0, 29), (30, 119)]
    assert finished(seen).percent < 100


def test_closed_searchers_are_a_stop(finder: CutFinder, tmp_path: Path) -> None:
    searchers = ShotWorkers(finder, count=1)
    searchers.close()
    assert watch(write_scenes(tmp_path / "clip", frames=300), searchers) == []
    assert finder.is_closed


# Objects and shots in one pass


def test_a_new_shots_first_detections_are_always_reported(
    workers: Workers, searchers: ShotWorkers, tmp_path: Path
) -> None:
    clip = write_scenes(tmp_path / "clip", 30, 110, 137, frames=200, over=(RED_SQUARE,))
    seen = watch(clip, searchers, workers=workers)

    told = [report.frame_index for report in reports(seen) if report.detections]
    assert told == [0, 30, 110, 137]
    assert frames(seen) == [(0, 29), (30, 109), (110, 136), (137, 199)]
    end = finished(seen)
    assert (end.counts.sampled, end.counts.inferred, end.counts.reported, end.counts.shots) == (200, 200, 4, 4)


def test_without_shots_the_rule_knows_no_cut(workers: Workers, tmp_path: Path) -> None:
    clip = write_scenes(tmp_path / "clip", 30, 110, frames=200, over=(RED_SQUARE,))
    seen = list(watch_video(MediumFile(path=clip), workers=workers, options=RARELY, stop=threading.Event()))
    assert [report.frame_index for report in reports(seen)] == [0]


def test_the_first_detections_of_a_shot_may_come_long_after_its_cut(
    workers: Workers, searchers: ShotWorkers, tmp_path: Path
) -> None:
    late = msgspec.structs.replace(RED_SQUARE, from_frame=90)
    early = msgspec.structs.replace(RED_SQUARE, until_frame=20)
    clip = write_scenes(tmp_path / "clip", 30, frames=120, over=(early, late))
    options = msgspec.structs.replace(RARELY, frame_period_recognition=4)
    told = [
        report.frame_index for report in reports(watch(clip, searchers, options, workers=workers)) if report.detections
    ]
    assert told == [0, 92]


def test_reports_come_in_the_order_of_their_frames_and_are_numbered(
    workers: Workers, searchers: ShotWorkers, tmp_path: Path
) -> None:
    clip = write_scenes(tmp_path / "clip", 30, 110, frames=200, over=(RED_SQUARE,))
    options = DetectionOptions(frame_period_recognition=3, frame_recognition_seconds=0)
    told = reports(watch(clip, searchers, options, workers=workers))

    assert [report.sequence for report in told] == list(range(1, len(told) + 1))
    indices = [report.frame_index for report in told]
    assert indices == sorted(indices)
    assert {report.frame_index for report in told if report.detections} == set(range(0, 200, 3))


@pytest.mark.parametrize("at", [0, 2, 5])
def test_both_go_on_together_from_a_checkpoint(
    workers: Workers, searchers: ShotWorkers, tmp_path: Path, at: int
) -> None:
    clip = write_scenes(tmp_path / "clip", 30, 110, 137, frames=200, over=(RED_SQUARE,))
    whole = watch(clip, searchers, workers=workers)
    done = [each for each in whole if isinstance(each, Checkpoint)][at]
    rest = watch(clip, searchers, workers=workers, resume=done)

    assert reports(rest) == reports(whole)[done.sequence :]
    assert rest[-1] == whole[-1]


def test_a_report_has_its_picture_where_it_is_asked_for(
    workers: Workers, searchers: ShotWorkers, tmp_path: Path
) -> None:
    clip = write_scenes(tmp_path / "clip", 30, frames=100, over=(RED_SQUARE,))
    told = reports(watch(clip, searchers, workers=workers, terms=Terms(keeps_frames=True)))

    with_detections = [report for report in told if report.detections]
    assert [report.frame_index for report in with_detections] == [0, 30]
    for report, (red, green, blue) in zip(with_detections, [(110, 110, 110), (0, 255, 0)], strict=True):
        assert report.picture is not None
        assert (report.picture.width, report.picture.height) == (160, 128)
        corner = report.picture.scaled(width=160, height=128)[10, 10]
        assert corner.tolist() == pytest.approx([red, green, blue], abs=25)
    assert [report.picture for report in told if not report.detections] == [None, None]


def test_a_growing_file_gives_the_same_as_a_finished_one(
    workers: Workers, searchers: ShotWorkers, tmp_path: Path
) -> None:
    clip = write_scenes(tmp_path / "clip", 30, 110, frames=160, over=(RED_SQUARE,), container=Container.MKV)
    upload = Upload(tmp_path, clip.read_bytes(), chunks=(997,))
    terms = Terms(passing=VirtualTime(upload.step).passing())
    growing = watch(upload.medium, searchers, workers=workers, terms=terms)
    finished_one = watch(clip, searchers, workers=workers)
    without_percent = [
        [msgspec.structs.replace(each, percent=0) for each in reports(seen)] for seen in (growing, finished_one)
    ]
    assert without_percent[0] == without_percent[1]
    percents = [each.percent for each in growing]
    assert percents == sorted(percents)


# Real videos, the shipped model


@pytest.mark.real_media
def test_the_boundaries_of_real_videos_are_found_all_hard_cuts_among_them(shared_data: Path) -> None:
    folder = shared_data / "videos" / "shots"
    hard = hard_cuts(folder)
    stated = json.loads((folder / "transnetv2_standin_expected.json").read_bytes())["files"]
    model = open_shot_model(REPOSITORY / "models" / "shots-small.onnx")
    with closing(ShotWorkers(model, count=2)) as searchers:
        for name, about in stated.items():
            peaks = [frame for frame, _ in about["peaks_single_frame_gt_0.5"]]
            seen = watch(folder / name, searchers, DetectionOptions())
            ends = [end for _, end in frames(seen)[:-1]]
            assert len(ends) == len(peaks), name
            assert all(abs(end - peak) <= 2 for end, peak in zip(ends, peaks, strict=True)), name
            assert set(hard[name]) <= set(ends), name


def hard_cuts(folder: Path) -> dict[str, list[int]]:
    """The last frame before each, for each video."""
    truth = json.loads((folder / "ground_truth.json").read_bytes())["files"]
    edited = json.loads((folder / "edited_gt.json").read_bytes())
    cuts = {name: about["hard_cuts"] for name, about in truth.items()}
    return cuts | {
        edited["file"]: [each["last_frame_of_prev"] for each in edited["transitions"] if each["type"] == "cut"]
    }
