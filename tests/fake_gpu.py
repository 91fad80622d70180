"""A GPU that is a dictionary, and a TensorRT whose plans are ONNX files: everything of a runtime but CUDA itself.

It is as strict as the real ones: used in one thread only, nothing freed twice or left behind, what is queued on a stream runs
only when somebody waits for it.
"""

import threading
from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from engine.devices.memory import DeviceError, GpuFacts

FACTS = GpuFacts(name="Fake 4090", capability=(8, 9), sm_count=128, free_bytes=20 << 30, total_bytes=24 << 30)


class FakeGpu:
    """The memory of the card and what was done with it, in order; it outlives its devices."""

    def __init__(self, *, memory_max_bytes: int = 1 << 30) -> None:
        self.log: list[str] = []
        self.memory: dict[int, NDArray[np.uint8]] = {}
        self.pinned = 0
        """Blocks of the host's memory in use."""
        self.may_finish = threading.Event()
        """Cleared: nothing that is queued ends."""
        self.may_finish.set()
        self.is_lost = False
        """True: whatever is asked of it fails, as after an illegal access."""
        self.fails_once = False
        """True: the next wait for a stream fails, and none after it."""
        self._memory_max_bytes = memory_max_bytes
        self._next_address = 0x1000

    def open(self) -> "FakeDevice":
        self.log.append("open")
        return FakeDevice(self)

    def allocate(self, size_bytes: int) -> int:
        if size_bytes + sum(block.nbytes for block in self.memory.values()) > self._memory_max_bytes:
            raise DeviceError("CUDA_ERROR_OUT_OF_MEMORY")
        address, self._next_address = self._next_address, self._next_address + size_bytes + 256
        self.memory[address] = np.zeros(size_bytes, np.uint8)
        return address


class FakeDevice:
    def __init__(self, gpu: FakeGpu) -> None:
        self.gpu = gpu
        self._owner = threading.get_ident()
        self._streams = 0

    @property
    def facts(self) -> GpuFacts:
        self.check()
        if self.gpu.is_lost:
            raise DeviceError("CUDA_ERROR_ILLEGAL_ADDRESS")
        return FACTS

    def alloc(self, size_bytes: int) -> "FakeBlock":
        self.check()
        return FakeBlock(self, self.gpu.allocate(size_bytes))

    def pinned(self, size_bytes: int) -> "FakePinned":
        self.check()
        self.gpu.pinned += 1
        return FakePinned(self, size_bytes)

    def stream(self) -> "FakeStream":
        self.check()
        self._streams += 1
        return STREAMS.setdefault(id(self) * 10 + self._streams, FakeStream(self, id(self) * 10 + self._streams))

    def h2d(self, source: "FakePinned", target: "FakeBlock", size_bytes: int, stream: "FakeStream") -> None:
        stream.add(lambda: self._copy(source.bytes, self.gpu.memory[target.address], size_bytes))

    def d2h(self, source: "FakeBlock", target: "FakePinned", size_bytes: int, stream: "FakeStream") -> None:
        stream.add(lambda: self._copy(self.gpu.memory[source.address], target.bytes, size_bytes))

    def close(self) -> None:
        self.check()
        self.gpu.log.append("close")

    def check(self) -> None:
        assert threading.get_ident() == self._owner, "used by another thread"

    @staticmethod
    def _copy(source: NDArray[np.uint8], target: NDArray[np.uint8], size_bytes: int) -> None:
        target[:size_bytes] = source[:size_bytes]


class FakeBlock:
    def __init__(self, device: FakeDevice, address: int) -> None:
        self._device = device
        self.address = address

    def free(self) -> None:
        self._device.check()
        self._device.gpu.log.append("free device memory")
        del self._device.gpu.memory[self.address]


class FakePinned:
    def __init__(self, device: FakeDevice, size_bytes: int) -> None:
        self._device = device
        self.bytes = np.zeros(size_bytes, np.uint8)

    def free(self) -> None:
        self._device.check()
        self._device.gpu.log.append("free pinned memory")
        self.bytes[:] = 0xFF  # whoever still reads it reads no numbers
        self._device.gpu.pinned -= 1


STREAMS: dict[int, "FakeStream"] = {}
"""By handle, which is all that TensorRT is given."""


class FakeStream:
    def __init__(self, device: FakeDevice, handle: int) -> None:
        self.device = device
        self.handle = handle
        self._queued: deque[Callable[[], None]] = deque()

    def add(self, operation: Callable[[], None]) -> None:
        self.device.check()
        self._queued.append(operation)

    def is_done(self) -> bool:
        self.device.check()
        return self.device.gpu.may_finish.is_set()

    def sync(self) -> None:
        self.device.check()
        assert self.device.gpu.may_finish.wait(20)
        if self.device.gpu.is_lost:
            raise DeviceError("CUDA_ERROR_ILLEGAL_ADDRESS")
        if self.device.gpu.fails_once:
            self.device.gpu.fails_once = False
            self._queued.clear()
            raise DeviceError("CUDA_ERROR_OUT_OF_MEMORY")
        self.device.gpu.log.append(f"sync {self.handle % 10}")
        while self._queued:
            self._queued.popleft()()

    def free(self) -> None:
        self.device.check()
        self.device.gpu.log.append("free stream")
        del STREAMS[self.handle]


class FakeTensorRt:
    """A module like `tensorrt`, as far as plans are run; a plan is an ONNX file after the word `ftrt`."""

    __version__ = "11.4.0.106"
    TensorIOMode = SimpleNamespace(INPUT="input", OUTPUT="output")

    class ILogger:
        Severity = SimpleNamespace(ERROR=1, INTERNAL_ERROR=0)

    def __init__(
        self, gpu: FakeGpu, *, batch_max: int = 4, contexts_max: int = 8, weights_bytes: int = 0, dtype: str = ""
    ) -> None:
        """dtype: of every tensor, whatever the model says."""
        self.gpu = gpu
        self.weights_bytes = weights_bytes
        self.dtype = dtype
        self.batch_max = batch_max
        self.contexts_max = contexts_max
        self.refuses_to_start = False
        self.raises_after: int | None = None
        """Calls of its contexts until one raises, as bindings do that find no memory; None: no more."""
        self.has_plugins = False
        self.is_driver_too_old = False
        """True: as on a driver that is older than its CUDA, a runtime is there, and whoever uses or frees it crashes."""

    def init_libnvinfer_plugins(self, logger: Any, namespace: str) -> bool:
        self.has_plugins = True
        return True

    def Runtime(self, logger: Any) -> "_Runtime":  # noqa: N802 - its name
        if self.is_driver_too_old:
            logger.log(1, "Error Code 6: API Usage Error (CUDA initialization failure with error: 35)")
        return _Runtime(self, logger)

    def called(self) -> None:
        if self.raises_after is not None:
            self.raises_after = self.raises_after - 1 if self.raises_after else None
            if self.raises_after is None:
                raise MemoryError("no room")

    @staticmethod
    def nptype(dtype: str) -> Any:
        if dtype == "bfloat16":
            raise TypeError("Could not resolve TensorRT datatype to an equivalent numpy datatype.")
        return np.dtype(dtype)


def plan_of(model: bytes) -> bytes:
    """What FakeTensorRt makes of an ONNX file."""
    return b"ftrt" + model


class _Runtime:
    def __init__(self, library: FakeTensorRt, logger: Any) -> None:
        self.library, self.logger = library, logger
        self.log = library.gpu.log

    def deserialize_cuda_engine(self, content: bytes) -> "_Engine | None":
        assert not self.library.is_driver_too_old, "a crash"
        if not content.startswith(b"ftrt"):
            self.logger.log(1, "Error 1: magic tag does\nnot match")
            return None
        if b"EfficientNMS_TRT" in content and not self.library.has_plugins:
            self.logger.log(1, "getPluginCreator could not find plugin: EfficientNMS_TRT version: 1")
            return None
        try:
            return _Engine(self, content[4:])
        except DeviceError:
            self.logger.log(1, "[defaultAllocator.cpp::allocate::62] Error Code 1: Cuda Runtime (out of memory)")
            return None

    def __del__(self) -> None:
        self.log.append("free runtime")


class _Engine:
    def __init__(self, runtime: _Runtime, model: bytes) -> None:
        self.runtime = runtime
        self.library = runtime.library
        self._weights: int | None = None
        self._weights = self.library.gpu.allocate(self.library.weights_bytes)
        self.session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        graph = onnx.load_model_from_string(model).graph
        self._tensors = [(node, "input") for node in graph.input] + [(node, "output") for node in graph.output]
        self.num_io_tensors = len(self._tensors)
        self._contexts = 0

    def get_tensor_name(self, at: int) -> str:
        return self._tensors[at][0].name

    def get_tensor_mode(self, name: str) -> str:
        return self._found(name)[1]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        sides = self._found(name)[0].type.tensor_type.shape.dim
        return tuple(side.dim_value if side.HasField("dim_value") else -1 for side in sides)

    def get_tensor_dtype(self, name: str) -> str:
        return (
            self.library.dtype
            or onnx.helper.tensor_dtype_to_np_dtype(self._found(name)[0].type.tensor_type.elem_type).name
        )

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        assert profile == 0
        shape = self.get_tensor_shape(name)
        most = tuple(self.library.batch_max if side == -1 else side for side in shape)
        return [tuple(1 if side == -1 else side for side in shape), most, most]

    def create_execution_context(self) -> "_Context | None":
        if self._contexts >= self.library.contexts_max:
            self.runtime.logger.log(1, "Error 2: out of memory")
            return None
        self._contexts += 1
        return _Context(self)

    def _found(self, name: str) -> tuple[Any, str]:
        return next(found for found in self._tensors if found[0].name == name)

    def __del__(self) -> None:
        if self._weights is not None:
            del self.library.gpu.memory[self._weights]
            self.runtime.log.append("free engine")


class _Context:
    def __init__(self, engine: _Engine) -> None:
        self._engine = engine
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        least, _, most = self._engine.get_tensor_profile_shape(name, 0)
        is_inside = len(shape) == len(most) and all(a <= s <= b for a, s, b in zip(least, shape, most, strict=True))
        if is_inside:
            self._shapes[name] = tuple(shape)
        return is_inside

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        self._engine.library.called()
        rows = next(iter(self._shapes.values()))[0]
        shape = self._engine.get_tensor_shape(name)
        return (rows if shape[0] == -1 else shape[0], *shape[1:])

    def execute_async_v3(self, stream_handle: int) -> bool:
        self._engine.library.called()
        stream = STREAMS[stream_handle]
        if self._engine.library.refuses_to_start:
            self._engine.runtime.logger.log(1, "Error 1: enqueue failed")
            return False
        self._engine.runtime.log.append(f"execute {stream_handle % 10}")
        stream.add(lambda: self._execute(stream.device.gpu))
        return True

    def _execute(self, gpu: FakeGpu) -> None:
        inputs = {node.name: self._read(gpu, node.name) for node in self._engine.session.get_inputs()}
        outputs = self._engine.session.run(None, inputs)
        for node, value in zip(self._engine.session.get_outputs(), outputs, strict=True):
            written = np.ascontiguousarray(value).view(np.uint8).reshape(-1)
            gpu.memory[self._addresses[node.name]][: written.nbytes] = written

    def _read(self, gpu: FakeGpu, name: str) -> NDArray[Any]:
        dtype = np.dtype(self._engine.get_tensor_dtype(name))
        shape = self._shapes[name]
        size_bytes = int(np.prod(shape)) * dtype.itemsize
        return gpu.memory[self._addresses[name]][:size_bytes].view(dtype).reshape(shape)

    def __del__(self) -> None:
        self._engine.runtime.log.append("free context")
