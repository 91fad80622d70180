"""What a batch does when it is the engine that is away, and no view is at fault."""

from contextlib import closing

import numpy as np
import pytest

from contracts.failures import Failure, FailureCode
from contracts.options import DetectionOptions
from engine.batching import Workers
from engine.runtime import Tensor
from tests.detectors import SIDE_PX, GatheringRuntime, gathering_detector
from tests.pictures import ArrayPicture

FRAMES = 8


class AwayRuntime(GatheringRuntime):
    """Takes batches and never answers one."""

    def _rows(self, images: Tensor) -> Tensor:
        raise Failure(FailureCode.ENGINE_UNAVAILABLE, "refused")


def test_no_view_of_a_batch_is_shown_again_to_an_engine_that_is_away() -> None:
    runtime = AwayRuntime()
    picture = ArrayPicture(np.zeros((SIDE_PX, SIDE_PX, 3), np.uint8))

    with closing(Workers(gathering_detector(runtime), count=2)) as workers:
        futures = [workers.submit(picture, DetectionOptions(), stream="video") for _ in range(FRAMES)]
        for future in futures:
            with pytest.raises(Failure, match="refused") as caught:
                future.result(timeout=60)
            assert caught.value.code is FailureCode.ENGINE_UNAVAILABLE

    assert sum(runtime.batches) == FRAMES
