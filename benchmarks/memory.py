"""Memory: peak resident growth of edge and consumer while a large video arrives at full speed.

The clip is made by repeating packets, so the size is free: 0.2, 1, 2 GB. The goal: <= 40 MB in the edge over idle, <= 80 MB
in the consumer over an engine warmed at the same frame size, whatever the size.
"""

import argparse
import tempfile
import time
from pathlib import Path

import httpx

from benchmarks.clips import write_long_clip
from benchmarks.probes import peak_rss_bytes, print_head, reset_peak, rss_bytes
from detections.local import LocalStack

CHUNK_BYTES = 256 * 1024
END_TIMEOUT_S = 900.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, nargs="+", default=[0.2, 1.0, 2.0])
    arguments = parser.parse_args()
    print_head("Memory, an upload at full speed")
    with tempfile.TemporaryDirectory() as folder, LocalStack(Path(folder) / "storage") as stack:
        edge, consumer = stack.pids("edge")[0], stack.pids("consumer-1")[0]
        with httpx.Client(base_url=stack.url, timeout=END_TIMEOUT_S) as client:
            idle_bytes = rss_bytes(edge)
            _upload(client, write_long_clip(Path(folder) / "warm.mkv", 20_000_000))
            warm_bytes = rss_bytes(consumer)
            print(f"edge idle {idle_bytes / 1e6:.0f} MB, consumer warm {warm_bytes / 1e6:.0f} MB")
            for gigabytes in arguments.gigabytes:
                clip = write_long_clip(Path(folder) / "long.mkv", int(gigabytes * 1e9))
                reset_peak(edge), reset_peak(consumer)
                began_s = time.perf_counter()
                counts = _upload(client, clip)
                print(
                    f"{clip.stat().st_size / 1e9:.2f} GB in {time.perf_counter() - began_s:.0f} s: "
                    f"edge +{(peak_rss_bytes(edge) - idle_bytes) / 1e6:.0f} MB, "
                    f"consumer +{(peak_rss_bytes(consumer) - warm_bytes) / 1e6:.0f} MB, counts {counts}",
                    flush=True,
                )


def _upload(client: httpx.Client, clip: Path) -> object:
    """Send the clip and wait for the end of its task."""
    config = '{"frame_period_recognition": 50}'
    with clip.open("rb") as file:
        answer = client.post(
            "/detect/video",
            content=iter(lambda: file.read(CHUNK_BYTES), b""),
            headers={"X-Filename": clip.name, "X-Config": config, "Content-Length": str(clip.stat().st_size)},
        )
    task = client.get(f"/tasks/{answer.raise_for_status().json()['taskId']}").json()
    deadline_s = time.monotonic() + END_TIMEOUT_S
    while task["status"] in ("Queued", "Running") and time.monotonic() < deadline_s:
        time.sleep(0.2)
        task = client.get(f"/tasks/{task['taskId']}").json()
    if task["status"] != "Succeeded":
        raise RuntimeError(f"the task did not succeed: {task}")
    return task["counts"]


if __name__ == "__main__":
    main()
