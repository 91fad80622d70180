"""What a server between the engine and its model costs: milliseconds a call, by gRPC, by HTTP and in the process itself.

The server is the tests' Triton on this machine, one thread of onnxruntime in its python backend, so what differs is the way
there and back. The three take turns, so that a busy machine is busy for all of them.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import msgspec
import numpy as np

from benchmarks.probes import print_head
from engine.opening import open_runtime
from engine.runtime import Runtime, Tensor
from tests.triton_server import TritonMissingError, TritonServer

MODEL = Path(__file__).resolve().parent.parent / "models" / "aerial-vehicle.onnx"
SIDES_PX = (96, 480, 960)
"""Of a square picture; 96 is nearly nothing but the way."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=15)
    turns = parser.parse_args().turns
    print_head("A Triton server, ms a call")
    with tempfile.TemporaryDirectory() as folder:
        try:
            server = TritonServer(Path(folder))
        except TritonMissingError as error:
            print(error)
            return
        server.add_shipped()
        try:
            server.start("aerial-vehicle")
            _compare(server, turns)
        finally:
            server.close()


class Timed(msgspec.Struct, frozen=True, kw_only=True):
    """One call: how long it took, and what of it this process computed."""

    wall_ms: float
    cpu_ms: float


def _compare(server: TritonServer, turns: int) -> None:
    runtimes = {
        "local": open_runtime(MODEL),
        "gRPC": open_runtime(server.model("aerial-vehicle", "grpc")),
        "HTTP": open_runtime(server.model("aerial-vehicle", "http")),
    }
    for side in SIDES_PX:
        tensors = {"images": np.random.default_rng(1).random((1, 3, side, side)).astype(np.float32)}
        calls: dict[str, list[Timed]] = {name: [] for name in runtimes}
        for turn in range(turns + 1):
            for name, runtime in runtimes.items():
                timed = _timed(runtime, tensors)
                if turn:  # the first of each warms up
                    calls[name].append(timed)
        print(f"{side} x {side} px, {tensors['images'].nbytes / 1e6:.1f} MB; {turns} calls each, taking turns")
        for name, timed in calls.items():
            print(f"  {name}: {_line(timed)}", flush=True)
    for runtime in runtimes.values():
        runtime.close()


def _timed(runtime: Runtime, tensors: dict[str, Tensor]) -> Timed:
    began_s, began_cpu_s = time.perf_counter(), time.process_time()
    runtime.infer(tensors)
    return Timed(wall_ms=(time.perf_counter() - began_s) * 1000, cpu_ms=(time.process_time() - began_cpu_s) * 1000)


def _line(calls: list[Timed]) -> str:
    walls = [call.wall_ms for call in calls]
    cpu_ms = statistics.median(call.cpu_ms for call in calls)
    return f"median {statistics.median(walls):.1f}, best {min(walls):.1f} ms; CPU of this process {cpu_ms:.1f} ms"


if __name__ == "__main__":
    main()
