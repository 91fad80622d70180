"""Whatever is in flight together, in whatever order and batches: each picture is seen as if it were alone."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.detections import Detection
from contracts.failures import Failure
from contracts.options import DetectionOptions
from engine.batching import Workers
from engine.showing import Detections
from tests.detectors import WAIT_S, GatheringRuntime, gathering_detector
from tests.pictures import ArrayPicture

FAILS_ABOVE = 150

pictures = st.tuples(
    st.integers(0, 2**32 - 1),
    st.sampled_from([(16, 16), (12, 20), (24, 24), (40, 30), (70, 45)]),
    st.sampled_from([0.0, 0.3, 0.5]),
    st.integers(1, 8),
    st.integers(0, 3),
)


def picture_of(seed: int, size: tuple[int, int]) -> ArrayPicture:
    """Noise, some of it too red for the runtime in some tiles only."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 255, (size[1], size[0], 3), np.uint8)
    if seed % 5 == 0:
        pixels[: size[1] // 2, : size[0] // 2, 0] = 255
    return ArrayPicture(pixels)


def outcome(future: Detections) -> list[Detection] | str:
    try:
        return future.result(WAIT_S)
    except Failure as failure:
        return failure.code.value


@settings(max_examples=25)
@given(
    asked=st.lists(pictures, min_size=1, max_size=12),
    workers_count=st.integers(1, 4),
    batch_max=st.integers(1, 9),
    batch=st.sampled_from([None, 1, 3]),
    is_native=st.booleans(),
)
def test_every_picture_is_seen_as_if_it_were_alone(
    asked: list[tuple[int, tuple[int, int], float, int, int]],
    workers_count: int,
    batch_max: int,
    batch: int | None,
    is_native: bool,
) -> None:
    def detector(*, gathers: bool):
        runtime = GatheringRuntime(batch=batch, fails_above=FAILS_ABOVE)
        runtime.gathers = gathers
        return gathering_detector(runtime, batch=batch, is_native=is_native)

    jobs = [
        (picture_of(seed, size), DetectionOptions(probability_threshold=score, model_batch_size=most), stream)
        for seed, size, score, most, stream in asked
    ]
    lonely = detector(gathers=False)

    def alone(picture: ArrayPicture, options: DetectionOptions) -> list[Detection] | str:
        try:
            return lonely.detect(picture, options)
        except Failure as failure:
            return failure.code.value

    workers = Workers(detector(gathers=True), count=workers_count, batch_max=batch_max)
    with ThreadPoolExecutor(4) as pool:  # one thread a stream, as videos have
        futures = list(pool.map(lambda job: workers.submit(job[0], job[1], stream=str(job[2])), jobs))
    found = [outcome(future) for future in futures]
    workers.close()

    assert found == [alone(picture, options) for picture, options, _ in jobs]
