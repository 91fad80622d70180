"""First shots: from the byte that makes a boundary certain to its SSE event in the client.

The last byte of the window that decides a boundary is that of the 25th frame behind the 50 that it is asked about. The clock
starts when it has left the client and stops when the event with the shot is there. Consumer idle, model warm, the clip sent as
fast as it plays. One window's inference is measured in this process between the uploads and taken off. The goal: <= 250 ms
beside one window's inference.
"""

import argparse
import statistics
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import httpx
import msgspec
import numpy as np

from benchmarks.probes import percentile, print_head, summary_ms
from contracts.events import DetectionEvent, MediaStatus
from detections.local import LocalStack
from detections.model_files import find_shot_model
from engine.shot_model import ShotModel, open_shot_model
from engine.shot_windows import HEIGHT, MARGIN, STEP, WIDTH, WINDOW

FPS = 25
SIZE = (640, 360)
CUTS = (40, 110, 163, 221, 279)
FRAMES = 350
CHUNK_BYTES = 4 * 1024
GOAL_S = 0.25


class Clip(msgspec.Struct, frozen=True):
    content: bytes
    ends: tuple[int, ...]
    """Where each frame's bytes end in the file."""

    def deciding_byte(self, frame: int) -> int:
        """Where the bytes end that are needed to know everything about a frame."""
        last = frame // STEP * STEP + STEP + MARGIN - 1
        return self.ends[last] if last < len(self.ends) else len(self.content)


class Told(msgspec.Struct, frozen=True):
    at_s: float
    event: DetectionEvent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=6)
    arguments = parser.parse_args()
    print_head(f"First shots, {arguments.turns} uploads of {FRAMES / FPS:.0f} s as fast as they play")
    model = open_shot_model(find_shot_model(None))
    delays: list[float] = []
    inferences: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        clip = _clip(Path(folder) / "scenes.mp4")
        with (
            LocalStack(Path(folder) / "storage", consumers=1) as stack,
            httpx.Client(base_url=stack.url, timeout=60) as client,
        ):
            _delays(client, clip)  # the model is warm from here on
            for _ in range(arguments.turns):
                inferences.append(_inference_s(model))
                delays += _delays(client, clip)
    inference_s = statistics.median(inferences)
    beside = [delay_s - inference_s for delay_s in delays]
    print(f"one window of {model.card.name} in one thread: {inference_s * 1e3:.0f} ms")
    print(f"a boundary's event behind its byte: {summary_ms(delays)}")
    p50_s, p95_s = statistics.median(beside), percentile(beside, 0.95)
    verdict = "reached" if p95_s <= GOAL_S else "missed"
    print(
        f"beside one window: p50 {p50_s * 1e3:.0f} ms, p95 {p95_s * 1e3:.0f} ms; goal {GOAL_S * 1e3:.0f} ms: {verdict}"
    )


def _delays(client: httpx.Client, clip: Clip) -> list[float]:
    """How long after its byte each boundary was told, in one upload."""
    task_id = str(uuid.uuid4())
    left_s: list[tuple[int, float]] = []
    with client.stream("GET", "/detect/stream", params={"taskId": task_id}) as events:
        lines = events.iter_lines()
        while not next(lines).startswith("id:"):  # the head's id: we are listening
            continue
        sending = threading.Thread(target=_send, args=(client, clip, task_id, left_s))
        sending.start()
        told = list(_told(lines))
        sending.join()
    boundaries = [one for one in told if any(shot.transition for shot in one.event.shots or ())]
    if len(boundaries) != len(CUTS):
        raise RuntimeError(f"{len(boundaries)} boundaries were told, not {len(CUTS)}")
    return [one.at_s - _left_at_s(left_s, clip.deciding_byte(one.event.frame_index or 0)) for one in boundaries]


def _left_at_s(left_s: list[tuple[int, float]], needed: int) -> float:
    return next(at_s for sent_bytes, at_s in left_s if sent_bytes >= needed)


def _told(lines: Iterator[str]) -> Iterator[Told]:
    for line in lines:
        if not line.startswith("data:"):
            continue
        now_s = time.perf_counter()
        event = msgspec.json.decode(line.removeprefix("data:"), type=DetectionEvent)
        yield Told(now_s, event)
        if event.media_status is not MediaStatus.AI_PROCESSING:
            if event.error is not None:
                raise RuntimeError(event.error.detail)
            return
    raise RuntimeError("the stream ended")


def _send(client: httpx.Client, clip: Clip, task_id: str, left_s: list[tuple[int, float]]) -> None:
    headers = {"X-Filename": "scenes.mp4", "X-Task-Id": task_id, "Content-Length": str(len(clip.content))}
    client.post("/shots", content=_as_it_plays(clip, left_s), headers=headers).raise_for_status()


def _as_it_plays(clip: Clip, left_s: list[tuple[int, float]]) -> Iterator[bytes]:
    bytes_per_s = len(clip.content) / (FRAMES / FPS)
    began_s = time.perf_counter()
    for start in range(0, len(clip.content), CHUNK_BYTES):
        time.sleep(max(0.0, began_s + start / bytes_per_s - time.perf_counter()))
        yield clip.content[start : start + CHUNK_BYTES]
        left_s.append((start + CHUNK_BYTES, time.perf_counter()))


def _clip(path: Path) -> Clip:
    """Scenes of drifting colours, as fragmented MP4."""
    random = np.random.default_rng(5)
    options = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    with av.open(str(path), "w", format="mp4", options=options) as out:
        stream = out.add_stream("libx264", rate=FPS, options={"preset": "veryfast", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = *SIZE, "yuv420p", 12
        colours = _colours(random)
        for index in range(FRAMES):
            if index in CUTS:
                colours = _colours(random)
            picture = np.roll(colours, index, axis=1)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, FPS)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    with av.open(str(path)) as written:
        ends = tuple(
            packet.pos + packet.size for packet in written.demux(video=0) if packet.pos is not None and packet.size
        )
    return Clip(path.read_bytes(), ends)


def _colours(random: np.random.Generator) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    coarse = random.integers(0, 256, (9, 16, 3), np.uint8)
    smooth = cv2.resize(coarse, SIZE, interpolation=cv2.INTER_CUBIC)
    return np.clip(smooth + random.integers(-6, 7, smooth.shape), 0, 255).astype(np.uint8)


def _inference_s(model: ShotModel) -> float:
    """The median of one window in one thread."""
    window = np.random.default_rng(0).integers(0, 256, (WINDOW, HEIGHT, WIDTH, 3), np.uint8)
    took: list[float] = []
    for _ in range(5):
        began_s = time.perf_counter()
        model.look([window])
        took.append(time.perf_counter() - began_s)
    return statistics.median(took)


if __name__ == "__main__":
    main()
