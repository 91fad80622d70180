"""A deserialised plan, and the slots in which it computes: an execution context, a stream and buffers each."""

import math
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import msgspec
import numpy as np

from contracts.failures import Failure, FailureCode
from engine.devices.memory import Device, DeviceError, DeviceMemory, PinnedMemory
from engine.plans import Plan
from engine.runtime import Tensor, TensorSpec
from engine.tensorrt_library import Complaints, load_library, logger_into


class TensorRtEngine:
    """What a plan becomes on the GPU whose context is current in this thread."""

    def __init__(self, plan: Plan, library: Any = None) -> None:
        """Raises `Failure`: `engine_unavailable` without the library, `model_corrupt` with what it says of the plan."""
        self.library = library or load_library(plan.library)
        self.complaints = Complaints()
        self._runtime: Any = self.library.Runtime(logger_into(self.library, self.complaints))
        self._engine: Any = self._runtime.deserialize_cuda_engine(plan.content)
        if self._engine is None:  # it raises nothing, also where there is no GPU at all
            why = self.complaints.taken("TensorRT does not say why")
            raise Failure(FailureCode.MODEL_CORRUPT, f"{plan.name} is no plan for this GPU: {why}")
        try:
            specs = [self._spec(self._engine.get_tensor_name(at)) for at in range(self._engine.num_io_tensors)]
        except TypeError as error:
            raise Failure(FailureCode.MODEL_CORRUPT, f"{plan.name}: {error}") from error
        self.inputs = tuple(spec for spec in specs if self._is_input(spec.name))
        self.outputs = tuple(spec for spec in specs if not self._is_input(spec.name))

    @property
    def batch_max(self) -> int | None:
        """Rows of the largest batch it was built for; None if it takes one fixed number."""
        rows = [self.shape_max(spec)[0] for spec in self.inputs if spec.shape[:1] == (None,)]
        return min(rows) if rows else None

    def shape_max(self, spec: TensorSpec) -> tuple[int, ...]:
        """The largest shape of an input that it was built for."""
        _least, _usual, largest = self._engine.get_tensor_profile_shape(spec.name, 0)
        return tuple(largest)

    def context(self) -> Any:
        """A new execution context. Raises `Failure(engine_unavailable)`, mostly for lack of memory."""
        context = self._engine.create_execution_context()
        if context is None:
            why = self.complaints.taken("no memory for an execution context")
            raise Failure(FailureCode.ENGINE_UNAVAILABLE, why)
        return context

    def free(self) -> None:
        """Engine first, then the runtime it came from."""
        self._engine = None
        self._runtime = None

    def _spec(self, name: str) -> TensorSpec:
        shape = tuple(side if side >= 0 else None for side in self._engine.get_tensor_shape(name))
        dtype = np.dtype(self.library.nptype(self._engine.get_tensor_dtype(name)))
        return TensorSpec(name=name, shape=shape, dtype=dtype.name)

    def _is_input(self, name: str) -> bool:
        return self._engine.get_tensor_mode(name) == self.library.TensorIOMode.INPUT


class _Buffers(msgspec.Struct, frozen=True):
    """Both sides of one tensor, as large as it can become."""

    spec: TensorSpec
    host: PinnedMemory
    device: DeviceMemory

    def view(self, shape: tuple[int, ...]) -> Tensor:
        """The host's side as a tensor of that shape."""
        dtype = np.dtype(self.spec.dtype)
        return self.host.bytes[: math.prod(shape) * dtype.itemsize].view(dtype).reshape(shape)


class Slot:
    """One inference at a time: start it, later finish it. An execution context is not thread-safe, so each slot has one."""

    def __init__(self, engine: TensorRtEngine, device: Device, held: ExitStack) -> None:
        """held: frees what is created here, in reverse order. Raises `Failure`, `DeviceError`."""
        self._engine = engine
        self._device = device
        self._context: Any = engine.context()
        held.callback(self._free_context)
        self._stream = device.stream()
        held.callback(self._stream.free)
        self._inputs = {spec.name: self._buffers(spec, engine.shape_max(spec), held) for spec in engine.inputs}
        for spec in engine.inputs:
            self._context.set_input_shape(spec.name, engine.shape_max(spec))
        self._outputs = [self._buffers(spec, self._output_shape(spec), held) for spec in engine.outputs]

    @property
    def is_over(self) -> bool:
        """True if `finish` will not wait."""
        try:
            return self._stream.is_done()
        except DeviceError:
            return True  # `finish` says why

    def start(self, tensors: Mapping[str, Tensor]) -> None:
        """Queue the copies and the inference. Raises `Failure(inference_failed)`, `DeviceError`; then `abandon` it."""
        for name, buffers in self._inputs.items():
            self._show(name, tensors.get(name), buffers)
        if not self._context.execute_async_v3(self._stream.handle):
            raise Failure(FailureCode.INFERENCE_FAILED, self._engine.complaints.taken("TensorRT did not start"))
        for buffers in self._outputs:
            size_bytes = buffers.view(self._output_shape(buffers.spec)).nbytes
            self._device.d2h(buffers.device, buffers.host, size_bytes, self._stream)

    def finish(self) -> tuple[Tensor, ...]:
        """The outputs, once they are there. Raises `DeviceError`."""
        self._stream.sync()
        return tuple(buffers.view(self._output_shape(buffers.spec)).copy() for buffers in self._outputs)

    def abandon(self) -> None:
        """Wait for what was queued: until then it reads the buffers that the next inference will write."""
        try:
            self._stream.sync()
        except DeviceError:
            return  # nothing runs on such a stream

    def _show(self, name: str, tensor: Tensor | None, buffers: _Buffers) -> None:
        spec = buffers.spec
        if tensor is None or tensor.dtype.name != spec.dtype:
            seen = "nothing" if tensor is None else tensor.dtype.name
            raise Failure(FailureCode.INFERENCE_FAILED, f"{name}: {spec.dtype} is wanted, not {seen}")
        if not self._context.set_input_shape(name, tensor.shape):
            why = self._engine.complaints.taken("outside of what the plan was built for")
            raise Failure(FailureCode.INFERENCE_FAILED, f"{name} {list(tensor.shape)}: {why}")
        host = buffers.view(tensor.shape)
        np.copyto(host, tensor)
        self._device.h2d(buffers.host, buffers.device, host.nbytes, self._stream)

    def _buffers(self, spec: TensorSpec, shape: tuple[int, ...], held: ExitStack) -> _Buffers:
        size_bytes = max(1, math.prod(shape) * np.dtype(spec.dtype).itemsize)
        host = self._device.pinned(size_bytes)
        held.callback(host.free)
        device = self._device.alloc(size_bytes)
        held.callback(device.free)
        if not self._context.set_tensor_address(spec.name, device.address):
            raise Failure(FailureCode.ENGINE_UNAVAILABLE, f"{spec.name}: TensorRT does not take its buffer")
        return _Buffers(spec, host, device)

    def _output_shape(self, spec: TensorSpec) -> tuple[int, ...]:
        """With the input shapes that are set. Raises `Failure(model_corrupt)` if it depends on what the model sees."""
        shape = tuple(self._context.get_tensor_shape(spec.name))
        if min(shape, default=0) < 0:
            raise Failure(
                FailureCode.MODEL_CORRUPT, f"output {spec.name} {list(shape)}: its size depends on the picture (NMS?)"
            )
        return shape

    def _free_context(self) -> None:
        self._context = None
