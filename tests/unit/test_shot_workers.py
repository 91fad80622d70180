"""The threads that look at windows: one a call or several, bounded, each window on its own."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from contracts.failures import Failure, FailureCode
from contracts.options import DetectionOptions
from engine.decode_thread import Terms
from engine.growing_file import MediumFile
from engine.shot_model import Odds
from engine.shot_windows import HEIGHT, STEP, WIDTH, WINDOW, Window
from engine.shot_workers import GATHERED_MAX, WINDOWS_MAX, ShotWorkers, WindowOdds
from engine.watching import FrameReport, watch_video
from tests.cut_finder import CutFinder, write_scenes

WAIT_S = 60


@pytest.fixture(autouse=True)
def no_thread_is_left_behind() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert {thread.name for thread in set(threading.enumerate()) - before} == set()


def a_window(number: int) -> Window:
    return np.full((WINDOW, HEIGHT, WIDTH, 3), number, np.uint8)


class Slow(CutFinder):
    """Waits in its first call."""

    def __init__(self, *, rows_best: int | None) -> None:
        super().__init__(rows_best=rows_best)
        self.may_end = threading.Event()
        self.has_begun = threading.Event()

    def look(self, windows: Sequence[Window]) -> tuple[Odds, Odds]:
        self.has_begun.set()
        assert self.may_end.wait(WAIT_S)
        return super().look(windows)


@pytest.mark.parametrize(("rows_best", "batches"), [(1, [1] * 6), (None, [1, GATHERED_MAX, 1]), (2, [1, 2, 2, 1])])
def test_what_waits_is_looked_at_together_where_the_runtime_gathers(rows_best: int | None, batches: list[int]) -> None:
    slow = Slow(rows_best=rows_best)
    with closing(ShotWorkers(slow, count=1)) as searchers:
        odds: list[Future[WindowOdds]] = [searchers.submit(a_window(0))]
        assert slow.has_begun.wait(WAIT_S)
        odds += [searchers.submit(a_window(number)) for number in range(1, 6)]
        slow.may_end.set()
        assert all(each.result(WAIT_S).boundary.shape == (STEP,) for each in odds)
    assert slow.batches == batches


def test_a_window_that_fails_in_a_batch_fails_alone() -> None:
    class FailsOne(Slow):
        def look(self, windows: Sequence[Window]) -> tuple[Odds, Odds]:
            if any(window[0, 0, 0, 0] == 3 for window in windows):
                raise self.failure
            return super().look(windows)

    slow = FailsOne(rows_best=None)
    with closing(ShotWorkers(slow, count=1)) as searchers:
        odds = [searchers.submit(a_window(0))]
        assert slow.has_begun.wait(WAIT_S)
        odds += [searchers.submit(a_window(number)) for number in range(1, 5)]
        slow.may_end.set()
        failed = [each.exception(WAIT_S) is not None for each in odds]
    assert failed == [False, False, False, True, False]


def test_workers_for_which_there_is_no_room_leave_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    class Second(threading.Thread):
        started = 0

        def start(self) -> None:
            if Second.started:
                raise RuntimeError("can't start new thread")
            Second.started += 1
            super().start()

    monkeypatch.setattr("engine.shot_workers.threading.Thread", Second)
    finder = CutFinder()
    with pytest.raises(Failure, match="can't start new thread") as failed:
        ShotWorkers(finder, count=2)

    assert failed.value.code is FailureCode.ENGINE_UNAVAILABLE
    assert finder.is_closed


@pytest.mark.parametrize("count", [1, 2, 8, 64])
@pytest.mark.parametrize("rows_best", [1, 4, None])
def test_the_frames_of_a_video_are_never_more_than_5_mb(count: int, rows_best: int | None) -> None:
    with closing(ShotWorkers(CutFinder(rows_best=rows_best), count=count)) as searchers:
        copied = 0 if rows_best == 1 else GATHERED_MAX
        assert 0 < searchers.windows_max + copied <= WINDOWS_MAX
    assert (WINDOWS_MAX + 1) * a_window(0).nbytes < 5_000_000


def test_the_decoder_is_never_further_ahead_than_the_windows_of_a_video(tmp_path: Path) -> None:
    slow = Slow(rows_best=1)
    clip = write_scenes(tmp_path / "clip", frames=800)
    with closing(ShotWorkers(slow, count=1)) as searchers:
        watching = watch_video(
            MediumFile(path=clip),
            workers=None,
            options=DetectionOptions(),
            stop=threading.Event(),
            terms=Terms(shots=searchers),
        )
        next(watching)  # progress, after a second without a result
        assert len(searchers._waiting) <= searchers.windows_max
        slow.may_end.set()
        [last] = [each for each in watching if isinstance(each, FrameReport)]
        assert [(shot.start_frame, shot.end_frame) for shot in last.shots] == [(0, 799)]
