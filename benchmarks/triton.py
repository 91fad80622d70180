"""What a server between the engine and its model costs: milliseconds a call, by gRPC, by HTTP and in the process itself.

The server is the tests' Triton on this machine, one thread of onnxruntime in its python backend, so what differs is the way
there and back. The three take turns, so that a busy machine is busy for all of them.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.probes import print_head
from engine.opening import open_runtime
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


def _compare(server: TritonServer, turns: int) -> None:
    runtimes = {
        "local": open_runtime(MODEL),
        "gRPC": open_runtime(server.model("aerial-vehicle", "grpc")),
        "HTTP": open_runtime(server.model("aerial-vehicle", "http")),
    }
    for side in SIDES_PX:
        tensors = {"images": np.random.default_rng(1).random((1, 3, side, side)).astype(np.float32)}
        took_ms: dict[str, list[float]] = {name: [] for name in runtimes}
        for turn in range(turns + 1):
            for name, runtime in runtimes.items():
                began_s = time.perf_counter()
                runtime.infer(tensors)
                if turn:  # the first of each warms up
                    took_ms[name].append((time.perf_counter() - began_s) * 1000)
        medians = {name: statistics.median(times) for name, times in took_ms.items()}
        way = {name: medians[name] - medians["local"] for name in ("gRPC", "HTTP")}
        print(
            f"{side} x {side} px ({tensors['images'].nbytes / 1e6:.1f} MB): "
            + ", ".join(f"{name} {median:.1f}" for name, median in medians.items())
            + f" ms; the way: gRPC {way['gRPC']:+.1f}, HTTP {way['HTTP']:+.1f} ms; median of {turns}, taking turns",
            flush=True,
        )
    for runtime in runtimes.values():
        runtime.close()


if __name__ == "__main__":
    main()
