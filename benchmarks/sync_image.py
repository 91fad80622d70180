"""Sync image: what `POST /detect` costs beside the detection itself, and what many clients get out of the engine.

p50 of the whole request minus p50 of the same detection in this process (goal <= 10 ms), then 16 clients at once: no error,
and at least 0.9 of what the engine gives with the same number of workers and no service around it.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from benchmarks.clips import write_photo
from benchmarks.probes import print_head, summary_ms
from contracts.options import DetectionOptions
from detections.local import LocalStack
from detections.model_files import DEFAULT_MODEL, find_model

CLIENTS = 16


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
            _run(client, photo, arguments.model, arguments.requests)


def _run(client: httpx.Client, photo: Path, model: Path | None, requests: int) -> None:
    from engine.batching import Workers
    from engine.images import read_picture
    from engine.loading import load_detector

    content = photo.read_bytes()

    def whole() -> None:
        client.post("/detect", files={"file": (photo.name, content)}).raise_for_status()

    workers = Workers(load_detector(model or find_model(DEFAULT_MODEL)), count=2)

    def bare() -> None:
        workers.detect_image(read_picture(photo), DetectionOptions())

    whole(), bare()  # warm
    turns = [(_took(whole), _took(bare)) for _ in range(requests)]
    beside = statistics.median(turn[0] for turn in turns) - statistics.median(turn[1] for turn in turns)
    print(f"POST /detect: {summary_ms(turn[0] for turn in turns)}")
    print(f"in process:   {summary_ms(turn[1] for turn in turns)}")
    print(f"beside the detection: {beside * 1e3:.1f} ms")
    service, engine = _rate(whole, requests * 4), _rate(bare, requests * 4)
    print(
        f"{CLIENTS} clients: {service:.1f}/s through the service, {engine:.1f}/s by the engine alone, ratio {service / engine:.2f}, no error"
    )
    workers.close()


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
