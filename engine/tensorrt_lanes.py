"""Where inferences happen: a lane is a place on the GPU, a slot the memory of one inference on the host.

Lanes are for the thread that owns the device alone. A slot is lent to a caller, who copies into it in a thread of its own,
then to the lane that computes what is in it, then to the caller again, who reads the outputs there.
"""

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np

from contracts.failures import Failure, FailureCode
from engine.devices.memory import Device, DeviceError, DeviceMemory, PinnedMemory
from engine.runtime import Tensor, TensorSpec
from engine.tensorrt_engine import TensorRtEngine

Shapes = Mapping[str, tuple[int, ...]]
"""Of tensors, by name."""


class Slot:
    """Pinned memory for every tensor of one inference, each as large as it can become."""

    def __init__(
        self, inputs: Sequence[TensorSpec], room_bytes: Mapping[str, int], device: Device, held: ExitStack
    ) -> None:
        """room_bytes: of inputs and outputs, by name. held: frees what is created here. Raises `DeviceError`."""
        self._inputs = inputs
        self.pinned: dict[str, PinnedMemory] = {}
        for name, size_bytes in room_bytes.items():
            self.pinned[name] = device.pinned(size_bytes)
            held.callback(self.pinned[name].free)

    def write(self, tensors: Mapping[str, Tensor]) -> Shapes:
        """Copy the inputs in; gives their shapes. Raises `Failure(inference_failed)`."""
        return {spec.name: self._write(spec, tensors.get(spec.name)) for spec in self._inputs}

    def view(self, spec: TensorSpec, shape: tuple[int, ...]) -> Tensor:
        """A tensor of that shape where the slot has it. Raises `ValueError` if it is larger than it can become."""
        return self.pinned[spec.name].bytes[: size_bytes_of(spec, shape)].view(spec.dtype).reshape(shape)

    def _write(self, spec: TensorSpec, tensor: Tensor | None) -> tuple[int, ...]:
        if tensor is None or tensor.dtype.name != spec.dtype:
            seen = "nothing" if tensor is None else tensor.dtype.name
            raise Failure(FailureCode.INFERENCE_FAILED, f"{spec.name}: {spec.dtype} is wanted, not {seen}")
        if tensor.nbytes > len(self.pinned[spec.name].bytes):
            raise does_not_fit(spec.name, tensor.shape)
        np.copyto(self.view(spec, tensor.shape), tensor)
        return tensor.shape


class Lane:
    """One inference at a time: start it, later finish it. An execution context is not thread-safe, so each lane has one."""

    def __init__(self, engine: TensorRtEngine, device: Device, held: ExitStack) -> None:
        """held: frees what is created here, in reverse order. Raises `Failure`, `DeviceError`."""
        self._engine = engine
        self._device = device
        self._context: Any = engine.context()
        held.callback(self._free_context)
        self._stream = device.stream()
        held.callback(self._stream.free)
        self._memory: dict[str, DeviceMemory] = {}
        self.room_bytes: dict[str, int] = {}
        """Of every tensor, by name, when it is as large as it can become."""
        for spec in engine.inputs:
            self._context.set_input_shape(spec.name, engine.shape_max(spec))
            self._hold(spec, engine.shape_max(spec), held)
        for spec in engine.outputs:
            self._hold(spec, self._output_shape(spec), held)

    @property
    def is_over(self) -> bool:
        """True if `finish` will not wait."""
        try:
            return self._stream.is_done()
        except DeviceError:
            return True  # `finish` says why

    @property
    def is_lost(self) -> bool:
        """True if the GPU refuses whatever it is asked, not only what it was asked last."""
        try:
            _ = self._device.facts
        except DeviceError:
            return True
        return False

    def start(self, slot: Slot, shapes: Shapes) -> tuple[Tensor, ...]:
        """Queue the copies and the inference; the outputs as the slot will have them once it is finished.

        shapes: of the inputs in the slot. Raises `Failure`, `DeviceError` and what the bindings raise; then `abandon` it.
        """
        for spec in self._engine.inputs:
            shape = shapes[spec.name]
            if not self._context.set_input_shape(spec.name, shape):
                raise does_not_fit(spec.name, shape, self._engine.complaints.taken(""))
            self._copy_in(slot, spec, shape)
        if not self._context.execute_async_v3(self._stream.handle):
            raise Failure(FailureCode.INFERENCE_FAILED, self._engine.complaints.taken("TensorRT did not start"))
        return tuple(self._copy_out(slot, spec) for spec in self._engine.outputs)

    def finish(self) -> None:
        """Wait for it. Raises `DeviceError`."""
        self._stream.sync()

    def abandon(self) -> None:
        """Wait for what was queued: until then it reads and writes the slot, which somebody else will have."""
        try:
            self._stream.sync()
        except DeviceError:
            return  # nothing runs on such a stream

    def _copy_in(self, slot: Slot, spec: TensorSpec, shape: tuple[int, ...]) -> None:
        size_bytes = size_bytes_of(spec, shape)
        self._device.h2d(slot.pinned[spec.name], self._memory[spec.name], size_bytes, self._stream)

    def _copy_out(self, slot: Slot, spec: TensorSpec) -> Tensor:
        output = slot.view(spec, self._output_shape(spec))
        self._device.d2h(self._memory[spec.name], slot.pinned[spec.name], output.nbytes, self._stream)
        return output

    def _hold(self, spec: TensorSpec, shape: tuple[int, ...], held: ExitStack) -> None:
        self.room_bytes[spec.name] = max(1, size_bytes_of(spec, shape))
        self._memory[spec.name] = memory = self._device.alloc(self.room_bytes[spec.name])
        held.callback(memory.free)
        if not self._context.set_tensor_address(spec.name, memory.address):
            raise Failure(FailureCode.ENGINE_UNAVAILABLE, f"{spec.name}: TensorRT does not take its buffer")

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


def size_bytes_of(spec: TensorSpec, shape: tuple[int, ...]) -> int:
    """Of a tensor of that shape."""
    return math.prod(shape) * np.dtype(spec.dtype).itemsize


def does_not_fit(name: str, shape: tuple[int, ...], why: str = "") -> Failure:
    """The failure of an input that the plan does not take."""
    return Failure(
        FailureCode.INFERENCE_FAILED, f"{name} {list(shape)}: {why or 'outside of what the plan was built for'}"
    )
