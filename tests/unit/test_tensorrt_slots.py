"""Callers copy into and out of TensorRT's slots in their own threads: nobody gets at the memory of another's inference."""

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from contracts.failures import Failure, FailureCode
from contracts.options import DetectionOptions
from engine.batching import Workers
from engine.detector import Detector
from engine.models import open_model
from engine.plans import Plan
from engine.runtime import Tensor
from engine.runtimes.onnx import OnnxRuntime
from engine.runtimes.tensorrt import LANES, SLOTS, TensorRtRuntime
from tests.fake_gpu import FakeGpu, FakeTensorRt, plan_of
from tests.pictures import ArrayPicture
from tests.processes import WAIT_S, wait_until
from tests.unit.plan_fixtures import gpu, model

__all__ = ["gpu", "model"]

CALLERS = SLOTS + 3
"""More than have memory at once."""


@pytest.fixture
def plan(model: Path) -> Plan:
    return Plan(name="m.engine", content=plan_of(model.read_bytes()), library="tensorrt", metadata={})


@pytest.fixture
def opened(plan: Plan, gpu: FakeGpu) -> Iterator[TensorRtRuntime]:
    with closing(TensorRtRuntime(plan, library=FakeTensorRt(gpu), open_gpu=gpu.open)) as runtime:
        yield runtime
        gpu.may_finish.set()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(CALLERS + 1) as threads:
        yield threads


def pictures(seed: int, rows: int = 1) -> dict[str, Tensor]:
    return {"images": np.random.default_rng(seed).random((rows, 3, 64, 64), np.float32)}


def all_waiting(opened: TensorRtRuntime, gpu: FakeGpu, pool: ThreadPoolExecutor) -> list[Future[tuple[Tensor, ...]]]:
    """The answers to come of more callers than have memory; the GPU, which ends nothing now, has begun what it can."""
    gpu.may_finish.clear()
    answers = [pool.submit(opened.infer, pictures(seed)) for seed in range(CALLERS)]
    wait_until(lambda: executions(gpu) == LANES)
    return answers


def executions(gpu: FakeGpu) -> int:
    return sum(entry.startswith("execute") for entry in gpu.log)


class Copied:
    """A tensor that says when it begins to be copied, and waits there."""

    def __init__(self, tensor: Tensor, *, error: Exception | None = None) -> None:
        self.dtype, self.shape, self.nbytes = tensor.dtype, tensor.shape, tensor.nbytes
        self.has_begun = threading.Event()
        self.may_go_on = threading.Event()
        self.thread: int | None = None
        self._tensor, self._error = tensor, error

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: object = None, copy: object = None) -> NDArray[np.float32]:
        self.thread = threading.get_ident()
        self.has_begun.set()
        assert self.may_go_on.wait(WAIT_S)
        if self._error is not None:
            raise self._error
        return self._tensor


def test_while_one_caller_copies_another_is_answered(
    opened: TensorRtRuntime, model: Path, pool: ThreadPoolExecutor
) -> None:
    slow = Copied(pictures(1)["images"])
    asked = pool.submit(opened.infer, {"images": slow})
    assert slow.has_begun.wait(WAIT_S)

    [other] = opened.infer(pictures(2))
    slow.may_go_on.set()

    reference = OnnxRuntime(model)
    np.testing.assert_allclose(other, reference.infer(pictures(2))[0], rtol=1e-5)
    np.testing.assert_allclose(asked.result(WAIT_S)[0], reference.infer(pictures(1))[0], rtol=1e-5)


def test_a_caller_copies_in_its_own_thread(opened: TensorRtRuntime) -> None:
    tensor = Copied(pictures(1)["images"])
    tensor.may_go_on.set()

    opened.infer({"images": tensor})

    assert tensor.thread == threading.get_ident()


def test_what_is_lent_is_not_written_while_others_infer(opened: TensorRtRuntime, model: Path) -> None:
    reference = OnnxRuntime(model)
    with ExitStack() as held:
        lent = [held.enter_context(opened.lend(pictures(seed, rows=4))) for seed in range(SLOTS - 1)]
        for seed in range(10, 20):
            opened.infer(pictures(seed, rows=4))

        for seed, [output] in enumerate(lent):
            np.testing.assert_allclose(output, reference.infer(pictures(seed, rows=4))[0], rtol=1e-5)


def test_a_caller_that_finds_no_memory_goes_on_when_another_gives_it_back(
    opened: TensorRtRuntime, gpu: FakeGpu, pool: ThreadPoolExecutor
) -> None:
    with ExitStack() as held:
        for seed in range(SLOTS):
            held.enter_context(opened.lend(pictures(seed)))
        waiting = pool.submit(opened.infer, pictures(9))
        assert not waiting.done()
        assert executions(gpu) == SLOTS

    assert len(waiting.result(WAIT_S)[0]) == 1


def test_two_inferences_are_in_flight_however_many_callers_ask(
    opened: TensorRtRuntime, gpu: FakeGpu, pool: ThreadPoolExecutor
) -> None:
    answers = all_waiting(opened, gpu, pool)
    gpu.may_finish.set()
    for answer in answers:
        answer.result(WAIT_S)

    steps = [entry for entry in gpu.log if entry.split()[0] in {"execute", "sync"}]
    assert steps[:3] == ["execute 1", "execute 2", "sync 1"]
    for at in range(len(steps)):
        begun = sum(step.startswith("execute") for step in steps[:at])
        assert 0 <= 2 * begun - at <= LANES  # what has ended is the rest


def test_the_memory_of_a_caller_that_gave_up_is_nobodys_until_the_gpu_has_done_with_it(
    plan: Plan, model: Path, gpu: FakeGpu
) -> None:
    with closing(TensorRtRuntime(plan, library=FakeTensorRt(gpu), open_gpu=gpu.open, answer_s_max=0.05)) as runtime:
        gpu.may_finish.clear()
        for seed in range(SLOTS):
            with pytest.raises(Failure, match="no answer within") as failed:
                runtime.infer(pictures(seed))
            assert failed.value.code == FailureCode.ENGINE_UNAVAILABLE
        with pytest.raises(Failure, match="no memory free within") as failed:
            runtime.infer(pictures(8))
        assert failed.value.code == FailureCode.ENGINE_UNAVAILABLE

        gpu.may_finish.set()
        wait_until(lambda: np.allclose(answered(runtime, 9), OnnxRuntime(model).infer(pictures(9))[0]))
    wait_until(lambda: gpu.pinned == 0)  # closing waits no longer than for an answer


def answered(runtime: TensorRtRuntime, seed: int) -> Tensor:
    """What it answers; NaN if it had no time, as it may on a busy machine."""
    try:
        return runtime.infer(pictures(seed))[0]
    except Failure:
        return np.full((1, 1, 6), np.nan, np.float32)


@pytest.mark.parametrize("spoilt", ["copy", "dtype", "shape", "too large"])
def test_an_input_that_cannot_be_copied_costs_no_memory_of_others(opened: TensorRtRuntime, spoilt: str) -> None:
    tensor = pictures(1)["images"]
    bad: object = {
        "copy": Copied(tensor, error=ValueError("torn")),
        "dtype": tensor.astype(np.float64),
        "shape": tensor[:, :, :32],
        "too large": pictures(1, rows=4)["images"].repeat(2, axis=2),
    }[spoilt]
    if isinstance(bad, Copied):
        bad.may_go_on.set()

    for _ in range(SLOTS + 1):
        with pytest.raises(ValueError if spoilt == "copy" else Failure):
            opened.infer({"images": bad})

    assert len(opened.infer(pictures(2))[0]) == 1


def test_what_happens_to_a_reader_is_its_own(opened: TensorRtRuntime) -> None:
    for _ in range(SLOTS + 1):
        with pytest.raises(ZeroDivisionError), opened.lend(pictures(1)):
            raise ZeroDivisionError

    assert len(opened.infer(pictures(2))[0]) == 1


def test_more_rows_than_the_plan_takes_cannot_be_lent(opened: TensorRtRuntime) -> None:
    with pytest.raises(Failure, match="outside of what the plan was built for"), opened.lend(pictures(1, rows=5)):
        pass


def test_workers_see_over_tensorrt_what_they_see_over_onnx(opened: TensorRtRuntime, model: Path) -> None:
    by_onnx = open_model(model)
    over_tensorrt = Detector(msgspec.structs.replace(by_onnx, runtime=opened))
    shown = [ArrayPicture(np.full((64, 64, 3), (200, 100, 100 + seed * 5), np.uint8)) for seed in range(30)]
    options = DetectionOptions(probability_threshold=0.0)
    workers = Workers(over_tensorrt, count=SLOTS, batch_max=4)

    with ThreadPoolExecutor(CALLERS) as streams:
        futures = list(
            streams.map(lambda at: workers.submit(shown[at], options, stream=f"s{at % 3}"), range(len(shown)))
        )
    seen = [future.result(WAIT_S)[0].confidence for future in futures]
    workers.close()

    alone = [Detector(by_onnx).detect(picture, options)[0].confidence for picture in shown]
    assert seen == pytest.approx(alone, abs=1e-5)
    assert len(set(seen)) == len(shown)


def test_closing_answers_or_refuses_everybody_who_waits(
    opened: TensorRtRuntime, gpu: FakeGpu, pool: ThreadPoolExecutor
) -> None:
    answers = all_waiting(opened, gpu, pool)
    closed = pool.submit(opened.close)
    gpu.may_finish.set()
    closed.result(WAIT_S)

    assert sum(answer.exception(WAIT_S) is None for answer in answers) >= LANES
    assert {code_of(answer) for answer in answers} <= {None, FailureCode.ENGINE_UNAVAILABLE}
    assert (gpu.memory, gpu.pinned, gpu.log[-1]) == ({}, 0, "close")


def code_of(answer: "Future[tuple[Tensor, ...]]") -> FailureCode | None:
    error = answer.exception(WAIT_S)
    assert error is None or isinstance(error, Failure)
    return None if error is None else error.code


def test_nothing_is_freed_while_a_caller_writes_or_reads(
    opened: TensorRtRuntime, gpu: FakeGpu, model: Path, pool: ThreadPoolExecutor
) -> None:
    slow = Copied(pictures(1)["images"])
    writing = pool.submit(opened.infer, {"images": slow})
    assert slow.has_begun.wait(WAIT_S)
    with opened.lend(pictures(2)) as [output]:
        closed = pool.submit(opened.close)
        wait_until(lambda: opened._is_closed)
        with pytest.raises(Failure, match="the engine is closed"):  # at once, though memory is not free
            opened.infer(pictures(3))

        np.testing.assert_allclose(output, OnnxRuntime(model).infer(pictures(2))[0], rtol=1e-5)
        assert gpu.pinned == 2 * SLOTS
    assert gpu.pinned == 2 * SLOTS  # one still writes
    slow.may_go_on.set()

    assert code_of(writing) == FailureCode.ENGINE_UNAVAILABLE
    closed.result(WAIT_S)
    assert (gpu.memory, gpu.pinned, gpu.log[-1]) == ({}, 0, "close")


def test_whatever_ends_the_owner_is_told_and_frees_everything(opened: TensorRtRuntime, gpu: FakeGpu) -> None:
    opened._jobs.put(object())

    opened._owner.join(WAIT_S)

    with pytest.raises(Failure, match="the engine is closed"):
        opened.infer(pictures(1))
    opened.close()
    assert (gpu.memory, gpu.pinned, gpu.log[-1]) == ({}, 0, "close")
