"""TensorRT's runtime over a GPU that is a dictionary: order of calls, two inferences in flight, freeing, faults."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import onnx
import pytest

from contracts.failures import Failure, FailureCode
from engine.plans import Plan
from engine.runtime import Tensor
from engine.runtimes.onnx import OnnxRuntime
from engine.runtimes.tensorrt import LANES, SLOTS, TensorRtRuntime
from engine.tensorrt_library import logger_of, made
from tests.fake_gpu import FakeDevice, FakeGpu, FakeTensorRt, plan_of
from tests.processes import wait_until
from tests.tiny_models import write_colour_model
from tests.unit.plan_fixtures import gpu, model

__all__ = ["gpu", "model"]


def plan(model: Path) -> Plan:
    return Plan(name="m.engine", content=plan_of(model.read_bytes()), library="tensorrt", metadata={"end2end": "True"})


@pytest.fixture
def opened(model: Path, gpu: FakeGpu) -> Iterator[TensorRtRuntime]:
    with closing(TensorRtRuntime(plan(model), library=FakeTensorRt(gpu), open_gpu=gpu.open)) as runtime:
        yield runtime


def pictures(rows: int, seed: int = 0) -> dict[str, Tensor]:
    return {"images": np.random.default_rng(seed).random((rows, 3, 64, 64), np.float32)}


def assert_nothing_is_left(gpu: FakeGpu) -> None:
    assert gpu.memory == {}
    assert gpu.pinned == 0
    assert gpu.log[-1] == "close"


def test_a_gpu_that_hangs_while_an_engine_is_opened_holds_nobody_up_and_is_let_go_when_it_goes_on(
    model: Path, gpu: FakeGpu
) -> None:
    goes_on = threading.Event()

    def open_gpu() -> FakeDevice:
        goes_on.wait()
        return gpu.open()

    with pytest.raises(Failure, match=r"not open after 0\.05 s") as failure:
        TensorRtRuntime(plan(model), library=FakeTensorRt(gpu), open_gpu=open_gpu, open_s_max=0.05)
    assert failure.value.code is FailureCode.ENGINE_UNAVAILABLE

    goes_on.set()
    wait_until(lambda: gpu.log[-1:] == ["close"])
    assert_nothing_is_left(gpu)


def test_a_plan_says_what_it_takes_and_gives(opened: TensorRtRuntime) -> None:
    [image], [output] = opened.inputs, opened.outputs

    assert (image.name, image.shape, image.dtype) == ("images", (None, 3, 64, 64), "float32")
    assert (output.name, output.shape) == ("output", (None, 1, 6))
    assert (opened.engine_type, opened.gathers, opened.metadata) == ("tensorrt", True, {"end2end": "True"})
    assert opened.batch_max == 4  # no more pictures are gathered: `engine/models.py` asks for it


@pytest.mark.parametrize("rows", [1, 3, 4, 5, 11])
def test_any_number_of_rows_gives_what_the_model_gives(opened: TensorRtRuntime, model: Path, rows: int) -> None:
    tensors = pictures(rows)

    [output] = opened.infer(tensors)

    np.testing.assert_allclose(output, OnnxRuntime(model).infer(tensors)[0], rtol=1e-5)


def test_answers_are_not_overwritten_by_later_ones(opened: TensorRtRuntime) -> None:
    [first] = opened.infer(pictures(2))
    kept = first.copy()
    for seed in range(1, 5):
        opened.infer(pictures(2, seed))

    np.testing.assert_array_equal(first, kept)


def test_many_callers_get_their_own_answers(opened: TensorRtRuntime, model: Path) -> None:
    seeds = range(40)
    with ThreadPoolExecutor(8) as callers:
        answers = list(callers.map(lambda seed: opened.infer(pictures(1, seed))[0], seeds))

    reference = OnnxRuntime(model)
    for seed, answer in zip(seeds, answers, strict=True):
        np.testing.assert_allclose(answer, reference.infer(pictures(1, seed))[0], rtol=1e-5)


def test_the_second_inference_starts_while_the_first_runs_and_the_third_waits(
    opened: TensorRtRuntime, gpu: FakeGpu
) -> None:
    gpu.may_finish.clear()
    with ThreadPoolExecutor(3) as callers:
        answers = [callers.submit(opened.infer, pictures(1, seed)) for seed in range(3)]
        wait_until(lambda: executions(gpu) == 2 and opened._jobs.qsize() == 1)
        assert not any(answer.done() for answer in answers)
        gpu.may_finish.set()
        for answer in answers:
            answer.result(10)

    assert [entry for entry in gpu.log if entry.split()[0] in {"execute", "sync"}][:4] == [
        "execute 1", "execute 2", "sync 1", "execute 1",
    ]  # fmt: skip


def executions(gpu: FakeGpu) -> int:
    return sum(entry.startswith("execute") for entry in gpu.log)


def test_closing_answers_what_was_asked_and_frees_in_reverse_order(model: Path, gpu: FakeGpu) -> None:
    runtime = TensorRtRuntime(plan(model), library=FakeTensorRt(gpu), open_gpu=gpu.open)
    gpu.may_finish.clear()
    with ThreadPoolExecutor(3) as callers:
        answers = [callers.submit(runtime.infer, pictures(1, seed)) for seed in range(3)]
        wait_until(lambda: executions(gpu) == 2)
        closed = callers.submit(runtime.close)
        gpu.may_finish.set()
        closed.result(10)
        assert sum(answer.exception() is None for answer in answers) >= 2  # the third came before or after the closing

    assert_nothing_is_left(gpu)
    freed = [entry for entry in gpu.log if entry.startswith(("free", "close"))]
    of_a_lane = ["free device memory"] * 2 + ["free stream", "free context"]
    slots = ["free pinned memory"] * 2 * SLOTS
    assert freed == [*slots, *of_a_lane * LANES, "free engine", "free runtime", "close"]


def test_a_closed_engine_refuses_and_may_be_closed_again(opened: TensorRtRuntime) -> None:
    opened.close()
    opened.close()

    with pytest.raises(Failure) as refused:
        opened.infer(pictures(1))
    assert refused.value.code == FailureCode.ENGINE_UNAVAILABLE


def test_a_plan_of_another_version_is_refused_with_what_tensorrt_says(model: Path, gpu: FakeGpu) -> None:
    broken = Plan(name="m.engine", content=b"other", library="tensorrt", metadata={})

    with pytest.raises(Failure, match="is no plan for this GPU: Error 1: magic tag does not match") as refused:
        TensorRtRuntime(broken, library=FakeTensorRt(gpu), open_gpu=gpu.open)
    assert refused.value.code == FailureCode.MODEL_CORRUPT
    assert_nothing_is_left(gpu)


def test_a_plan_for_which_the_gpu_has_no_memory_is_not_called_corrupt(model: Path, gpu: FakeGpu) -> None:
    """It would be dropped, and built again each time."""
    with pytest.raises(Failure, match=r"was not loaded: .* \(out of memory\)") as refused:
        TensorRtRuntime(plan(model), library=FakeTensorRt(gpu, weights_bytes=2 << 30), open_gpu=gpu.open)
    assert refused.value.code == FailureCode.ENGINE_UNAVAILABLE
    assert_nothing_is_left(gpu)


def test_a_driver_too_old_for_tensorrt_is_told_and_its_runtime_neither_used_nor_freed(
    model: Path, gpu: FakeGpu
) -> None:
    """TensorRT 11.4 gives one all the same, and its use and its destructor end the process."""
    library = FakeTensorRt(gpu)
    library.is_driver_too_old = True

    with pytest.raises(Failure, match="CUDA initialization failure with error: 35") as refused:
        TensorRtRuntime(plan(model), library=library, open_gpu=gpu.open)
    assert refused.value.code == FailureCode.ENGINE_UNAVAILABLE
    assert_nothing_is_left(gpu)
    assert "free runtime" not in gpu.log


def test_a_plan_of_a_type_that_numpy_does_not_know_is_refused_and_freed(model: Path, gpu: FakeGpu) -> None:
    with pytest.raises(Failure, match="Could not resolve TensorRT datatype") as refused:
        TensorRtRuntime(plan(model), library=FakeTensorRt(gpu, dtype="bfloat16"), open_gpu=gpu.open)
    assert refused.value.code == FailureCode.MODEL_CORRUPT
    assert_nothing_is_left(gpu)  # though the failure is still held


def test_a_plan_that_holds_a_plugin_of_nvidia_is_loaded(model: Path, gpu: FakeGpu) -> None:
    named = onnx.load(model)
    named.graph.doc_string = "EfficientNMS_TRT"
    onnx.save(named, model)

    TensorRtRuntime(plan(model), library=FakeTensorRt(gpu), open_gpu=gpu.open).close()


@pytest.mark.parametrize("memory_max_bytes", [100, 3 * 4 * 64 * 64 * 4 + 200, 3 * 4 * 64 * 64 * 4 * 2 + 50])
def test_a_card_without_enough_memory_is_left_as_it_was(model: Path, memory_max_bytes: int) -> None:
    gpu = FakeGpu(memory_max_bytes=memory_max_bytes)

    with pytest.raises(Failure, match="OUT_OF_MEMORY") as refused:
        TensorRtRuntime(plan(model), library=FakeTensorRt(gpu), open_gpu=gpu.open)
    assert refused.value.code == FailureCode.ENGINE_UNAVAILABLE
    assert_nothing_is_left(gpu)


def test_without_memory_for_the_second_context_the_first_is_freed(model: Path, gpu: FakeGpu) -> None:
    with pytest.raises(Failure, match="Error 2: out of memory"):
        TensorRtRuntime(plan(model), library=FakeTensorRt(gpu, contexts_max=1), open_gpu=gpu.open)
    assert_nothing_is_left(gpu)


def test_an_inference_that_does_not_start_fails_alone(model: Path, gpu: FakeGpu) -> None:
    library = FakeTensorRt(gpu)
    with closing(TensorRtRuntime(plan(model), library=library, open_gpu=gpu.open)) as runtime:
        library.refuses_to_start = True
        with pytest.raises(Failure, match="Error 1: enqueue failed") as failed:
            runtime.infer(pictures(1))
        library.refuses_to_start = False

        assert failed.value.code == FailureCode.INFERENCE_FAILED
        assert len(runtime.infer(pictures(2))[0]) == 2


def test_a_lost_gpu_is_told_of_once_and_can_be_closed(opened: TensorRtRuntime, gpu: FakeGpu) -> None:
    lost = list[str]()
    opened.watch(lost.append)
    gpu.is_lost = True

    for _ in range(3):
        with pytest.raises(Failure, match="ILLEGAL_ADDRESS") as failed:
            opened.infer(pictures(1))
        assert failed.value.code == FailureCode.ENGINE_UNAVAILABLE
    assert lost == ["CUDA_ERROR_ILLEGAL_ADDRESS"]


def test_an_inference_that_the_gpu_refuses_fails_alone(opened: TensorRtRuntime, gpu: FakeGpu) -> None:
    lost = list[str]()
    opened.watch(lost.append)
    gpu.fails_once = True

    with pytest.raises(Failure, match="OUT_OF_MEMORY") as failed:
        opened.infer(pictures(1))

    assert failed.value.code == FailureCode.INFERENCE_FAILED
    assert len(opened.infer(pictures(2))[0]) == 2
    assert lost == []


@pytest.mark.parametrize("calls", [0, 1], ids=["execute", "shape of the answer"])
def test_whatever_one_inference_raises_is_its_callers_and_the_next_one_goes_on(
    model: Path, gpu: FakeGpu, calls: int
) -> None:
    library = FakeTensorRt(gpu)
    with closing(TensorRtRuntime(plan(model), library=library, open_gpu=gpu.open)) as runtime:
        library.raises_after = calls
        with pytest.raises(Failure, match="MemoryError: no room") as failed:
            runtime.infer(pictures(1))

        assert failed.value.code == FailureCode.INFERENCE_FAILED
        assert len(runtime.infer(pictures(2))[0]) == 2


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda tensors: {"images": tensors["images"].astype(np.float64)}, "float32 is wanted, not float64"),
        (lambda tensors: {"images": tensors["images"][:, :, :32]}, r"\[1, 3, 32, 64\]: outside of what the plan"),
        (lambda tensors: {"images": tensors["images"], "more": tensors["images"]}, None),
    ],
)
def test_a_tensor_that_does_not_fit_is_refused(
    opened: TensorRtRuntime, spoil: Callable[[dict[str, Tensor]], dict[str, Tensor]], said: str | None
) -> None:
    if said is None:
        assert len(opened.infer(spoil(pictures(1)))) == 1
        return
    with pytest.raises(Failure, match=said):
        opened.infer(spoil(pictures(1)))
    assert len(opened.infer(pictures(1))) == 1


def test_a_batch_of_fixed_size_is_one_inference(tmp_path: Path, gpu: FakeGpu) -> None:
    model = write_colour_model(tmp_path / "two.onnx", batch=2)
    with closing(TensorRtRuntime(plan(model), library=FakeTensorRt(gpu), open_gpu=gpu.open)) as runtime:
        assert runtime.inputs[0].shape == (2, 3, 64, 64)
        assert runtime.batch_max is None
        assert len(runtime.infer(pictures(2))[0]) == 2


def test_without_a_gpu_the_runtime_says_so(model: Path) -> None:
    with pytest.raises(Failure) as refused:
        TensorRtRuntime(plan(model))
    assert refused.value.code == FailureCode.ENGINE_UNAVAILABLE


def test_no_thread_is_left(model: Path, gpu: FakeGpu) -> None:
    before = threading.active_count()
    TensorRtRuntime(plan(model), library=FakeTensorRt(gpu), open_gpu=gpu.open).close()

    assert threading.active_count() == before


def test_all_plans_of_a_library_have_one_logger_with_the_complaints_of_each_thread() -> None:
    library = FakeTensorRt(FakeGpu())
    logger = logger_of(library)

    logger.log(library.ILogger.Severity.ERROR, "mine\nand long")
    with ThreadPoolExecutor(1) as another:
        another.submit(logger.log, library.ILogger.Severity.ERROR, "theirs").result()

    assert logger_of(library) is logger
    assert logger.complaints.taken("none") == "mine and long"
    assert logger.complaints.taken("none") == "none"

    logger.log(library.ILogger.Severity.ERROR, "Error Code 1: Cuda Runtime (out of memory)")
    assert made(library.Runtime, logger) is not None  # that was said of something else
