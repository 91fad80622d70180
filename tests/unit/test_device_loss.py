"""A GPU that is lost to its process: who hears of it, and what becomes of what was asked."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contracts.failures import Failure, FailureCode
from engine.device_loss import DeviceLoss
from engine.plans import Plan
from engine.runtimes.onnx import OnnxRuntime
from engine.runtimes.scripted import ScriptedRuntime
from engine.runtimes.tensorrt import TensorRtRuntime
from tests.fake_gpu import FakeGpu, FakeTensorRt, plan_of
from tests.processes import wait_until
from tests.tiny_models import write_colour_model, write_script

IMAGES = {"images": np.zeros((1, 3, 64, 64), np.float32)}


def test_a_loss_is_told_once_and_every_caller_hears_of_it() -> None:
    loss, heard = DeviceLoss(), list[str]()
    loss.watch(heard.append)

    failures = [loss.failure("first"), loss.failure("second")]

    assert heard == ["first"]
    assert {failure.code for failure in failures} == {FailureCode.ENGINE_UNAVAILABLE}


def test_who_asks_after_the_loss_is_told_at_once() -> None:
    loss, heard = DeviceLoss(), list[str]()
    loss.failure("first")

    loss.watch(heard.append)

    assert heard == ["first"]


class Failing:
    """A session whose inferences fail with what onnxruntime says."""

    def __init__(self, said: str) -> None:
        self._said = said

    def run(self, names: list[str], tensors: dict[str, Any]) -> list[Any]:
        raise RuntimeError(self._said)


@pytest.mark.parametrize(
    ("said", "is_lost"),
    [
        ("CudaCall(ERRTYPE) CUDA failure 700: an illegal memory access was encountered ; GPU=0 ; file=x", True),
        ("CUDA failure 719: unspecified launch failure ; GPU=0", True),
        ("CUDA failure 226: Invalid access of peer GPU memory over nvlink or a hardware error ; GPU=0", True),
        ("CUDA failure 810: MPS client terminated ; GPU=0", True),
        ("CUDA failure 2: out of memory ; GPU=0", False),
        ("CUDNN failure 5000: CUDNN_STATUS_EXECUTION_FAILED ; GPU=0", False),
        ("Got invalid dimensions for input: images", False),
    ],
)
def test_only_errors_that_stay_mean_that_the_gpu_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, is_lost: bool
) -> None:
    runtime, heard = OnnxRuntime(write_colour_model(tmp_path / "model.onnx")), list[str]()
    runtime.watch(heard.append)
    monkeypatch.setattr(runtime, "_session", Failing(said))

    with pytest.raises(Failure) as caught:
        runtime.infer(IMAGES)

    assert caught.value.code is (FailureCode.ENGINE_UNAVAILABLE if is_lost else FailureCode.INFERENCE_FAILED)
    assert heard == ([said.split(" ;", maxsplit=1)[0].removeprefix("CudaCall(ERRTYPE) ")] if is_lost else [])


def test_a_script_is_lost_from_the_inference_it_names_on(tmp_path: Path) -> None:
    runtime = ScriptedRuntime(write_script(tmp_path / "model.json", lost_from=2))
    height, width = runtime.inputs[0].shape[1:3]
    images = {"images": np.zeros((1, height, width, 3), np.uint8)}
    runtime.infer(images)  # the trial of a load
    runtime.infer(images)

    for _ in range(2):
        with pytest.raises(Failure) as caught:
            runtime.infer(images)
        assert caught.value.code is FailureCode.ENGINE_UNAVAILABLE


def test_a_gpu_that_hangs_is_lost_and_keeps_nobody_who_closes(tmp_path: Path) -> None:
    gpu, lost = FakeGpu(), list[str]()
    model = write_colour_model(tmp_path / "tiny.onnx")
    plan = Plan(name="m.engine", content=plan_of(model.read_bytes()), library="tensorrt", metadata={})
    runtime = TensorRtRuntime(plan, library=FakeTensorRt(gpu), open_gpu=gpu.open, answer_s_max=0.05)
    runtime.watch(lost.append)
    gpu.may_finish.clear()

    with pytest.raises(Failure, match="lost to this process: no answer within") as failed:
        runtime.infer(IMAGES)
    assert failed.value.code == FailureCode.ENGINE_UNAVAILABLE  # what was asked is asked again elsewhere
    assert lost == ["no answer within 0.05 s"]
    runtime.close()

    assert gpu.memory != {}
    gpu.may_finish.set()
    wait_until(lambda: gpu.log[-1] == "close")
    assert gpu.memory == {}
