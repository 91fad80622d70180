"""What a model must do before it serves."""

from pathlib import Path

import numpy as np
import pytest

from contracts.failures import Failure, FailureCode
from engine.loading import Noise, load_detector, look_at_noise
from tests.tiny_models import write_colour_model, write_constant_model


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_model_whose_scores_are_not_finite_is_refused(tmp_path: Path, value: float) -> None:
    rows = np.zeros((1, 300, 6), np.float32)
    rows[0, 7, 4] = value
    model = write_constant_model(tmp_path / "a.onnx", {"output": rows}, metadata={"end2end": "True"})

    with pytest.raises(Failure, match="not finite") as failed:
        load_detector(model)
    assert failed.value.code is FailureCode.MODEL_CORRUPT


def test_noise_is_the_same_each_time_and_can_be_looked_at(tmp_path: Path) -> None:
    noise = Noise(width=64, height=48)

    assert noise.scaled(width=64, height=48).std() > 50
    assert (noise.scaled(width=64, height=48) == noise.scaled(width=64, height=48)).all()
    look_at_noise(load_detector(write_colour_model(tmp_path / "a.onnx")))
