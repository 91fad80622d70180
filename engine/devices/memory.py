"""What a runtime needs of a GPU: memory on both sides, streams, and copies between them that do not wait.

Everything belongs to the thread that opened the device: a CUDA context is current in a thread, and memory freed in another
one (a garbage collector's, an event loop's) is freed in the wrong context.
"""

from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray


class DeviceError(Exception):
    """The driver refused something; the message is its own."""


class GpuFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine depends on, and what is free."""

    name: str
    capability: tuple[int, int]
    """Compute capability, major and minor."""
    sm_count: int
    """Streaming multiprocessors."""
    free_bytes: int = 0
    total_bytes: int = 0


class DeviceMemory(Protocol):
    """Memory on the GPU."""

    @property
    def address(self) -> int: ...

    def free(self) -> None: ...


class PinnedMemory(Protocol):
    """Memory of the host that is never paged out: only from there do copies run beside the kernels."""

    @property
    def bytes(self) -> NDArray[np.uint8]:
        """All of it, uint8[size]."""
        ...

    def free(self) -> None: ...


class Stream(Protocol):
    """What is queued here runs in its order, beside what is queued elsewhere; never the default stream."""

    @property
    def handle(self) -> int: ...

    def is_done(self) -> bool:
        """True if everything queued so far has run. Raises `DeviceError` if some of it failed."""
        ...

    def sync(self) -> None:
        """Wait for it. Raises `DeviceError` if some of it failed."""
        ...

    def free(self) -> None: ...


class Device(Protocol):
    """A GPU whose primary context (the one that every CUDA library in the process shares) is current in this thread.

    Every method raises `DeviceError`.
    """

    @property
    def facts(self) -> GpuFacts: ...

    def alloc(self, size_bytes: int) -> DeviceMemory: ...

    def pinned(self, size_bytes: int) -> PinnedMemory: ...

    def stream(self) -> Stream: ...

    def h2d(self, source: PinnedMemory, target: DeviceMemory, size_bytes: int, stream: Stream) -> None:
        """Queue a copy of the first bytes to the GPU."""
        ...

    def d2h(self, source: DeviceMemory, target: PinnedMemory, size_bytes: int, stream: Stream) -> None:
        """Queue a copy of the first bytes from the GPU."""
        ...

    def close(self) -> None:
        """Let go the context; everything else has been freed before."""
        ...
