"""Named places in the code where a test ends this process: `CRASHPOINT=name:n` kills it at the n-th passage.

`CRASHPOINT=name:n:stop` stops it there instead (SIGSTOP), so that something else can be killed at that very moment. It says so
on stderr first: a test that never reached its place would prove nothing. Where none is armed a place costs one comparison.
"""

import os
import signal
import sys
import threading
from collections.abc import Mapping

VARIABLE = "CRASHPOINT"


class _Trap:
    """The one place of this process that is armed, if any."""

    def __init__(self) -> None:
        self.name: str | None = None
        self._passages_left = 0
        self._signal = signal.SIGKILL
        self._lock = threading.Lock()

    def arm(self, text: str) -> None:
        name, count, *how = text.split(":")
        self.name, self._passages_left = name, int(count)
        self._signal = signal.SIGSTOP if how == ["stop"] else signal.SIGKILL

    def pass_by(self) -> None:
        with self._lock:  # nobody else passes while this process dies
            self._passages_left -= 1
            if self._passages_left == 0:
                os.write(sys.stderr.fileno(), f"crash point {self.name} was reached\n".encode())
                os.kill(os.getpid(), self._signal)


_trap = _Trap()


def arm(environ: Mapping[str, str]) -> None:
    """Arm what the environment names. Raises `ValueError` if it is not `name:n` or `name:n:stop`."""
    if text := environ.get(VARIABLE):
        _trap.arm(text)


def crashpoint(name: str) -> None:
    """A place where a test may end this process; nothing happens anywhere else."""
    if name == _trap.name:
        _trap.pass_by()
