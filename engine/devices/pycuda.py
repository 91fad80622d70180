"""A GPU through pycuda; the only module that knows it.

Never `pycuda.autoinit`: it makes a context of its own, and TensorRT, onnxruntime and cuDNN use the primary one (pycuda #242,
TensorRT #1107). A context that is still pushed when the module is torn down aborts the process, hence `close`. The primary one
is kept for the life of the process: pycuda's `detach` pushes a context that is not current, expects the driver to pop it, and
for a primary one the driver does not ("in any circumstances", cuDevicePrimaryCtxRelease), so that the thread goes on in a
context that may be gone by then, and whatever of CUDA runs there next (TensorRT's builder) fails.
"""

import importlib
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from engine.devices.memory import DeviceError, DeviceMemory, GpuFacts, PinnedMemory, Stream

NON_BLOCKING = 1
"""CU_STREAM_NON_BLOCKING: the stream does not wait for the default one."""

_Value = TypeVar("_Value")


def pycuda_driver() -> Any:
    """The module, which needs `libcuda.so.1` to be imported at all. Raises `DeviceError`."""
    try:
        return importlib.import_module("pycuda.driver")
    except ImportError as error:
        raise DeviceError(f"pycuda: {error}") from error


class PycudaDevice:
    """The first device, its primary context pushed in this thread."""

    def __init__(self, *, driver: Any = None) -> None:
        """driver: `pycuda.driver`, or what behaves like it. Raises `DeviceError`."""
        self._driver = driver or pycuda_driver()
        self._call(self._driver.init)
        self._device = self._call(self._driver.Device, 0)
        self._context = self._call(_primary_context, self._driver)
        self._call(self._context.push)
        self._streams: dict[int, Any] = {}
        """By handle; pycuda frees a stream with its last reference, in the thread where that goes."""

    @property
    def facts(self) -> GpuFacts:
        free_bytes, total_bytes = self._call(self._driver.mem_get_info)
        attribute = self._driver.device_attribute.MULTIPROCESSOR_COUNT
        return GpuFacts(
            name=self._call(self._device.name),
            capability=self._call(self._device.compute_capability),
            sm_count=self._call(self._device.get_attribute, attribute),
            free_bytes=free_bytes,
            total_bytes=total_bytes,
        )

    def alloc(self, size_bytes: int) -> DeviceMemory:
        return _Memory(self._call(self._driver.mem_alloc, size_bytes))

    def pinned(self, size_bytes: int) -> PinnedMemory:
        return _Pinned(self._call(self._driver.pagelocked_empty, size_bytes, np.uint8))

    def stream(self) -> Stream:
        native = self._call(self._driver.Stream, NON_BLOCKING)
        self._streams[native.handle] = native
        return _Stream(native.handle, self)

    def h2d(self, source: PinnedMemory, target: DeviceMemory, size_bytes: int, stream: Stream) -> None:
        queued_in = self._streams[stream.handle]
        self._call(self._driver.memcpy_htod_async, target.address, source.bytes[:size_bytes], queued_in)

    def d2h(self, source: DeviceMemory, target: PinnedMemory, size_bytes: int, stream: Stream) -> None:
        queued_in = self._streams[stream.handle]
        self._call(self._driver.memcpy_dtoh_async, target.bytes[:size_bytes], source.address, queued_in)

    def has_run(self, stream_handle: int) -> bool:
        """True if what is queued there has run."""
        return self._call(self._streams[stream_handle].is_done)

    def wait(self, stream_handle: int) -> None:
        """Until what is queued there has run."""
        self._call(self._streams[stream_handle].synchronize)

    def drop(self, stream_handle: int) -> None:
        """Free a stream."""
        del self._streams[stream_handle]

    def close(self) -> None:
        self._call(self._context.pop)

    def _call(self, function: Callable[..., _Value], *arguments: Any) -> _Value:
        try:
            return function(*arguments)
        except self._driver.Error as error:
            raise DeviceError(str(error)) from error


@cache
def _primary_context(driver: Any) -> Any:
    """Of the first device; one object, since pycuda detaches each that nobody refers to any more."""
    return driver.Device(0).retain_primary_context()


class _Memory:
    def __init__(self, allocation: Any) -> None:
        self._allocation = allocation
        self.address = int(allocation)

    def free(self) -> None:
        self._allocation.free()


class _Pinned:
    def __init__(self, array: NDArray[np.uint8]) -> None:
        self.bytes = array

    def free(self) -> None:
        allocation: Any = self.bytes.base
        allocation.free()


class _Stream:
    def __init__(self, handle: int, device: PycudaDevice) -> None:
        self.handle = handle
        self._device = device

    def is_done(self) -> bool:
        return self._device.has_run(self.handle)

    def sync(self) -> None:
        self._device.wait(self.handle)

    def free(self) -> None:
        self._device.drop(self.handle)
