"""Keeping processes alive: one thread looks after all of them, starts again what died, and says so."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from detections import processes
from detections.processes import Guard, Program

LOOK_EVERY_S = 0.05
FIRST_DELAY_S = 0.2
"""Before the first restart: it is there again within the second, as far as we are concerned."""
DELAY_MAX_S = 10.0
STABLE_AFTER_S = 10.0
"""A process that lived this long starts counting from zero again."""
DEATHS_MAX = 20
"""In a row without being stable once; then it is left dead and said so."""
_BOUND_LOGS_EVERY_S = 5.0

Say = Callable[[str], None]


class Death(msgspec.Struct, frozen=True, kw_only=True):
    """How a process ended."""

    name: str
    exit_code: int
    log: Path
    log_since_bytes: int = 0
    """Where in the log its life began."""

    def __str__(self) -> str:
        how = f"was killed by signal {-self.exit_code}" if self.exit_code < 0 else f"ended with code {self.exit_code}"
        return f"{self.name} {how}"

    def with_last_lines(self) -> str:
        """What it said last, for people."""
        lines = processes.last_lines(self.log, since_bytes=self.log_since_bytes)
        return f"{self}; the end of {self.log}:\n{lines}" if lines else f"{self}; it said nothing ({self.log})"


def delay_s(deaths: int) -> float:
    """How long to wait before starting a process again that died `deaths` times in a row (at least once)."""
    return min(DELAY_MAX_S, FIRST_DELAY_S * 2.0 ** (deaths - 1))


class Child:
    """One process over its lives."""

    def __init__(self, program: Program, guard: Guard) -> None:
        """Raises `OSError`."""
        self.program = program
        self.deaths = 0
        self.is_given_up = False
        self.restart_at_s: float | None = None
        self.begin(guard)

    def begin(self, guard: Guard) -> None:
        """Start its process, the first or another one. Raises `OSError`."""
        self._log_since_bytes = processes.size_bytes(self.program.log)
        self.process = guard.start(self.program)
        self.started_s = time.monotonic()

    def death(self) -> Death | None:
        exit_code = self.process.poll()
        if exit_code is None:
            return None
        return Death(
            name=self.program.name,
            exit_code=exit_code,
            log=self.program.log,
            log_since_bytes=self._log_since_bytes,
        )


class Supervisor:
    """Starts programs and, between `watch` and `stop`, starts again those that die."""

    def __init__(self, guard: Guard, say: Say, *, deaths_max: int = DEATHS_MAX) -> None:
        self._deaths_max = deaths_max
        self._guard = guard
        self._say = say
        self._children: list[Child] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)

    def start(self, program: Program) -> None:
        """Run a program. Raises `OSError`."""
        self._children.append(Child(program, self._guard))

    def watch(self) -> None:
        """From now on the dead are started again."""
        self._thread.start()

    def first_death(self) -> Death | None:
        """Somebody who is dead now: asked before `watch`, when a death means that the start has failed."""
        return next((death for child in self._children if (death := child.death()) is not None), None)

    def given_up(self) -> Death | None:
        """Somebody who died too often."""
        return next((child.death() for child in self._children if child.is_given_up), None)

    def pids(self, name: str) -> list[int]:
        """The running processes of the programs called `name`, in the order of their first start."""
        return [c.process.pid for c in self._children if c.program.name == name and c.process.poll() is None]

    def stop(self, *, timeout_s: float, last: tuple[str, ...] = ()) -> None:
        """End everything: the programs named in `last` after all others, in that order."""
        self._leave_the_dead()
        self._end([child for child in self._children if child.program.name not in last], timeout_s)
        for name in last:
            self._end([child for child in self._children if child.program.name == name], timeout_s)

    def kill(self) -> None:
        """End everything at once."""
        self._leave_the_dead()
        processes.kill([child.process for child in self._children])
        for child in self._children:
            self._guard.forget(child.process)

    def _leave_the_dead(self) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _end(self, children: list[Child], timeout_s: float) -> None:
        processes.end([child.process for child in children], timeout_s=timeout_s)
        for child in children:
            self._guard.forget(child.process)

    def _run(self) -> None:
        logs_bounded_s = time.monotonic()
        while not self._stopping.wait(LOOK_EVERY_S):
            for child in self._children:
                self._look_after(child)
            if time.monotonic() - logs_bounded_s > _BOUND_LOGS_EVERY_S:
                logs_bounded_s = time.monotonic()
                for child in self._children:
                    processes.bound(child.program.log)

    def _look_after(self, child: Child) -> None:
        death = child.death()
        if death is None or child.is_given_up:
            return
        if child.restart_at_s is None:
            self._mourn(child, death)
        elif time.monotonic() >= child.restart_at_s:
            self._start_again(child)

    def _mourn(self, child: Child, death: Death) -> None:
        self._guard.forget(child.process)
        if time.monotonic() - child.started_s > STABLE_AFTER_S:
            child.deaths = 0
        child.deaths += 1
        if child.deaths > self._deaths_max:
            child.is_given_up = True
            self._say(f"{death.with_last_lines()}\n{death.name} died {child.deaths} times in a row: left alone")
            return
        wait_s = delay_s(child.deaths)
        child.restart_at_s = time.monotonic() + wait_s
        self._say(f"{death}; starting it again in {wait_s:.1f} s (log: {death.log})")

    def _start_again(self, child: Child) -> None:
        try:
            child.begin(self._guard)
        except OSError as error:  # out of processes or memory: as if it had died at once
            child.deaths += 1
            child.restart_at_s = time.monotonic() + delay_s(child.deaths)
            self._say(f"{child.program.name} could not be started: {error}")
            return
        child.restart_at_s = None
        self._say(f"{child.program.name} started again (process {child.process.pid})")
