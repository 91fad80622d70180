"""Child processes that cannot outlive us: each in a group of its own, each known to the guard before it runs."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import msgspec

from detections import guard

LOG_BYTES_MAX = 10_000_000
"""Of one log file; one older generation is kept beside it."""
LAST_LINES_MAX = 60
"""A broker that does not boot names the reason first and then its 50 lines of Erlang."""
_LAST_BYTES_MAX = 16_000
_KILLED_WAIT_S = 10.0
# Held back by `read` until the guard knows the group: killed before that, we leave a shell that reads the end of its input
_HELD_BACK = ("/bin/sh", "-c", 'read -r go && exec "$@" </dev/null', "sh")


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """What is started, and again after it died."""

    name: str
    command: Sequence[str]
    environ: Mapping[str, str]
    log: Path
    """Gets stdout and stderr, appended."""
    folder: Path | None = None


class Guard:
    """Starts processes, and the one that ends them if we cannot (`detections/guard.py`)."""

    def __init__(self, *, lock: int | None = None) -> None:
        """lock: a locked file descriptor; it stays locked until the last process is gone, even if we are killed."""
        self._lock_descriptors = () if lock is None else (lock,)
        self._groups: set[int] = set()
        self._process: subprocess.Popen[bytes] | None = None
        self._busy = threading.Lock()

    def start(self, program: Program) -> "subprocess.Popen[bytes]":
        """A running process whose pid is also its group. Raises `OSError` if it cannot be started."""
        program.log.parent.mkdir(parents=True, exist_ok=True)
        with program.log.open("ab") as log:
            process = subprocess.Popen(  # noqa: S603 - our own programs
                [*_HELD_BACK, *program.command],
                env=program.environ,
                cwd=program.folder,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches us alone: we say who ends when
            )
        with self._busy:
            self._groups.add(process.pid)
            self._tell(f"+{process.pid}\n")
        with contextlib.suppress(BrokenPipeError), _input(process) as go:
            go.write(b"\n")
        return process

    def forget(self, process: "subprocess.Popen[bytes]") -> None:
        """The process has ended; what it left of its group is killed, and its number may be used again."""
        guard.send(process.pid, signal.SIGKILL)
        with self._busy:
            if process.pid in self._groups:
                self._groups.discard(process.pid)
                self._tell(f"-{process.pid}\n")

    def close(self) -> None:
        """End the guard; what was not forgotten is ended with it."""
        with self._busy:
            if self._process is None:
                return
            with contextlib.suppress(BrokenPipeError):
                _input(self._process).close()
            self._process.wait(guard.GRACE_S + _KILLED_WAIT_S)
            self._process = None
            self._groups.clear()

    def _tell(self, line: str) -> None:
        try:
            self._write(line)
        except BrokenPipeError:  # somebody killed the guard: a new one learns everything
            self._process = None
            self._write("".join(f"+{group}\n" for group in self._groups))

    def _write(self, text: str) -> None:
        if self._process is None:
            self._process = self._spawned()
        pipe = _input(self._process)
        pipe.write(text.encode())
        pipe.flush()

    def _spawned(self) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(  # noqa: S603 - our own file
            [sys.executable, "-I", "-S", str(guard.__file__)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
            pass_fds=self._lock_descriptors,
        )


def end(processes: Sequence["subprocess.Popen[bytes]"], *, timeout_s: float) -> None:
    """Ask all of them to end; after `timeout_s` kill those that did not."""
    for process in processes:
        if process.poll() is None:
            process.terminate()
    deadline_s = time.monotonic() + timeout_s
    for process in processes:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, deadline_s - time.monotonic()))
    kill(processes)


def kill(processes: Sequence["subprocess.Popen[bytes]"]) -> None:
    """End them at once, with everything in their groups, and reap them."""
    for process in processes:
        guard.send(process.pid, signal.SIGKILL)
    for process in processes:
        process.wait(_KILLED_WAIT_S)


def _input(process: "subprocess.Popen[bytes]") -> IO[bytes]:
    if process.stdin is None:
        raise AssertionError("it was started with a pipe")
    return process.stdin


def bound(log: Path) -> None:
    """Keep a log file below `LOG_BYTES_MAX`: its writer has it open for appending, so it is copied and emptied."""
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size <= LOG_BYTES_MAX:
            return
        shutil.copyfile(log, log.with_name(f"{log.name}.1"))
        os.truncate(log, 0)  # lines written since the copy are lost: a log, not a journal


def size_bytes(log: Path) -> int:
    """How long a log file is, 0 if there is none."""
    try:
        return log.stat().st_size
    except FileNotFoundError:
        return 0


def last_lines(log: Path, *, since_bytes: int = 0) -> str:
    """The end of a log file, at most `LAST_LINES_MAX` lines; empty if there is none.

    since_bytes: where its writer began; what lies before is of another one. In a file that was emptied since, nothing does.
    """
    try:
        with log.open("rb") as file:
            end_bytes = file.seek(0, os.SEEK_END)
            file.seek(max(since_bytes if since_bytes <= end_bytes else 0, end_bytes - _LAST_BYTES_MAX))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-LAST_LINES_MAX:])
