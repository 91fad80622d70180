"""Which library opens the GPU: `cuda.core` where it is installed, else pycuda."""

from importlib.util import find_spec

from engine.devices.memory import Device, DeviceError, GpuFacts


def open_device() -> Device:
    """The first device, to be used and closed in this thread. Raises `DeviceError`."""
    if _is_installed("cuda.core"):
        from engine.devices.cuda_core import CudaCoreDevice

        return CudaCoreDevice()
    from engine.devices.pycuda import PycudaDevice

    return PycudaDevice()


def find_gpu() -> GpuFacts | None:
    """What the GPU is, None where there is none, no driver, or no library that knows it."""
    try:
        device = open_device()
    except DeviceError:
        return None
    try:
        return device.facts
    finally:
        device.close()


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # its parent is not
        return False
