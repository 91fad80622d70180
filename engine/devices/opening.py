"""Which library opens the GPU: `cuda.core` where it is installed, else pycuda."""

from collections.abc import Callable
from contextlib import closing
from importlib.util import find_spec

from engine.devices.memory import Device, DeviceError, GpuFacts


def open_device() -> Device:
    """The first device, to be used and closed in this thread. Raises `DeviceError`."""
    if _is_installed("cuda.core"):
        from engine.devices.cuda_core import CudaCoreDevice

        return CudaCoreDevice()
    from engine.devices.pycuda import PycudaDevice

    return PycudaDevice()


def find_gpu(open_gpu: Callable[[], Device] = open_device) -> GpuFacts | None:
    """What the GPU is, None where there is none that answers, no driver, or no library that knows it."""
    try:
        with closing(open_gpu()) as device:
            return device.facts
    except DeviceError:
        return None


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # its parent is not
        return False
