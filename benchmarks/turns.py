"""Contenders that take turns, a few seconds each, so that a noisy machine is as noisy for one as for the other.

Beside every contender runs the yardstick, before it and after it. What counts is the median over many turns of the ratio to
the yardstick of the same seconds: of frames per wall second, and of CPU seconds per frame, which neighbours disturb less.
"""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import msgspec

from benchmarks.probes import REPOSITORY
from contracts.allocator import HUGE_PAGES

CLOSE_TIMEOUT_S = 10.0
ENVIRON = HUGE_PAGES | os.environ
"""Of every contender: what a consumer begins with, so that none is faster for that alone."""


class Slice(msgspec.Struct, frozen=True, kw_only=True):
    """What was done in one turn."""

    frames: float
    wall_s: float
    cpu_s: float
    peak_bytes: float = 0.0

    @property
    def fps(self) -> float:
        return self.frames / self.wall_s

    @property
    def cpu_ms(self) -> float:
        """Milliseconds of CPU a frame."""
        return self.cpu_s / self.frames * 1e3


class Loop:
    """`count` processes of `benchmarks.loops` that work at the same time; what they did is added up."""

    def __init__(self, name: str, model: Path, video: Path, *, count: int = 1, python: Path | None = None) -> None:
        command = [str(python or sys.executable), "-m", "benchmarks.loops", name, str(model), str(video)]
        self._processes = [
            subprocess.Popen(
                command, cwd=REPOSITORY, env=ENVIRON, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            for _ in range(count)
        ]
        for process in self._processes:
            _answer(process)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for process in self._processes:
            _pipe(process.stdin).close()
            try:
                process.wait(CLOSE_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def __call__(self, seconds: float) -> Slice:
        for process in self._processes:
            _pipe(process.stdin).write(f"{seconds}\n")
            _pipe(process.stdin).flush()
        done = [msgspec.convert(_answer(process), Slice) for process in self._processes]
        return Slice(
            frames=sum(each.frames for each in done),
            wall_s=statistics.mean(each.wall_s for each in done),
            cpu_s=sum(each.cpu_s for each in done),
            peak_bytes=sum(each.peak_bytes for each in done),
        )


class Beside(msgspec.Struct, frozen=True, kw_only=True):
    """A turn, and the yardstick's turns before and after it."""

    turn: Slice
    yardstick: tuple[Slice, Slice]

    @property
    def speed(self) -> float:
        """Frames per second, in those of the yardstick."""
        return self.turn.fps / statistics.mean(each.fps for each in self.yardstick)

    @property
    def thrift(self) -> float:
        """The yardstick's CPU seconds per frame, in those of the turn: 1 is as good, less is dearer."""
        return statistics.mean(each.cpu_ms for each in self.yardstick) / self.turn.cpu_ms


def take_turns(
    contenders: dict[str, Callable[[], Slice]], yardstick: Callable[[], Slice], *, turns: int
) -> dict[str, list[Beside]]:
    """Every contender once a turn, each between two turns of the yardstick."""
    taken: dict[str, list[Beside]] = {name: [] for name in contenders}
    before = yardstick()
    for turn in range(turns):
        for name, contender in contenders.items():
            done = contender()
            after = yardstick()
            taken[name].append(Beside(turn=done, yardstick=(before, after)))
            before = after
            print(f"  {turn + 1}/{turns} {name}: {done.fps:.1f} fps, {taken[name][-1].speed:.2f}", flush=True)
    return taken


def spread(values: Sequence[float]) -> str:
    """`0.97 (0.91-1.02)`: the median, and between which values the middle half lies."""
    if len(values) < 2:
        return f"{values[0]:.2f}"
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"{middle:.2f} ({low:.2f}-{high:.2f})"


def _answer(process: "subprocess.Popen[str]") -> dict[str, float]:
    line = _pipe(process.stdout).readline()
    if not line:
        raise SystemExit(f"{process.args} ended with {process.wait()}")
    try:
        return json.loads(line)
    except json.JSONDecodeError:
        return _answer(process)  # a library's greeting


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe
