"""What a run with faults did and when, from one seed; printed when the run fails, so that it can be read and run again."""

import os
import random
import secrets
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

SEED = "FAULT_SEED"
"""In the environment: the seed of an earlier run."""


class Timeline:
    """Notes with the time since the start, and the chance that decides."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.chance = random.Random(seed)
        self.notes: list[str] = []
        self._started_s = time.monotonic()

    def note(self, what: str) -> None:
        self.notes.append(f"{time.monotonic() - self._started_s:8.3f} s  {what}")

    def __str__(self) -> str:
        return "\n".join([f"{SEED}={self.seed}", *self.notes])


@contextmanager
def timeline(name: str) -> Iterator[Timeline]:
    """A timeline that is printed if the block fails. The seed is `FAULT_SEED`, else a new one."""
    told = Timeline(int(os.environ.get(SEED) or secrets.randbits(32)))
    try:
        yield told
    except BaseException:
        print(f"{name}\n{told}", file=sys.stderr)
        raise
