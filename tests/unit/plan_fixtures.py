"""What a plan for the fake GPU is made from."""

from pathlib import Path

import pytest

from tests.fake_gpu import FakeGpu
from tests.tiny_models import write_colour_model


@pytest.fixture
def gpu() -> FakeGpu:
    return FakeGpu()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_colour_model(tmp_path / "m.onnx")
