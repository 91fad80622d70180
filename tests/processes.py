"""Who still lives: every process that has something to do with a folder, found in /proc."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

POLL_S = 0.02
WAIT_S = 60.0
"""How long a test waits for what must come, on however busy a machine."""
HELPERS_END_S = 5.0


def processes_of(folder: Path) -> list[int]:
    """Processes, zombies apart, whose command, environment or open files name the folder; not ourselves."""
    return sorted(pid for pid in _pids() if pid != os.getpid() and _names(pid, str(folder)))


def is_gone(pid: int) -> bool:
    """True if there is no such process or it is a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def wait_until(is_so: Callable[[], object], *, timeout_s: float = WAIT_S) -> None:
    """Return when it is so. Raises `TimeoutError`."""
    started_s = time.monotonic()
    while not is_so():
        if time.monotonic() - started_s > timeout_s:
            raise TimeoutError(f"not so within {timeout_s} s")
        time.sleep(POLL_S)


def wait_until_nothing_lives_of(folder: Path) -> None:
    """Raises `TimeoutError`. Erlang's helpers have sessions of their own and end a moment after the broker that is killed,
    when they read the end of their input."""
    wait_until(lambda: not processes_of(folder), timeout_s=HELPERS_END_S)


def _pids() -> Iterator[int]:
    return (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())


def _names(pid: int, folder: str) -> bool:
    if is_gone(pid):
        return False
    proc = Path(f"/proc/{pid}")
    try:
        texts = [(proc / name).read_bytes().decode(errors="replace") for name in ("cmdline", "environ")]
        files = [str(entry.readlink()) for entry in (proc / "fd").iterdir()]
    except OSError:  # it ended meanwhile
        return False
    return any(folder in text for text in [*texts, *files])
