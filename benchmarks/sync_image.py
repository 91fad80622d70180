"""Sync image: what `POST /detect` costs beside the detection itself, and what many clients get out of the engine.

p50 of the whole request minus p50 of the same detection in this process (goal <= 10 ms), then 16 clients at once, in turns
with the engine alone: no error, and at least 0.9 of what the engine gives with the same number of workers and no service
around it. Clients, edge, broker and consumer share the cores here, so the CPU seconds of each are printed, and the ratio also
for the cores that were left to the consumer: that is what a machine with the clients elsewhere gives.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import msgspec

from benchmarks.clips import write_photo
from benchmarks.probes import print_head, summary_ms, tree_cpu_seconds
from contracts.options import DetectionOptions
from detections.local import LocalStack
from detections.model_files import DEFAULT_MODEL, find_model

CLIENTS = 16
CORES = os.cpu_count() or 1
TURNS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=60)
    parser.add_argument("--model", type=Path, default=None)
    parser.add_argument("--photo", type=Path, default=None)
    arguments = parser.parse_args()
    print_head("Sync image")
    with tempfile.TemporaryDirectory() as folder:
        photo = arguments.photo or write_photo(Path(folder) / "street.jpg")
        with (
            LocalStack(Path(folder) / "storage", model=arguments.model) as stack,
            httpx.Client(base_url=stack.url, timeout=60) as client,
        ):
            _run(stack, client, photo, arguments.model, arguments.requests)


def _run(stack: LocalStack, client: httpx.Client, photo: Path, model: Path | None, requests: int) -> None:
    from engine.batching import Workers
    from engine.images import read_picture
    from engine.loading import load_detector

    content = photo.read_bytes()

    def whole() -> None:
        client.post("/detect", files={"file": (photo.name, content)}).raise_for_status()

    workers = Workers(load_detector(model or find_model(DEFAULT_MODEL)), count=CORES)

    def bare() -> None:
        workers.detect_image(read_picture(photo), DetectionOptions())

    whole()  # warm, as the next
    bare()
    turns = [(_took(whole), _took(bare)) for _ in range(requests)]
    beside = statistics.median(turn[0] for turn in turns) - statistics.median(turn[1] for turn in turns)
    print(f"POST /detect: {summary_ms(turn[0] for turn in turns)}")
    print(f"in process:   {summary_ms(turn[1] for turn in turns)}")
    print(f"beside the detection: {beside * 1e3:.1f} ms")
    ratios = [_turn(stack, whole, bare, requests * 4 // TURNS) for _ in range(TURNS)]
    print(
        f"median of {TURNS} turns: {statistics.median(each.of_all for each in ratios):.2f} of the engine alone, "
        f"{statistics.median(each.by_cpu for each in ratios):.2f} by CPU seconds, no error"
    )
    workers.close()


class Ratios(msgspec.Struct, frozen=True):
    """The service beside the engine alone."""

    of_all: float
    """Pictures a second of the service, of those of the engine alone."""
    by_cpu: float
    """Pictures per CPU second of the consumer, of those per CPU second of the engine alone."""


def _turn(stack: LocalStack, whole: Callable[[], None], bare: Callable[[], None], count: int) -> Ratios:
    """Print and return what `count` pictures of `CLIENTS` clients make of the service and of the engine alone."""
    began = _cpu_s(stack)
    service = _rate(whole, count)
    cpu = {name: spent - began[name] for name, spent in _cpu_s(stack).items()}
    began_s = time.process_time()
    engine = _rate(bare, count)
    engine_cpu_s = time.process_time() - began_s
    split = ", ".join(f"{name} {spent / count * 1e3:.1f}" for name, spent in cpu.items())
    print(
        f"{CLIENTS} clients: {service:.1f}/s through the service, {engine:.1f}/s by the engine alone, ratio {service / engine:.2f}; "
        f"ms CPU a picture: {split}; engine alone {engine_cpu_s / count * 1e3:.1f}",
        flush=True,
    )
    return Ratios(service / engine, engine_cpu_s / cpu["consumer"])


def _cpu_s(stack: LocalStack) -> dict[str, float]:
    """CPU seconds so far of everybody who shares the cores; a broker with its children."""
    names = {"consumer": "consumer-1", "edge": "edge", "broker": "broker"}
    spent = {name: sum(map(tree_cpu_seconds, stack.pids(program))) for name, program in names.items()}
    return spent | {"clients": time.process_time()}


def _took(call: Callable[[], None]) -> float:
    began_s = time.perf_counter()
    call()
    return time.perf_counter() - began_s


def _rate(call: Callable[[], None], count: int) -> float:
    """Calls per second of `CLIENTS` threads; any error ends the benchmark."""
    began_s = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as pool:
        for future in [pool.submit(call) for _ in range(count)]:
            future.result()
    return count / (time.perf_counter() - began_s)


if __name__ == "__main__":
    main()
