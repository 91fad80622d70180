"""The host's side of TensorRT alone: frames/s of our runtime over a stand-in for a GPU that takes no time and computes nothing.

What is left are the copies between tensors and pinned memory (here ordinary memory), and the way from thread to thread. Shapes of a
YOLOv8n at 640 x 640 in float32. Needs no GPU.
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np

from benchmarks.gpu import inferred
from benchmarks.probes import print_head
from engine.plans import Plan
from engine.runtimes.tensorrt import TensorRtRuntime

SHAPES = {"images": (3, 640, 640), "output0": (84, 8400)}
BATCH_MAX = 32
CASES = ((1, 1), (1, 4), (8, 2), (8, 4), (32, 2), (32, 4))
"""Rows of a batch, and callers at once."""
TURNS, TURN_S = 3, 0.25


class NoDevice:
    """Memory is the host's, nothing is copied over a bus, and everything queued has ended."""

    def __init__(self) -> None:
        self.stream = lambda: SimpleNamespace(handle=1, is_done=lambda: True, sync=_nothing, free=_nothing)
        self.alloc = lambda _size_bytes: SimpleNamespace(address=1, free=_nothing)
        self.pinned = lambda size_bytes: SimpleNamespace(bytes=np.ones(size_bytes, np.uint8), free=_nothing)
        self.h2d = self.d2h = self.close = _nothing


class NoTensorRt:
    """A library whose only engine takes batches of up to `BATCH_MAX` rows and is also its own context."""

    __version__ = "11.4"
    TensorIOMode = SimpleNamespace(INPUT="images")
    num_io_tensors = len(SHAPES)

    class ILogger:
        Severity = SimpleNamespace(ERROR=1, INTERNAL_ERROR=0)

    def __init__(self) -> None:
        self._rows: int | None = None
        self.init_libnvinfer_plugins = _nothing
        self.Runtime = lambda _logger: self
        self.deserialize_cuda_engine = lambda _content: self
        self.get_tensor_name = list(SHAPES).__getitem__
        self.get_tensor_mode = str
        self.get_tensor_dtype = self.nptype = lambda _of: np.float32
        self.get_tensor_profile_shape = lambda name, _profile: [(rows, *SHAPES[name]) for rows in (1, 1, BATCH_MAX)]
        self.set_tensor_address = lambda _name, _address: True
        self.execute_async_v3 = lambda _stream: True

    def create_execution_context(self) -> "NoTensorRt":
        return NoTensorRt()

    def set_input_shape(self, _name: str, shape: tuple[int, ...]) -> bool:
        self._rows = shape[0]
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (-1 if self._rows is None else self._rows, *SHAPES[name])


def _nothing(*_arguments: Any) -> None:
    return None


def main() -> None:
    print_head("The host's side of TensorRT, no GPU")
    plan = Plan(name="none", content=b"", library="tensorrt", metadata={})
    with closing(TensorRtRuntime(plan, library=NoTensorRt(), open_gpu=NoDevice)) as runtime:  # type: ignore[arg-type]
        asks = {"outputs copied": runtime.infer, "lent": partial(inferred, runtime)}
        for batch, callers in CASES:
            tensors = {"images": np.ones((batch, *SHAPES["images"]), np.float32)}
            taken = {name: np.zeros(3) for name in asks}
            for _ in range(TURNS):  # one after the other, so that what else runs here meets both
                for name, ask in asks.items():
                    taken[name] += _turn(lambda ask=ask, tensors=tensors: ask(tensors), callers)
            said = ", ".join(
                f"{name} {calls * batch / wall_s:5.0f} frames/s, {cpu_s / calls / batch * 1000:.2f} ms CPU a frame"
                for name, (calls, wall_s, cpu_s) in taken.items()
            )
            print(f"batch {batch:2}, {callers} callers: {said}")


def _turn(ask: Callable[[], Any], callers: int) -> tuple[int, float, float]:
    """Calls, and the wall and CPU seconds that they took."""
    ask()
    began_s, began_cpu_s = time.perf_counter(), time.process_time()

    def loop(_caller: int) -> int:
        calls = 0
        while time.perf_counter() < began_s + TURN_S:
            ask()
            calls += 1
        return calls

    with ThreadPoolExecutor(callers) as pool:
        calls = sum(pool.map(loop, range(callers)))
    return calls, time.perf_counter() - began_s, time.process_time() - began_cpu_s


if __name__ == "__main__":
    main()
