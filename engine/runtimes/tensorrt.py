"""Plans of TensorRT on a GPU: one thread owns the device and keeps two inferences in flight, so that copies overlap kernels.

The thread opens the device, creates everything, makes every call of CUDA and TensorRT, and frees in reverse order: what is
freed in another thread is freed in the wrong context (pycuda #242, TensorRT #3028). Callers copy tensors into pinned memory
and read outputs there in their own threads: one thread that did it for all was slower than the GPU (benchmarks/RESULTS.md).
"""

import threading
from collections import deque
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, suppress
from queue import Empty, LifoQueue, SimpleQueue
from typing import Any

import msgspec
import numpy as np

from contracts.failures import Failure, FailureCode
from engine.device_loss import DeviceLoss
from engine.devices.memory import Device, DeviceError
from engine.devices.opening import open_device
from engine.plans import Plan
from engine.runtime import Tensor, TensorSpec
from engine.tensorrt_engine import TensorRtEngine
from engine.tensorrt_lanes import Lane, Shapes, Slot

LANES = 2
"""Inferences that the GPU has: one is computed while the other's tensors are copied over the bus."""
SLOTS = LANES + 2
"""Inferences that have memory on the host: two more are written or read by their callers. Who finds no slot waits for one."""
POLL_S = 0.0002
"""How often the owner looks whether an inference has ended while it also waits for the next one."""
OPEN_S_MAX = 900.0
"""How long an engine may take to be opened, which compiles it where its library is RTX; beyond it the GPU hangs."""
ANSWER_S_MAX = 60.0
"""How long a caller waits for a slot, then for the GPU, and who closes for both; beyond it the GPU hangs, which is a loss."""

Tensors = Mapping[str, Tensor]
Outputs = tuple[Tensor, ...]


class _Job(msgspec.Struct, frozen=True):
    slot: Slot
    shapes: Shapes
    answer: Future[Outputs]
    """Done when the GPU has no more to do with the slot; the outputs are in there."""


class _Specs(msgspec.Struct, frozen=True, kw_only=True):
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    batch_max: int | None


class TensorRtRuntime:
    """A plan, deserialised. `infer` may be called by many threads."""

    engine_type = "tensorrt"
    gathers = True

    def __init__(
        self,
        plan: Plan,
        *,
        library: Any = None,
        open_gpu: Callable[[], Device] = open_device,
        open_s_max: float = OPEN_S_MAX,
        answer_s_max: float = ANSWER_S_MAX,
    ) -> None:
        """library: a TensorRT module, the one of the plan if None.

        Raises `Failure`: `engine_unavailable` without a GPU that answers or memory on it, `model_corrupt` for a plan of another
        GPU or version, or one whose outputs are of a size that depends on what it sees.
        """
        self.metadata: Mapping[str, str] = plan.metadata
        self._plan = plan
        self._library = library
        self._open_gpu = open_gpu
        self._answer_s_max = answer_s_max
        self._free: LifoQueue[Slot | None] = LifoQueue()
        """At most `SLOTS`, the last used first: a cache may still have it. None, which stays, when there will be no more."""
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()  # a slot each
        self._closing = threading.Lock()
        self._is_closed = False
        self._loss = DeviceLoss()
        self._opened = Future[_Specs]()
        self._owner = threading.Thread(target=self._own, name="tensorrt", daemon=True)
        self._owner.start()
        try:
            self._specs = self._opened.result(open_s_max)
        except TimeoutError as error:
            self._jobs.put(None)  # should it be opened after all, it is freed
            raise Failure(FailureCode.ENGINE_UNAVAILABLE, f"{plan.name} is not open after {open_s_max:g} s") from error
        except Failure:
            self._owner.join()
            raise

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return self._specs.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return self._specs.outputs

    @property
    def batch_max(self) -> int | None:
        """Rows that the plan was built for: `lend` takes no more, `infer` cuts what is larger and puts it together."""
        return self._specs.batch_max

    def infer(self, tensors: Tensors) -> Outputs:
        """The outputs, copied, of any number of rows: more than the plan was built for are inferred in parts, one by one."""
        parts = [self._infer(part) for part in self._parts(tensors)]
        return parts[0] if len(parts) == 1 else tuple(np.concatenate(rows) for rows in zip(*parts, strict=True))

    @contextmanager
    def lend(self, tensors: Tensors) -> Generator[Outputs]:
        """The outputs where the GPU wrote them, for as long as the block: afterwards another inference has that memory.

        tensors: of no more rows than `batch_max`. Raises `Failure`: `inference_failed`, `engine_unavailable` if closed or lost.
        """
        slot, answer = self._taken(), None
        try:
            answer = self._ask(slot, slot.write(tensors))
            yield self._awaited(answer)
        finally:
            if answer is None:
                self._free.put(slot)
            else:  # at once, or when the GPU has done what this caller no longer waits for
                answer.add_done_callback(lambda _: self._free.put(slot))

    def watch(self, on_lost: Callable[[str], object]) -> None:
        """Be told once if the GPU is lost to this process: see `DeviceLoss`."""
        self._loss.watch(on_lost)

    def close(self) -> None:
        """Answer what was asked before, wait for the callers that still read, and free everything.

        A GPU that hangs frees nothing before the process ends.
        """
        with self._closing:
            if not self._is_closed:
                self._is_closed = True
                self._jobs.put(None)  # the last
        self._owner.join(self._answer_s_max)

    def _infer(self, tensors: Tensors) -> Outputs:
        with self.lend(tensors) as outputs:
            try:
                return tuple(output.copy() for output in outputs)
            except MemoryError as error:
                raise _inference_failed(error) from error

    def _taken(self) -> Slot:
        if self._is_closed:
            raise _closed()
        try:
            slot = self._free.get(timeout=self._answer_s_max)
        except Empty as error:
            raise self._loss.failure(f"no memory free within {self._answer_s_max:g} s") from error
        if slot is None:
            self._free.put(None)  # for the next who waits
            raise _closed()
        return slot

    def _ask(self, slot: Slot, shapes: Shapes) -> Future[Outputs]:
        job = _Job(slot, shapes, Future())
        with self._closing:
            if self._is_closed:
                raise _closed()
            self._jobs.put(job)
        return job.answer

    def _awaited(self, answer: Future[Outputs]) -> Outputs:
        try:
            return answer.result(self._answer_s_max)
        except TimeoutError as error:
            raise self._loss.failure(f"no answer within {self._answer_s_max:g} s") from error

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
        """The outermost loop of the thread: whatever ends it is told to whoever waits, then all is freed in reverse order."""
        with suppress(DeviceError), ExitStack() as held:  # a lost GPU refuses to free, too
            try:
                self._serve(self._open(held))
            except Failure as failure:
                self._refuse(failure)
            except Exception as error:  # noqa: BLE001 - see above
                self._refuse(Failure(FailureCode.ENGINE_UNAVAILABLE, f"{type(error).__name__}: {error}"))

    def _open(self, held: ExitStack) -> deque[Lane]:
        device = self._open_gpu()
        held.callback(device.close)
        engine = TensorRtEngine(self._plan, self._library)
        held.callback(engine.free)
        lanes = deque(Lane(engine, device, held) for _ in range(LANES))
        for slot in [Slot(engine.inputs, lanes[0].room_bytes, device, held) for _ in range(SLOTS)]:
            self._free.put(slot)
        held.callback(self._take_all)  # the first of these: nothing is freed while a caller reads or writes
        self._opened.set_result(_Specs(inputs=engine.inputs, outputs=engine.outputs, batch_max=engine.batch_max))
        return lanes

    def _serve(self, idle: deque[Lane]) -> None:
        running: deque[_Running] = deque()
        try:
            while (job := self._next(running, idle)) is not None:
                if (begun := self._begun(idle[0], job)) is not None:
                    idle.popleft()
                    running.append(begun)
        finally:
            for begun in running:
                self._end(begun)

    def _next(self, running: "deque[_Running]", idle: deque[Lane]) -> _Job | None:
        """What to do next, once a lane is idle, None at the end; meanwhile what has ended is answered."""
        while True:
            if running and (not idle or running[0].lane.is_over):  # one: a waiting job goes before the next answer
                ended = running.popleft()
                self._end(ended)
                idle.append(ended.lane)
            try:
                return self._jobs.get(timeout=POLL_S if running else None)
            except Empty:
                continue

    def _begun(self, lane: Lane, job: _Job) -> "_Running | None":
        """None if it could not be started; then the caller has been told."""
        try:
            return _Running(lane, job, lane.start(job.slot, job.shapes))
        except Exception as error:  # noqa: BLE001 - whatever one inference raises is its caller's alone
            lane.abandon()
            job.answer.set_exception(self._failure(lane, error))
            return None

    def _end(self, ended: "_Running") -> None:
        try:
            ended.lane.finish()
        except DeviceError as error:
            ended.job.answer.set_exception(self._failure(ended.lane, error))
        else:
            ended.job.answer.set_result(ended.outputs)

    def _failure(self, lane: Lane, error: Exception) -> Failure:
        failure = _inference_failed(error)
        return self._loss.failure(failure.detail) if lane.is_lost else failure

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

    def _take_all(self) -> None:
        """Wait until no caller has a slot. All have been answered, so none keeps it for long."""
        for _ in range(SLOTS):
            self._free.get()
        self._free.put(None)


class _Running(msgspec.Struct, frozen=True):
    lane: Lane
    job: _Job
    outputs: Outputs


def _inference_failed(error: Exception) -> Failure:
    if isinstance(error, Failure):
        return error
    said = str(error) if isinstance(error, DeviceError) else f"{type(error).__name__}: {error}"
    return Failure(FailureCode.INFERENCE_FAILED, said)


def _closed() -> Failure:
    return Failure(FailureCode.ENGINE_UNAVAILABLE, "the engine is closed")
