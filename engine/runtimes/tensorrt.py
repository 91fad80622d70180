"""Plans of TensorRT on a GPU: one thread owns the device and keeps two inferences in flight, so that copies overlap kernels.

The thread opens the device, creates everything, and frees it in reverse order: what is freed in another thread is freed in
the wrong context (pycuda #242, TensorRT #3028). Callers wait for their answer in their own threads.
"""

import threading
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import ExitStack
from queue import Empty, SimpleQueue
from typing import Any

import msgspec
import numpy as np

from contracts.failures import Failure, FailureCode
from engine.devices.memory import Device, DeviceError
from engine.devices.opening import open_device
from engine.plans import Plan
from engine.runtime import Tensor, TensorSpec
from engine.tensorrt_engine import Slot, TensorRtEngine

SLOTS = 2
"""Inferences in flight: one is computed while the other's tensors are copied."""
POLL_S = 0.0002
"""How often the owner looks whether an inference has ended while it also waits for the next one."""
ANSWER_S_MAX = 60.0
"""How long a caller waits; beyond it the GPU hangs."""

Tensors = Mapping[str, Tensor]
Outputs = tuple[Tensor, ...]


class _Job(msgspec.Struct, frozen=True):
    tensors: Tensors
    answer: Future[Outputs]


class _Specs(msgspec.Struct, frozen=True, kw_only=True):
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    batch_max: int | None


class TensorRtRuntime:
    """A plan, deserialised. `infer` may be called by many threads."""

    engine_type = "tensorrt"
    gathers = True

    def __init__(
        self, plan: Plan, *, library: Any = None, open_gpu: Callable[[], Device] = open_device, slots: int = SLOTS
    ) -> None:
        """library: a TensorRT module, the one of the plan if None.

        Raises `Failure`: `engine_unavailable` without a GPU or memory on it, `model_corrupt` for a plan of another GPU or
        version, or one whose outputs are of a size that depends on what it sees.
        """
        self.metadata: Mapping[str, str] = plan.metadata
        self._plan = plan
        self._library = library
        self._open_gpu = open_gpu
        self._slots = slots
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()  # bounded by its callers: each waits for its answer
        self._closing = threading.Lock()
        self._is_closed = False
        self._opened = Future[_Specs]()
        self._owner = threading.Thread(target=self._own, name="tensorrt", daemon=True)
        self._owner.start()
        try:
            self._specs = self._opened.result()
        except Failure:
            self._owner.join()
            raise

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return self._specs.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return self._specs.outputs

    def infer(self, tensors: Tensors) -> Outputs:
        """The outputs, of any number of rows: more than the plan was built for are inferred in parts."""
        answers = [self._submit(part) for part in self._parts(tensors)]
        try:
            parts = [answer.result(ANSWER_S_MAX) for answer in answers]
        except TimeoutError as error:
            raise Failure(FailureCode.INFERENCE_FAILED, f"no answer within {ANSWER_S_MAX:g} s") from error
        return parts[0] if len(parts) == 1 else tuple(np.concatenate(rows) for rows in zip(*parts, strict=True))

    def close(self) -> None:
        with self._closing:
            if not self._is_closed:
                self._is_closed = True
                self._jobs.put(None)  # the last: what was asked before is still answered
        self._owner.join()

    def _submit(self, tensors: Tensors) -> Future[Outputs]:
        job = _Job(tensors, Future())
        with self._closing:
            if self._is_closed:
                raise Failure(FailureCode.ENGINE_UNAVAILABLE, "the engine is closed")
            self._jobs.put(job)
        return job.answer

    def _parts(self, tensors: Tensors) -> list[Tensors]:
        most = self._specs.batch_max
        free = [spec.name for spec in self.inputs if spec.shape[:1] == (None,)]
        if most is None or not free or len(tensors[free[0]]) <= most:
            return [tensors]
        rows = len(tensors[free[0]])
        return [
            {name: tensor[at : at + most] if name in free else tensor for name, tensor in tensors.items()}
            for at in range(0, rows, most)
        ]

    def _own(self) -> None:
        """The outermost loop of the thread: whatever ends it is told to whoever waits."""
        try:
            with ExitStack() as held:  # frees in reverse order
                self._serve(self._open(held))
        except Failure as failure:
            self._refuse(failure)
        except Exception as error:  # noqa: BLE001 - see above
            self._refuse(Failure(FailureCode.ENGINE_UNAVAILABLE, f"{type(error).__name__}: {error}"))

    def _open(self, held: ExitStack) -> deque[Slot]:
        device = self._open_gpu()
        held.callback(device.close)
        engine = TensorRtEngine(self._plan, self._library)
        held.callback(engine.free)
        slots = deque(Slot(engine, device, held) for _ in range(self._slots))
        self._opened.set_result(_Specs(inputs=engine.inputs, outputs=engine.outputs, batch_max=engine.batch_max))
        return slots

    def _serve(self, idle: deque[Slot]) -> None:
        running: deque[_Running] = deque()
        while (job := self._next(running, idle)) is not None:
            begun = _Running(idle.popleft(), job)
            if _begin(begun):
                running.append(begun)
            else:
                idle.append(begun.slot)
        for begun in running:
            _end(begun)

    def _next(self, running: "deque[_Running]", idle: deque[Slot]) -> _Job | None:
        """What to do next, once a slot is idle, None at the end; meanwhile what has ended is answered."""
        while True:
            if running and (not idle or running[0].slot.is_over):  # one: a waiting job goes before the next answer
                ended = running.popleft()
                _end(ended)
                idle.append(ended.slot)
            try:
                return self._jobs.get(timeout=POLL_S if running else None)
            except Empty:
                continue

    def _refuse(self, failure: Failure) -> None:
        """Tell everybody who waits, and who will come."""
        if not self._opened.done():
            self._opened.set_exception(failure)
        with self._closing:
            self._is_closed = True
        while not self._jobs.empty():
            job = self._jobs.get()
            if job is not None:
                job.answer.set_exception(failure)


class _Running(msgspec.Struct, frozen=True):
    slot: Slot
    job: _Job


def _begin(begun: _Running) -> bool:
    """False if it could not be started; then the caller has been told."""
    try:
        begun.slot.start(begun.job.tensors)
    except (Failure, DeviceError) as error:
        begun.slot.abandon()
        begun.job.answer.set_exception(_inference_failed(error))
        return False
    return True


def _end(begun: _Running) -> None:
    try:
        outputs = begun.slot.finish()
    except DeviceError as error:
        begun.job.answer.set_exception(_inference_failed(error))
    else:
        begun.job.answer.set_result(outputs)


def _inference_failed(error: Failure | DeviceError) -> Failure:
    return error if isinstance(error, Failure) else Failure(FailureCode.INFERENCE_FAILED, str(error))
