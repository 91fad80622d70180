"""A detector is replaced while it is used: nothing fails, and the one before is closed after its last picture."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from contracts.failures import Failure, FailureCode
from contracts.options import DetectionOptions
from engine.batching import Workers
from tests.detectors import WAIT_S, Gated, GatheringRuntime, Named, gathering_detector, in_thread, wait_until
from tests.finders import RedFinder
from tests.pictures import ArrayPicture

OPTIONS = DetectionOptions(probability_threshold=0.0)
REDDISH = (250, 20, 60)


def test_what_is_in_flight_ends_on_the_detector_before_and_the_next_picture_is_shown_to_the_new_one() -> None:
    before, after = Gated(), Gated()
    workers = Workers(before, count=1)
    running = workers.submit(Named("a1", views=2), OPTIONS, stream="a")
    assert before.started.acquire(timeout=WAIT_S)

    workers.use(after)
    later = workers.submit(Named("a2"), OPTIONS, stream="a")

    assert workers.detector is after
    assert not before.is_closed
    before.let_through(2)
    running.result(WAIT_S)
    wait_until(lambda: before.is_closed)
    after.let_through(1)
    later.result(WAIT_S)
    workers.close()
    assert (before.looked_at, after.looked_at) == (["a1", "a1"], ["a2"])
    assert after.is_closed


def test_a_detector_that_nobody_uses_is_closed_at_once() -> None:
    before, after = Gated(), Gated()
    workers = Workers(before, count=1)
    workers.use(after)
    assert before.is_closed
    workers.close()


def test_a_detector_that_comes_too_late_is_closed() -> None:
    late = Gated()
    workers = Workers(Gated(), count=1)
    workers.close()
    workers.use(late)
    assert late.is_closed


def test_a_forgotten_picture_does_not_keep_the_detector_before() -> None:
    before = Gated()
    workers = Workers(before, count=1)
    workers.submit(Named("a1"), OPTIONS, stream="a")
    assert before.started.acquire(timeout=WAIT_S)
    waiting = workers.submit(Named("a2"), OPTIONS, stream="a")
    workers.use(Gated())
    workers.forget("a")
    before.let_through()
    wait_until(lambda: before.is_closed)
    assert waiting.cancelled()
    workers.close()


@pytest.mark.parametrize("gathers", [False, True])
def test_nothing_fails_while_detectors_are_swapped_under_load(gathers: bool) -> None:
    made: list[RedFinder | GatheringRuntime] = []

    def detector():
        if not gathers:
            made.append(RedFinder())
            return made[-1]
        runtime = GatheringRuntime()
        made.append(runtime)
        return gathering_detector(runtime)

    workers = Workers(detector(), count=4, batch_max=4)
    red = ArrayPicture(np.full((16, 16, 3), REDDISH, np.uint8))
    tiled = ArrayPicture(np.full((60, 80, 3), REDDISH, np.uint8))
    is_over = threading.Event()

    def submits(stream: int) -> int:
        done = 0
        while not is_over.is_set() and done < 2000:
            done += len(workers.submit(red, OPTIONS, stream=str(stream)).result(WAIT_S))
        return done

    def asks(_: int) -> int:
        done = 0
        while not is_over.is_set() and done < 2000:
            done += len(workers.detect_image(tiled, OPTIONS)) > 0
        return done

    with ThreadPoolExecutor(12) as pool:
        counts = [pool.submit(submits, number) for number in range(8)] + [pool.submit(asks, 0) for _ in range(4)]
        for _ in range(20):
            threading.Event().wait(0.01)
            workers.use(detector())
        is_over.set()
        assert all(count.result(WAIT_S) > 0 for count in counts)
    wait_until(lambda: [each.is_closed for each in made] == [True] * 20 + [False])
    workers.close()
    assert all(each.is_closed for each in made)


def test_an_image_is_interrupted_between_two_views() -> None:
    detector, stop = Gated(), threading.Event()
    workers = Workers(detector, count=1)
    raised: list[Failure] = []

    def look() -> None:
        try:
            workers.detect_image(Named("image", views=100), OPTIONS, stop=stop)
        except Failure as failure:
            raised.append(failure)

    looking = in_thread(look)
    assert detector.started.acquire(timeout=WAIT_S)
    stop.set()
    detector.let_through()
    looking.join(WAIT_S)
    assert [failure.code for failure in raised] == [FailureCode.CANCELLED]
    assert detector.looked_at == ["image"]
    workers.close()


def test_the_views_of_one_picture_are_looked_at_side_by_side() -> None:
    detector = Gated()
    workers = Workers(detector, count=3)
    frame = workers.submit(Named("a", views=5), OPTIONS, stream="a")
    for _ in range(3):
        assert detector.started.acquire(timeout=WAIT_S)
    assert detector.looking == 3
    detector.let_through(5)
    assert frame.result(WAIT_S) == []
    workers.close()


def test_a_turn_is_one_view_so_a_tiled_video_gets_no_more_than_its_share() -> None:
    detector = Gated()
    workers = Workers(detector, count=1)
    workers.submit(Named("first"), OPTIONS, stream="first")
    assert detector.started.acquire(timeout=WAIT_S)
    tiled = workers.submit(Named("tiled", views=4), OPTIONS, stream="a")
    plain = [workers.submit(Named("plain"), OPTIONS, stream="b") for _ in range(2)]
    detector.let_through(10)
    for future in (tiled, *plain):
        future.result(WAIT_S)
    workers.close()
    assert detector.looked_at == ["first", "tiled", "plain", "tiled", "plain", "tiled", "tiled"]


def test_a_small_image_does_not_wait_for_all_tiles_of_a_large_one() -> None:
    detector = Gated()
    workers = Workers(detector, count=1)
    large = in_thread(lambda: workers.detect_image(Named("large", views=6), OPTIONS))
    assert detector.started.acquire(timeout=WAIT_S)
    small = in_thread(lambda: workers.detect_image(Named("small"), OPTIONS))
    wait_until(lambda: len(workers._turns._images) == 2)
    detector.let_through(10)
    large.join(WAIT_S)
    small.join(WAIT_S)
    workers.close()
    assert detector.looked_at.index("small") <= 2


def test_one_bad_tile_fails_its_picture_and_no_further_tile_is_looked_at() -> None:
    detector = Gated()
    workers = Workers(detector, count=1)
    bad = workers.submit(Named("bad", views=5), OPTIONS, stream="a")
    good = workers.submit(Named("good", views=2), OPTIONS, stream="b")
    detector.let_through(10)
    with pytest.raises(Failure, match="bad"):
        bad.result(WAIT_S)
    assert good.result(WAIT_S) == []
    workers.close()
    assert detector.looked_at.count("bad") <= 2
