"""Where the runtime gathers: who shares an inference with whom, and that nobody notices."""

import threading
from collections.abc import Iterator, Mapping

import msgspec
import numpy as np
import pytest

from contracts.detections import Detection
from contracts.failures import Failure, FailureCode
from contracts.options import DetectionOptions
from engine.batching import Workers
from engine.detector import Detector
from engine.gathering import BATCH_WAIT_S, BATCHES_MAX, INFERENCES_MAX
from engine.models import OpenModel
from engine.picture import Crop, Rgb
from engine.row_heads import RowsHead
from engine.runtime import Tensor
from engine.showing import Detections
from tests.detectors import SIDE_PX, WAIT_S, GatheringRuntime, gathering_detector, in_thread, wait_until
from tests.pictures import ArrayPicture

OPTIONS = DetectionOptions(probability_threshold=0.0, model_batch_size=64)


class Clock:
    """Time that passes when it is told to."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def runtime() -> GatheringRuntime:
    return GatheringRuntime(is_gated=True)


@pytest.fixture
def workers(runtime: GatheringRuntime) -> Iterator[Workers]:
    made = Workers(gathering_detector(runtime), count=2, batch_max=4)
    yield made
    runtime.let_through(1000)
    made.close()


def plain(red: int, *, width: int = SIDE_PX, height: int = SIDE_PX) -> ArrayPicture:
    return ArrayPicture(np.full((height, width, 3), (red, 255 - red, red // 2), np.uint8))


def alone(picture: ArrayPicture, detector: Detector, options: DetectionOptions = OPTIONS) -> list[Detection]:
    return detector.detect(picture, options)


def seen(futures: list[Detections]) -> list[list[Detection]]:
    return [future.result(WAIT_S) for future in futures]


def written(workers: Workers) -> int:
    """Full batches that could start."""
    with workers._lock:
        return sum(batch.is_full and not batch.unwritten for batch in workers._batches._open)


def occupy(workers: Workers, runtime: GatheringRuntime) -> list[Detections]:
    """Let the runtime be busy with as many inferences as it may; what comes now gathers."""
    busy: list[Detections] = []
    for number in range(INFERENCES_MAX):
        busy.append(workers.submit(plain(0), OPTIONS, stream=f"busy{number}"))
        assert runtime.started.acquire(timeout=WAIT_S)
    return busy


def test_frames_of_several_streams_are_one_inference(runtime: GatheringRuntime) -> None:
    workers = Workers(gathering_detector(runtime), count=INFERENCES_MAX + 1, batch_max=4)
    busy = occupy(workers, runtime)
    pictures = [plain(red) for red in (10, 60, 110, 160)]
    futures = [workers.submit(picture, OPTIONS, stream=f"video{at}") for at, picture in enumerate(pictures)]
    wait_until(lambda: written(workers) == 1)
    runtime.let_through(1000)

    found = seen(futures)

    seen(busy)
    workers.close()
    assert sorted(runtime.batches[:3]) == [1, 1, 4]
    assert found == [alone(picture, gathering_detector(GatheringRuntime())) for picture in pictures]


def test_a_frame_does_not_wait_for_others_for_ever() -> None:
    runtime = GatheringRuntime()
    workers = Workers(gathering_detector(runtime), count=1, batch_max=4)
    assert len(workers.submit(plain(10), OPTIONS, stream="a").result(WAIT_S)) == 1
    workers.close()
    assert runtime.batches == [1]


def test_a_frame_waits_for_others_as_long_as_it_may_and_an_image_that_is_alone_does_not() -> None:
    runtime, clock = GatheringRuntime(), Clock()
    workers = Workers(gathering_detector(runtime), count=1, batch_max=4, now_s=clock)
    frame = workers.submit(plain(10), OPTIONS, stream="a")
    wait_until(lambda: bool(workers._batches._open) and not workers._turns)
    assert not frame.done()
    clock.now_s = BATCH_WAIT_S
    frame.result(WAIT_S)

    workers.detect_image(plain(20), OPTIONS)

    workers.close()
    assert runtime.batches == [1, 1]


def test_how_long_a_frame_waits_for_others_can_be_set() -> None:
    clock = Clock()
    workers = Workers(gathering_detector(GatheringRuntime()), count=1, batch_max=4, batch_wait_s=60, now_s=clock)
    workers.submit(plain(10), OPTIONS, stream="a")
    wait_until(lambda: workers._batches.patience_s() is not None)
    clock.now_s = 59
    assert workers._batches.patience_s() == 1
    workers.close()


def test_the_tiles_of_one_image_fill_batches(runtime: GatheringRuntime) -> None:
    runtime.let_through(1000)
    workers = Workers(gathering_detector(runtime), count=3, batch_max=4)
    picture = ArrayPicture(np.random.default_rng(1).integers(0, 255, (60, 80, 3), np.uint8))
    found = workers.detect_image(picture, OPTIONS)
    workers.close()
    reference = gathering_detector(GatheringRuntime())

    assert found == alone(picture, reference)
    assert sum(runtime.batches) == len(reference.tiles(picture, OPTIONS)) > 20
    assert max(runtime.batches) == 4
    assert runtime.inferring_max <= INFERENCES_MAX


def test_no_picture_is_in_a_larger_batch_than_its_options_allow(runtime: GatheringRuntime) -> None:
    runtime.let_through(1000)
    workers = Workers(gathering_detector(runtime), count=3, batch_max=8)
    small = DetectionOptions(probability_threshold=0.0, model_batch_size=3)
    workers.detect_image(ArrayPicture(np.zeros((60, 80, 3), np.uint8)), small)
    workers.close()
    assert max(runtime.batches) <= 3


@pytest.mark.parametrize("batch", [1, 3])
def test_a_model_of_a_fixed_batch_gets_its_rows(batch: int) -> None:
    runtime = GatheringRuntime(batch=batch)
    workers = Workers(gathering_detector(runtime, batch=batch), count=2, batch_max=8)
    pictures = [plain(red) for red in range(0, 250, 25)]
    found = seen([workers.submit(picture, OPTIONS, stream=str(at % 4)) for at, picture in enumerate(pictures)])
    workers.close()
    assert set(runtime.batches) == {batch}
    assert found == [alone(picture, gathering_detector(GatheringRuntime())) for picture in pictures]


@pytest.mark.parametrize(("side_px", "rows"), [(640, 40), (1280, 10), (2560, 2), (8192, 1)])
def test_large_pictures_are_gathered_as_far_as_there_is_memory(side_px: int, rows: int) -> None:
    """32 of the largest would be 26 GB, which a worker cannot have, and then nobody would hear of its picture again."""
    runtime = GatheringRuntime()
    small = gathering_detector(runtime).model
    rule = msgspec.structs.replace(small.input, width=side_px, height=side_px, dtype="float32")
    card = msgspec.structs.replace(small, input=rule)

    gathering = Detector(OpenModel(runtime=runtime, head=RowsHead(), card=card)).gathering

    assert gathering is not None
    assert gathering.rows_max == rows


def test_only_views_of_one_size_share_an_inference() -> None:
    runtime = GatheringRuntime()
    workers = Workers(gathering_detector(runtime, is_native=True), count=2, batch_max=8)
    pictures = [plain(20 * at, width=12 + 4 * (at % 3), height=12) for at in range(12)]
    found = seen([workers.submit(picture, OPTIONS, stream=str(at % 4)) for at, picture in enumerate(pictures)])
    workers.close()
    assert {shape[2] for shape in runtime.shapes} == {12, 16, 20}
    reference = gathering_detector(GatheringRuntime(), is_native=True)
    assert found == [alone(picture, reference) for picture in pictures]


def test_a_batch_with_a_bad_picture_is_tried_again_one_by_one(workers: Workers, runtime: GatheringRuntime) -> None:
    runtime._fails_above = 200
    busy = occupy(workers, runtime)
    futures = [workers.submit(plain(red), OPTIONS, stream=str(red)) for red in (10, 250, 20, 30)]
    runtime.let_through(1000)
    seen(busy)
    good, bad, *others = futures

    with pytest.raises(Failure) as caught:
        bad.result(WAIT_S)
    assert caught.value.code is FailureCode.INFERENCE_FAILED
    assert [len(future.result(WAIT_S)) for future in (good, *others)] == [1, 1, 1]


class RunsOver(GatheringRuntime):
    """Gives no number for red pictures, as half precision that has run over; of green ones it has no rows to give."""

    def infer(self, tensors: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        (rows,) = super().infer(tensors)
        reds = np.array(self.reds[-1])
        rows[reds > 200] = np.nan
        return (rows[:, :0] if (reds < 50).all() else rows,)


def test_a_picture_of_which_a_model_gives_no_number_fails_alone() -> None:
    runtime = RunsOver(is_gated=True)
    workers = Workers(gathering_detector(runtime), count=INFERENCES_MAX + 1, batch_max=4)
    busy = occupy(workers, runtime)
    good, bad = (workers.submit(plain(red), OPTIONS, stream=str(red)) for red in (100, 250))
    wait_until(lambda: bool(workers._batches._open) and not workers._turns)
    runtime.let_through(1000)

    with pytest.raises(Failure, match="finite number") as caught:
        bad.result(WAIT_S)
    assert caught.value.code is FailureCode.INFERENCE_FAILED
    assert [len(found) for found in seen([good, *busy])] == [1, 0, 0]
    workers.close()


def test_a_picture_that_cannot_be_scaled_fails_alone(workers: Workers, runtime: GatheringRuntime) -> None:
    class Broken(ArrayPicture):
        def scaled(self, *, width: int, height: int, crop: Crop | None = None) -> Rgb:
            raise ZeroDivisionError("broken")

    runtime.let_through(1000)
    broken = workers.submit(Broken(plain(9).pixels), OPTIONS, stream="a")
    whole = workers.submit(plain(9), OPTIONS, stream="b")

    with pytest.raises(Failure, match="ZeroDivisionError: broken"):
        broken.result(WAIT_S)
    assert len(whole.result(WAIT_S)) == 1


def test_each_picture_has_its_own_threshold(workers: Workers, runtime: GatheringRuntime) -> None:
    busy = occupy(workers, runtime)
    thresholds = [0.0, 0.4, 0.6, 0.3]
    futures = [
        workers.submit(
            plain(255),
            DetectionOptions(probability_threshold=threshold, model_batch_size=64),
            stream=str(threshold),
        )
        for threshold in thresholds
    ]
    runtime.let_through(1000)

    assert [len(found) for found in seen(futures)] == [1, 1, 0, 1]  # its score is 127 / 256
    seen(busy)


def test_an_image_is_in_the_next_batch_though_full_ones_wait(runtime: GatheringRuntime) -> None:
    workers = Workers(gathering_detector(runtime), count=4, batch_max=2)
    busy = occupy(workers, runtime)
    frames = [workers.submit(plain(5), OPTIONS, stream=str(number)) for number in range(6)]
    wait_until(lambda: written(workers) == BATCHES_MAX - INFERENCES_MAX)
    image = in_thread(lambda: workers.detect_image(plain(9), OPTIONS))
    wait_until(lambda: written(workers) > BATCHES_MAX - INFERENCES_MAX)
    runtime.let_through(1)  # one that is running ends
    wait_until(lambda: len(runtime.reds) > INFERENCES_MAX)
    assert 9 in runtime.reds[INFERENCES_MAX]
    runtime.let_through(1000)
    image.join(WAIT_S)
    seen([*busy, *frames])
    workers.close()


def test_the_batches_are_bounded_whatever_waits(workers: Workers, runtime: GatheringRuntime) -> None:
    threads = [
        in_thread(lambda stream=str(number): [workers.submit(plain(3), OPTIONS, stream=stream) for _ in range(5)])
        for number in range(8)
    ]
    for _ in range(INFERENCES_MAX):
        assert runtime.started.acquire(timeout=WAIT_S)
    threading.Event().wait(0.05)
    with workers._lock:
        assert workers._batches.running == INFERENCES_MAX
        assert len(workers._batches._open) <= BATCHES_MAX - INFERENCES_MAX
        assert sum(workers._in_flight.values()) <= 8 * 5
    runtime.let_through(1000)
    for thread in threads:
        thread.join(WAIT_S)
    assert not runtime.started.acquire(blocking=False) or max(runtime.batches) <= 4


def test_closing_cancels_what_is_gathered_and_not_yet_started(runtime: GatheringRuntime) -> None:
    workers = Workers(gathering_detector(runtime), count=INFERENCES_MAX + 1, batch_max=4)
    running = occupy(workers, runtime)
    gathered = workers.submit(plain(1), OPTIONS, stream="a")
    wait_until(lambda: bool(workers._batches._open) and not workers._turns)
    closing = in_thread(workers.close)
    runtime.let_through(1000)
    closing.join(WAIT_S)
    assert not closing.is_alive()
    assert gathered.cancelled()
    assert [future.done() for future in running] == [True] * INFERENCES_MAX
    assert runtime.is_closed
