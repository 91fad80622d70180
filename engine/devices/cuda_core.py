"""A GPU through NVIDIA's own `cuda.core`, and `cuda.bindings` for the copies; the only module that knows them."""

import ctypes
import importlib
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
import numpy as np

from engine.devices.memory import DeviceError, DeviceMemory, GpuFacts, PinnedMemory, Stream

_Value = TypeVar("_Value")


class CudaModules(msgspec.Struct, frozen=True, kw_only=True):
    """The two modules, or what behaves like them."""

    core: Any
    driver: Any
    error: type[Exception]
    """What `cuda.core` raises; without a driver it is a `RuntimeError`, with one that has no GPU a `ValueError`."""


def cuda_modules() -> CudaModules:
    """The modules; they are there without a GPU, too. Raises `DeviceError`."""
    try:
        return CudaModules(
            core=importlib.import_module("cuda.core"),
            driver=importlib.import_module("cuda.bindings.driver"),
            error=importlib.import_module("cuda.core._utils.cuda_utils").CUDAError,  # exported nowhere else
        )
    except ImportError as error:
        raise DeviceError(f"cuda.core: {error}") from error


class CudaCoreDevice:
    """The first device, its primary context current in this thread."""

    def __init__(self, *, modules: CudaModules | None = None) -> None:
        """Raises `DeviceError`, also where there is no driver or no GPU."""
        modules = modules or cuda_modules()
        self._modules, self._driver = modules, modules.driver
        self._device = self._call(modules.core.Device, 0)
        self._call(self._device.set_current)
        self._pinned = self._call(modules.core.LegacyPinnedMemoryResource)

    @property
    def facts(self) -> GpuFacts:
        free_bytes, total_bytes = self._checked(self._call(self._driver.cuMemGetInfo))
        major, minor = self._call(lambda: self._device.compute_capability)
        return GpuFacts(
            name=self._call(lambda: self._device.name),
            capability=(major, minor),
            sm_count=self._call(lambda: self._device.properties.multiprocessor_count),
            free_bytes=free_bytes,
            total_bytes=total_bytes,
        )

    def alloc(self, size_bytes: int) -> DeviceMemory:
        """Not from cuda.core's pool: that keeps what is freed, and the process that builds the next engine misses it."""
        [pointer] = self._checked(self._call(self._driver.cuMemAlloc, size_bytes))
        return _Memory(int(pointer), lambda: self._checked(self._call(self._driver.cuMemFree, int(pointer))))

    def pinned(self, size_bytes: int) -> PinnedMemory:
        buffer = self._call(self._pinned.allocate, size_bytes)
        return _Pinned(buffer, size_bytes, lambda: self._call(buffer.close))

    def stream(self) -> Stream:
        return _Stream(self._call(self._device.create_stream), self)

    def h2d(self, source: PinnedMemory, target: DeviceMemory, size_bytes: int, stream: Stream) -> None:
        copy = self._driver.cuMemcpyHtoDAsync
        self._checked(self._call(copy, target.address, source.bytes.ctypes.data, size_bytes, stream.handle))

    def d2h(self, source: DeviceMemory, target: PinnedMemory, size_bytes: int, stream: Stream) -> None:
        copy = self._driver.cuMemcpyDtoHAsync
        self._checked(self._call(copy, target.bytes.ctypes.data, source.address, size_bytes, stream.handle))

    def close(self) -> None:
        """The context goes with the last device of cuda.core in this thread."""

    def wait(self, stream: Any) -> None:
        """Until what is queued there has run."""
        self._call(stream.sync)

    def has_run(self, stream_handle: int) -> bool:
        """True if what is queued there has run."""
        result = self._call(self._driver.cuStreamQuery, stream_handle)
        if result[0] == self._driver.CUresult.CUDA_ERROR_NOT_READY:
            return False
        self._checked(result)
        return True

    def _call(self, function: Callable[..., _Value], *arguments: Any) -> _Value:
        try:
            return function(*arguments)
        except (self._modules.error, RuntimeError, ValueError, MemoryError) as error:
            raise DeviceError(f"{type(error).__name__}: {error}") from error

    def _checked(self, result: tuple[Any, ...]) -> tuple[Any, ...]:
        """What the driver gave beside its status. Raises `DeviceError` naming the status."""
        status, *values = result
        if status != self._driver.CUresult.CUDA_SUCCESS:
            raise DeviceError(getattr(status, "name", str(status)))
        return tuple(values)


class _Memory:
    def __init__(self, address: int, free: Callable[[], object]) -> None:
        self.address = address
        self._free = free

    def free(self) -> None:
        self._free()


class _Pinned:
    def __init__(self, buffer: Any, size_bytes: int, free: Callable[[], None]) -> None:
        self.bytes = np.ctypeslib.as_array((ctypes.c_uint8 * size_bytes).from_address(int(buffer.handle)))
        self.free = free


class _Stream:
    def __init__(self, native: Any, device: CudaCoreDevice) -> None:
        self._native = native
        self._device = device
        self.handle = int(native.handle)

    def is_done(self) -> bool:
        return self._device.has_run(self.handle)

    def sync(self) -> None:
        self._device.wait(self._native)

    def free(self) -> None:
        self._native.close()
