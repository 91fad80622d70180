"""What needs CUDA: real plans on a real GPU, beside the ONNX file they were made of."""

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from consumers.convert import machine_here
from contracts.failures import Failure
from engine.agreement import AgreementLimits, compare
from engine.conversion import BuildOrder, convert
from engine.devices.memory import Device
from engine.devices.opening import find_gpu, open_device
from engine.loading import load_detector
from engine.plans import read_plan
from engine.runtimes.onnx import OnnxRuntime
from engine.runtimes.tensorrt import TensorRtRuntime
from tests.conftest import SHARED_DATA
from tests.pictures import read_photo
from tests.tiny_models import write_colour_model

MODELS = ("yolox_nano_dynbatch.onnx", "deimv2_atto.onnx", "agpl_yolov8n_f32_dynbatch.onnx")
SIZE = 1 << 20
LIBRARY = os.environ.get("CONSUMER_TENSORRT_LIBRARY", "tensorrt")
"""As consumers are told; in the image for GPUs it is `tensorrt_rtx`."""


def why_not() -> str | None:
    """None where these tests can run."""
    try:
        return "no GPU here" if machine_here(LIBRARY) is None else None
    except Failure as failure:
        return failure.detail


pytestmark = pytest.mark.gpu
needs_tensorrt = pytest.mark.skipif(why_not() is not None, reason=f"gpu: {why_not()}")
needs_cuda = pytest.mark.skipif(find_gpu() is None, reason="gpu: no GPU here")


def always(share: float, doing: str) -> bool:
    return True


@pytest.fixture
def device() -> Iterator[Device]:
    with closing(open_device()) as opened:
        yield opened


@needs_cuda
def test_bytes_go_to_the_gpu_and_come_back(device: Device) -> None:
    stream, there = device.stream(), device.alloc(SIZE)
    source, back = device.pinned(SIZE), device.pinned(SIZE)
    source.bytes[:] = np.random.default_rng(1).integers(0, 255, SIZE, np.uint8)

    device.h2d(source, there, SIZE, stream)
    device.d2h(there, back, SIZE, stream)
    stream.sync()

    assert stream.is_done()
    np.testing.assert_array_equal(back.bytes, source.bytes)
    for held in (back, source, there, stream):
        held.free()


@needs_cuda
def test_memory_comes_back(device: Device) -> None:
    before = device.facts.free_bytes
    for _ in range(20):
        device.alloc(64 << 20).free()

    assert device.facts.free_bytes >= before - (128 << 20)


@needs_tensorrt
@pytest.mark.parametrize("rows", [1, 3, 16, 21])
def test_a_plan_computes_what_onnx_computes(tmp_path: Path, rows: int) -> None:
    model = write_colour_model(tmp_path / "tiny.onnx")
    plan = convert(BuildOrder(model=str(model), precision="fp32", library=LIBRARY), always)
    tensors = {"images": np.random.default_rng(rows).random((rows, 3, 64, 64), np.float32)}

    with closing(TensorRtRuntime(read_plan(plan))) as runtime:
        [output] = runtime.infer(tensors)

    np.testing.assert_allclose(output, OnnxRuntime(model).infer(tensors)[0], rtol=1e-2, atol=1e-2)


@needs_tensorrt
@pytest.mark.real_media
@pytest.mark.parametrize("name", MODELS)
def test_an_engine_in_half_precision_sees_what_the_model_sees(name: str, tmp_path: Path) -> None:
    model = tmp_path / name
    model.symlink_to(SHARED_DATA / "models" / name)
    plan = convert(BuildOrder(model=str(model), precision="fp16", library=LIBRARY), always)
    photos = [read_photo(path) for path in sorted((SHARED_DATA / "images" / "photos").glob("*.j*g"))]

    with closing(load_detector(plan)) as engine:
        agreement = compare(load_detector(model), engine, photos, limits=AgreementLimits(iou_min=0.9))

    assert agreement.is_enough, str(agreement)
