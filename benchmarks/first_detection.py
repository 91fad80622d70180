"""First detection: from the byte that makes it possible to the SSE event in the client.

The clock starts when byte max(64 KiB, end of the header plus the first key frame) has left the client, and stops when the
first event with annotations is there. Consumer idle, engine warm, upload throttled to 2 MB/s. One inference is measured in
this process in the same run and taken off. The goal: p50 <= 100 ms, p95 <= 200 ms, beside one inference.
"""

import argparse
import statistics
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import msgspec

from benchmarks.clips import CONTAINERS, Clip, make_clip
from benchmarks.probes import percentile, print_head, summary_ms
from contracts.options import DetectionOptions
from detections.boxes import tail_bytes
from detections.local import LocalStack
from detections.model_files import DEFAULT_MODEL, find_model
from detections.video_file import opened_video

RATE_BYTES_S = 2_000_000
CHUNK_BYTES = 16 * 1024
READER_BYTES = 64 * 1024
"""The decoder asks for this much before it says what a file is."""
EVENT_TIMEOUT_S = 60.0


class Sent(msgspec.Struct):
    """When which share of an upload had left the client."""

    started_at_s: float | None = None
    total_bytes: int = 0
    first_detection_share: float | None = None
    sent_bytes: int = 0


def main() -> None:
    arguments = _arguments()
    print_head(f"First detection, {arguments.turns} uploads for each container, {RATE_BYTES_S / 1e6:.0f} MB/s")
    with tempfile.TemporaryDirectory() as folder:
        clips = [make_clip(Path(folder), container, seconds=arguments.seconds) for container in arguments.containers]
        inference_s = _inference_s(clips[0])
        print(f"one inference of this model in one thread: {inference_s * 1e3:.0f} ms")
        with (
            LocalStack(Path(folder) / "storage", consumers=1) as stack,
            httpx.Client(base_url=stack.url, timeout=60) as client,
        ):
            _measure(client, clips[0])  # the engine is warm from here on
            for clip in clips:
                _report(clip, [_measure(client, clip) for _ in range(arguments.turns)], inference_s)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=12, help="length of the clips")
    parser.add_argument("--containers", nargs="+", default=list(CONTAINERS), choices=list(CONTAINERS))
    return parser.parse_args()


class Measured(msgspec.Struct, frozen=True):
    delay_s: float
    share_sent: float


def _measure(client: httpx.Client, clip: Clip) -> Measured:
    """One upload; its tail goes first where the box order needs it."""
    task_id = str(uuid.uuid4())
    sent = Sent(total_bytes=clip.path.stat().st_size)
    with client.stream("GET", "/detect/stream", params={"taskId": task_id}) as events:
        lines = events.iter_lines()
        while not next(lines).startswith("id:"):  # the head's id: we are listening
            continue
        uploading = threading.Thread(target=_upload, args=(client, clip, task_id, sent))
        uploading.start()
        seen_at_s = _first_annotations(lines, sent)
        uploading.join()
    if sent.started_at_s is None:
        raise RuntimeError("a detection came before its bytes were sent")
    _end(client, task_id)
    return Measured(delay_s=seen_at_s - sent.started_at_s, share_sent=(sent.first_detection_share or 1.0))


def _end(client: httpx.Client, task_id: str) -> None:
    """Cancel the rest, so that the next upload finds an idle consumer."""
    client.delete(f"/tasks/{task_id}")
    deadline_s = time.monotonic() + EVENT_TIMEOUT_S
    while client.get(f"/tasks/{task_id}").json()["status"] in ("Queued", "Running"):
        if time.monotonic() > deadline_s:
            raise RuntimeError("the task did not end")
        time.sleep(0.05)
    time.sleep(0.3)


def _first_annotations(lines: Iterator[str], sent: Sent) -> float:
    deadline = time.perf_counter() + EVENT_TIMEOUT_S
    for line in lines:
        now_s = time.perf_counter()
        if line.startswith("data:") and '"annotations":[]' not in line:
            sent.first_detection_share = sent.sent_bytes / sent.total_bytes
            return now_s
        if now_s > deadline or "AIProcessed" in line or "Error" in line:
            raise RuntimeError(f"no detection: {line[:300]}")
    raise RuntimeError("the stream ended")


def _upload(client: httpx.Client, clip: Clip, task_id: str, sent: Sent) -> None:
    content = clip.path.read_bytes()
    headers = {"X-Filename": clip.path.name, "X-Task-Id": task_id, "Content-Length": str(len(content))}
    headers["X-Config"] = '{"frame_period_recognition": 4, "frame_recognition_seconds": 0}'
    with clip.path.open("rb") as file:
        tail = tail_bytes(file)
    if tail:
        headers["X-Tail-Bytes"] = str(tail)
        content = content[-tail:] + content[:-tail]
    client.post(
        "/detect/video",
        content=_throttled(content, needed=max(READER_BYTES, clip.first_frame_bytes + (tail or 0)), sent=sent),
        headers=headers,
    ).raise_for_status()


def _throttled(content: bytes, *, needed: int, sent: Sent) -> Iterator[bytes]:
    began_s = time.perf_counter()
    for offset in range(0, len(content), CHUNK_BYTES):
        time.sleep(max(0.0, began_s + offset / RATE_BYTES_S - time.perf_counter()))
        yield content[offset : offset + CHUNK_BYTES]
        sent.sent_bytes = min(offset + CHUNK_BYTES, len(content))
        if sent.started_at_s is None and sent.sent_bytes >= min(needed, len(content)):
            sent.started_at_s = time.perf_counter()


def _inference_s(clip: Clip) -> float:
    """The median of one in-process detection, one thread, on the clip's first frame."""
    from engine.loading import load_detector

    detector = load_detector(find_model(DEFAULT_MODEL))
    with opened_video(clip.path) as video:
        frame = next(iter(video.frames()))
        took: list[float] = []
        for _ in range(9):
            began_s = time.perf_counter()
            detector.detect(frame, DetectionOptions())
            took.append(time.perf_counter() - began_s)
    return statistics.median(took)


def _report(clip: Clip, measured: list[Measured], inference_s: float) -> None:
    beside = [one.delay_s - inference_s for one in measured]
    share = statistics.median(one.share_sent for one in measured)
    print(
        f"{clip.name}: {summary_ms(one.delay_s for one in measured)}; beside one inference p50 {statistics.median(beside) * 1e3:.0f} ms, "
        f"p95 {percentile(beside, 0.95) * 1e3:.0f} ms; {share:.1%} of the file sent at the first detection",
        flush=True,
    )


if __name__ == "__main__":
    main()
