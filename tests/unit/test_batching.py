"""Workers: fairness, bounds, and what one bad picture may do."""

import os
import threading
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from contracts.failures import Failure, FailureCode
from contracts.options import DetectionOptions
from engine.batching import Workers
from engine.picture import Crop, Rgb
from engine.postprocess import Boxes
from engine.preprocess import View
from engine.turns import IMAGES_IN_A_ROW_MAX
from tests.detectors import WAIT_S, Gated, Named, in_thread, wait_until

OPTIONS = DetectionOptions()


@pytest.fixture
def detector() -> Gated:
    return Gated()


@pytest.fixture
def workers(detector: Gated) -> Iterator[Workers]:
    workers = Workers(detector, count=1)
    yield workers
    detector.let_through(1000)
    workers.close()


def test_a_future_holds_what_the_detector_saw(workers: Workers, detector: Gated) -> None:
    detector.let_through()
    assert workers.submit(Named("a"), OPTIONS, stream="one").result(WAIT_S) == []


def test_streams_take_turns(workers: Workers, detector: Gated) -> None:
    first = workers.submit(Named("a1"), OPTIONS, stream="a")
    assert detector.started.acquire(timeout=WAIT_S)
    futures = [workers.submit(Named("a2"), OPTIONS, stream="a")]
    futures += [workers.submit(Named(name), OPTIONS, stream="b") for name in ("b1", "b2")]
    futures += [workers.submit(Named("c1"), OPTIONS, stream="c")]
    detector.let_through(10)
    for future in [first, *futures]:
        future.result(WAIT_S)
    assert detector.looked_at == ["a1", "a2", "b1", "c1", "b2"]


def test_a_stream_with_enough_in_flight_waits_and_others_do_not(workers: Workers, detector: Gated) -> None:
    workers.submit(Named("a1"), OPTIONS, stream="a")
    workers.submit(Named("a2"), OPTIONS, stream="a")
    third = in_thread(lambda: workers.submit(Named("a3"), OPTIONS, stream="a"))
    workers.submit(Named("b1"), OPTIONS, stream="b")
    third.join(0.05)
    assert third.is_alive()
    detector.let_through()
    third.join(WAIT_S)
    assert not third.is_alive()


def test_an_image_goes_before_waiting_frames(workers: Workers, detector: Gated) -> None:
    workers.submit(Named("a1"), OPTIONS, stream="a")
    assert detector.started.acquire(timeout=WAIT_S)
    frame = workers.submit(Named("a2"), OPTIONS, stream="a")
    image = in_thread(lambda: workers.detect_image(Named("image"), OPTIONS))
    wait_until(lambda: bool(workers._turns._images))
    detector.let_through(3)
    frame.result(WAIT_S)
    image.join(WAIT_S)
    assert detector.looked_at == ["a1", "image", "a2"]


def test_a_flood_of_images_does_not_stop_the_videos(workers: Workers, detector: Gated) -> None:
    workers.submit(Named("a1"), OPTIONS, stream="a")
    assert detector.started.acquire(timeout=WAIT_S)
    frame = workers.submit(Named("a2"), OPTIONS, stream="a")
    flood = [in_thread(lambda: workers.detect_image(Named("image"), OPTIONS)) for _ in range(2 * IMAGES_IN_A_ROW_MAX)]
    wait_until(lambda: len(workers._turns._images) == len(flood))
    detector.let_through(100)
    frame.result(WAIT_S)
    for thread in flood:
        thread.join(WAIT_S)
    assert detector.looked_at.index("a2") == 1 + IMAGES_IN_A_ROW_MAX


@pytest.mark.parametrize("name", ["bad", "bug"])
def test_a_bad_picture_fails_alone(workers: Workers, detector: Gated, name: str) -> None:
    detector.let_through(2)
    bad = workers.submit(Named(name), OPTIONS, stream="a")
    good = workers.submit(Named("good"), OPTIONS, stream="a")
    with pytest.raises(Failure, match=name) as failure:
        bad.result(WAIT_S)
    assert failure.value.code is FailureCode.INFERENCE_FAILED
    assert good.result(WAIT_S) == []


def test_a_bad_image_raises_its_failure(workers: Workers, detector: Gated) -> None:
    detector.let_through()
    with pytest.raises(Failure, match="bad image"):
        workers.detect_image(Named("bad image"), OPTIONS)


def test_an_image_that_is_no_longer_wanted_waits_for_no_engine(workers: Workers, detector: Gated) -> None:
    stop, ended = threading.Event(), threading.Event()

    def look() -> None:
        with pytest.raises(Failure) as failure:
            workers.detect_image(Named("image", views=3), OPTIONS, stop=stop)
        assert failure.value.code is FailureCode.CANCELLED
        ended.set()

    in_thread(look)
    assert detector.started.acquire(timeout=WAIT_S)
    stop.set()
    assert ended.wait(WAIT_S)

    detector.let_through(2)
    assert workers.submit(Named("next"), OPTIONS, stream="a").result(WAIT_S) == []
    assert detector.looked_at == ["image", "next"]


def test_a_forgotten_stream_is_dropped_and_its_submitter_let_go(workers: Workers, detector: Gated) -> None:
    running = workers.submit(Named("a1"), OPTIONS, stream="a")
    assert detector.started.acquire(timeout=WAIT_S)
    waiting = workers.submit(Named("a2"), OPTIONS, stream="a")
    submitter = in_thread(lambda: workers.submit(Named("a3"), OPTIONS, stream="a"))
    submitter.join(0.05)
    workers.forget("a")
    submitter.join(WAIT_S)
    assert not submitter.is_alive()
    assert waiting.cancelled()
    detector.let_through()
    assert running.result(WAIT_S) == []
    assert detector.looked_at == ["a1"]


def test_closing_cancels_what_waits_and_joins_the_threads(detector: Gated) -> None:
    workers = Workers(detector, count=1)
    running = workers.submit(Named("a1"), OPTIONS, stream="a")
    assert detector.started.acquire(timeout=WAIT_S)
    waiting = workers.submit(Named("a2"), OPTIONS, stream="a")
    closing = in_thread(workers.close)
    wait_until(waiting.cancelled)
    detector.let_through()
    closing.join(WAIT_S)
    assert not closing.is_alive()
    assert running.result(0) == []
    assert not any(thread.is_alive() for thread in workers._crew._threads)
    assert workers.submit(Named("late"), OPTIONS, stream="a").cancelled()
    with pytest.raises(Failure) as failure:
        workers.detect_image(Named("late"), OPTIONS)
    assert failure.value.code is FailureCode.ENGINE_UNAVAILABLE


def test_as_many_pictures_as_workers_are_looked_at_at_once(detector: Gated) -> None:
    workers = Workers(detector, count=3)
    for number in range(3):
        workers.submit(Named(f"a{number}"), OPTIONS, stream="a")
    for _ in range(3):
        assert detector.started.acquire(timeout=WAIT_S)
    detector.let_through(3)
    workers.close()


def test_workers_for_which_there_is_no_room_leave_nothing_behind(
    detector: Gated, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container bounds its threads."""
    started: list[threading.Thread] = []

    class Third(threading.Thread):
        def start(self) -> None:
            if len(started) == 2:
                raise RuntimeError("can't start new thread")
            started.append(self)
            super().start()

    monkeypatch.setattr("engine.batching.threading.Thread", Third)
    with pytest.raises(Failure, match="can't start new thread") as failure:
        Workers(detector, count=3)

    assert failure.value.code is FailureCode.ENGINE_UNAVAILABLE
    assert [thread.is_alive() for thread in started] == [False, False]
    assert detector.is_closed


def cores_looked_from(count: int) -> set[frozenset[int]]:
    """Between which cores each of so many workers may move."""

    class Placed(Gated):
        cores: set[frozenset[int]] = set()

        def look(self, views: Sequence[View], *, score_min: float) -> list[Boxes]:
            self.cores.add(frozenset(os.sched_getaffinity(0)))
            return super().look(views, score_min=score_min)

    detector = Placed()
    workers = Workers(detector, count=count)
    for number in range(count):
        workers.submit(Named(f"a{number}"), OPTIONS, stream="a")
    for _ in range(count):
        assert detector.started.acquire(timeout=WAIT_S)
    detector.let_through(count)
    workers.close()
    return detector.cores


def test_each_worker_stays_on_a_core_where_all_cores_have_one() -> None:
    cores = os.sched_getaffinity(0)

    assert cores_looked_from(len(cores)) == {frozenset({core}) for core in cores}
    assert os.sched_getaffinity(0) == cores, "other threads move as before"


def test_workers_that_are_not_as_many_as_cores_stay_nowhere() -> None:
    cores = os.sched_getaffinity(0)

    assert cores_looked_from(len(cores) + 1) == {frozenset(cores)}


def test_a_picture_is_let_go_when_it_has_been_looked_at() -> None:
    """Frames are large: a worker that waits for the next one must not hold the last one."""

    class Remembers(Gated):
        def look(self, views: Sequence[View], *, score_min: float) -> list[Boxes]:
            views[0].picture.scaled(width=1, height=1)
            return super().look(views, score_min=score_min)

    class Freed(Named):
        freed = threading.Event()

        def scaled(self, *, width: int, height: int, crop: Crop | None = None) -> Rgb:
            return np.ones((height, width, 3), np.uint8)

        def __del__(self) -> None:
            self.freed.set()

    detector = Remembers()
    detector.let_through()
    workers = Workers(detector, count=1)
    workers.submit(Freed("a"), OPTIONS, stream="a").result(WAIT_S)
    assert Freed.freed.wait(WAIT_S)
    workers.close()
