"""Whether what a process holds grows: samples over time, and the slope of the line through them."""

import statistics
from collections.abc import Sequence
from pathlib import Path

import msgspec

from tests.counted import Held

PAIRS_APART = 0.25
"""Of all samples: nearer ones say nothing of the slope."""


class Sample(msgspec.Struct, frozen=True):
    """What a process holds at a time."""

    at_s: float
    held_bytes: int
    """Its own memory, resident: pages of files come and go with the page cache."""
    descriptors: int
    threads: int
    tasks: int
    blocks: int


def sample(pid: int, counted: Path, at_s: float) -> Sample:
    """counted: the file of `tests.counted`."""
    held = msgspec.json.decode(counted.read_bytes(), type=Held)
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return Sample(
        at_s=at_s,
        held_bytes=int(status["RssAnon"].split()[0]) << 10,
        descriptors=sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()),
        threads=int(status["Threads"]),
        tasks=held.tasks,
        blocks=held.blocks,
    )


def slope_per_h(times_s: Sequence[float], values: Sequence[float]) -> float:
    """Of the line through them: the median slope of all pairs that lie far apart (Theil and Sen), so peaks do not bend it."""
    far = max(1, int(len(values) * PAIRS_APART))
    slopes = [
        (values[later] - values[sooner]) / (times_s[later] - times_s[sooner])
        for sooner in range(len(values))
        for later in range(sooner + far, len(values))
    ]
    return statistics.median(slopes) * 3600


def rise(values: Sequence[float]) -> float:
    """By how much the median of the last fifth lies above that of the first."""
    fifth = max(1, len(values) // 5)
    return statistics.median(values[-fifth:]) - statistics.median(values[:fifth])


def floor_rise(counts: Sequence[int]) -> int:
    """By how much the lower quarter of the last fifth lies above that of the first: what comes and goes is left out."""
    fifth = max(1, len(counts) // 5)
    return sorted(counts[-fifth:])[fifth // 4] - sorted(counts[:fifth])[fifth // 4]
