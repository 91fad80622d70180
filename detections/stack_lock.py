"""One stack at a time on a storage folder, also over the death of the one before."""

import os
import time
from pathlib import Path

from edge.disk import lock

LOCK_TIMEOUT_S = 40.0
"""A stack that was killed needs until its guard has ended the last of its processes."""
_POLL_S = 0.05


class StackError(Exception):
    """The stack does not run; the message says what to do or shows the last lines of who failed."""


def locked(path: Path) -> int:
    """A descriptor that holds the storage folder. Raises `StackError` if another stack does."""
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
    deadline_s = time.monotonic() + LOCK_TIMEOUT_S
    while not lock(descriptor):
        # held by the guard alone, it is given up soon: its stack was killed and is being ended
        if _is_running(os.pread(descriptor, 20, 0)) or time.monotonic() > deadline_s:
            os.close(descriptor)
            raise StackError(f"another stack runs on {path.parent}; stop it, or name another folder with --storage")
        time.sleep(_POLL_S)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    return descriptor


def _is_running(pid: bytes) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True
