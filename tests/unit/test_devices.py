"""The two ways to a GPU, over modules that behave like pycuda and cuda.core: what they call, and what their errors become."""

import ctypes
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from engine.devices.cuda_core import CudaCoreDevice, CudaModules
from engine.devices.memory import Device, DeviceError, GpuFacts
from engine.devices.opening import find_gpu, open_device
from engine.devices.pycuda import PycudaDevice
from tests.conftest import REPOSITORY
from tests.fake_gpu import FACTS, FakeGpu

SIZE = 64


class Refused(Exception):
    """The library's own error."""


class Card:
    """Memory of a card that lies in this process, so that addresses are real."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.blocks: dict[int, Any] = {}
        self.current: list[str] = []
        """Contexts of this thread, the current one last."""
        self.is_full = False
        self.is_busy = False

    def take(self, size_bytes: int) -> "Block":
        if self.is_full:
            raise Refused("out of memory")
        memory = (ctypes.c_uint8 * size_bytes)()
        self.blocks[ctypes.addressof(memory)] = memory
        return Block(self, ctypes.addressof(memory))


class Block:
    """An allocation of either library."""

    def __init__(self, card: Card, address: int) -> None:
        self._card, self.handle = card, address

    def __int__(self) -> int:
        return self.handle

    def free(self) -> None:
        del self._card.blocks[self.handle]
        self._card.log.append("free")

    def close(self, stream: object = None) -> None:
        self.free()


class PinnedBase:
    """What owns the memory of a pinned array of pycuda."""

    def __init__(self, card: Card, size_bytes: int) -> None:
        self._block = card.take(size_bytes)
        self.free = self._block.free
        self.__array_interface__ = {
            "shape": (size_bytes,), "typestr": "|u1", "data": (self._block.handle, False), "version": 3,
        }  # fmt: skip


def move(to: int, source: int, size_bytes: int) -> None:
    ctypes.memmove(to, source, size_bytes)


class PrimaryContext:
    """The one of pycuda, which gives it back when nobody refers to it, and leaves it current in that thread."""

    def __init__(self, card: Card) -> None:
        self._card = card
        card.log.append("retain")

    def push(self) -> None:
        self._card.current.append("primary")

    def pop(self) -> None:
        self._card.current.pop()

    def detach(self) -> None:
        self._card.log.append("release")
        self._card.current.append("primary, released")

    def __del__(self) -> None:
        self.detach()


class PycudaDriver(SimpleNamespace):
    __hash__ = object.__hash__  # as a module has one


def pycuda_driver(card: Card) -> PycudaDriver:
    native = SimpleNamespace(
        retain_primary_context=lambda: PrimaryContext(card),
        name=lambda: "A GPU",
        compute_capability=lambda: (8, 9),
        get_attribute={"count": 128}.__getitem__,
    )
    stream = SimpleNamespace(handle=77, is_done=lambda: not card.is_busy, synchronize=lambda: card.log.append("wait"))
    return PycudaDriver(
        Error=Refused,
        init=lambda: None,
        Device=lambda index: native,
        device_attribute=SimpleNamespace(MULTIPROCESSOR_COUNT="count"),
        mem_get_info=lambda: (7, 9),
        mem_alloc=card.take,
        pagelocked_empty=lambda size_bytes, dtype: np.asarray(PinnedBase(card, size_bytes)),
        Stream={1: stream}.__getitem__,
        memcpy_htod_async=lambda to, array, stream: move(to, array.ctypes.data, array.nbytes),
        memcpy_dtoh_async=lambda array, source, stream: move(array.ctypes.data, source, array.nbytes),
    )


def pycuda_device(card: Card) -> Device:
    return PycudaDevice(driver=pycuda_driver(card))


def cuda_core_device(card: Card) -> Device:
    def stream() -> Any:
        return SimpleNamespace(handle=77, sync=lambda: card.log.append("wait"), close=lambda: card.log.append("close"))

    native = SimpleNamespace(
        set_current=lambda: card.log.append("set current"),
        create_stream=stream,
        name="A GPU",
        compute_capability=(8, 9),
        properties=SimpleNamespace(multiprocessor_count=128),
    )

    def copy(to: int, source: int, size_bytes: int, stream: int) -> tuple[int]:
        move(to, source, size_bytes)
        return (0,)

    def alloc(size_bytes: int) -> tuple[Any, ...]:
        return (SimpleNamespace(name="out of memory"),) if card.is_full else (0, card.take(size_bytes))

    def free(address: int) -> tuple[int]:
        Block(card, address).free()
        return (0,)

    driver = SimpleNamespace(
        CUresult=SimpleNamespace(CUDA_SUCCESS=0, CUDA_ERROR_NOT_READY=600),
        cuMemGetInfo=lambda: (0, 7, 9),
        cuMemAlloc=alloc,
        cuMemFree=free,
        cuStreamQuery=lambda stream: (600 if card.is_busy else 0,),
        cuMemcpyHtoDAsync=copy,
        cuMemcpyDtoHAsync=copy,
    )
    core = SimpleNamespace(
        Device=lambda index: native, LegacyPinnedMemoryResource=lambda: SimpleNamespace(allocate=card.take)
    )
    return CudaCoreDevice(modules=CudaModules(core=core, driver=driver, error=Refused))


BOTH = pytest.mark.parametrize("open_on", [pycuda_device, cuda_core_device])


@BOTH
def test_bytes_go_to_the_gpu_and_come_back(open_on: Any) -> None:
    card = Card()
    device = open_on(card)
    stream, there = device.stream(), device.alloc(SIZE)
    source, back = device.pinned(SIZE), device.pinned(SIZE)
    source.bytes[:] = np.arange(SIZE)

    device.h2d(source, there, SIZE, stream)
    device.d2h(there, back, SIZE // 2, stream)
    stream.sync()

    assert back.bytes.tolist() == [*range(SIZE // 2), *([0] * (SIZE // 2))]
    for held in (back, source, there, stream):
        held.free()
    device.close()
    assert card.blocks == {}


@BOTH
def test_a_device_says_what_it_is(open_on: Any) -> None:
    assert open_on(Card()).facts == GpuFacts(name="A GPU", capability=(8, 9), sm_count=128, free_bytes=7, total_bytes=9)


@BOTH
def test_a_stream_says_whether_it_is_done(open_on: Any) -> None:
    card = Card()
    stream = open_on(card).stream()
    assert stream.is_done()

    card.is_busy = True
    assert not stream.is_done()


@BOTH
def test_a_full_card_is_a_device_error(open_on: Any) -> None:
    card = Card()
    device = open_on(card)
    card.is_full = True

    with pytest.raises(DeviceError, match="out of memory"):
        device.alloc(SIZE)
    with pytest.raises(DeviceError, match="out of memory"):
        device.pinned(SIZE)


def test_pycuda_keeps_one_primary_context_and_leaves_none_current() -> None:
    """What is given back stays current, and TensorRT's builder, which runs next in that thread, would take it."""
    card = Card()
    driver = pycuda_driver(card)
    for _ in range(2):
        device = PycudaDevice(driver=driver)
        assert card.current == ["primary"]
        device.close()
        del device

        assert card.current == []
    assert card.log == ["retain"]


def test_a_status_of_the_driver_becomes_an_error_with_its_name() -> None:
    device = cuda_core_device(Card())
    assert isinstance(device, CudaCoreDevice)
    device._driver.cuMemcpyHtoDAsync = lambda *_: (SimpleNamespace(name="CUDA_ERROR_ILLEGAL_ADDRESS"),)
    pinned = device.pinned(SIZE)

    with pytest.raises(DeviceError, match="CUDA_ERROR_ILLEGAL_ADDRESS"):
        device.h2d(pinned, device.alloc(SIZE), SIZE, device.stream())


def test_a_gpu_that_opens_and_then_refuses_is_none() -> None:
    gpu = FakeGpu()
    assert find_gpu(gpu.open) == FACTS

    gpu.is_lost = True

    assert find_gpu(gpu.open) is None
    assert gpu.log == ["open", "close"] * 2


def test_a_driver_without_a_gpu_is_a_device_error() -> None:
    def no_device(index: int) -> Any:
        raise ValueError(f"device_id must be within [0, 0), got {index}")

    with pytest.raises(DeviceError, match="device_id must be within"):
        CudaCoreDevice(modules=CudaModules(core=SimpleNamespace(Device=no_device), driver=None, error=Refused))


@pytest.mark.skipif(find_gpu() is not None, reason="there is a GPU here")
def test_without_a_gpu_none_is_found_and_opening_one_says_why() -> None:
    with pytest.raises(DeviceError, match="driver"):
        open_device()


def test_nothing_of_cuda_is_loaded_before_it_is_needed() -> None:
    code = (
        "import sys, engine.loading, engine.runtimes.tensorrt, engine.conversion, consumers.convert;"
        "print([name for name in ('cuda', 'pycuda', 'tensorrt', 'tensorrt_rtx', 'onnx') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
