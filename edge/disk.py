"""The disk as the edge meets it: it may be full, may write less than it was given, and keeps secrets. All of it blocks."""

import contextlib
import errno
import fcntl
import os
import shutil
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import IO

from contracts.failures import Failure, FailureCode
from contracts.whole_files import NO_ROOM

PRIVATE = 0o600
"""Mode of a file that its owner alone may read."""

_FULL = NO_ROOM | {errno.EFBIG}


@contextlib.contextmanager
def storage_failures() -> Generator[None, None, None]:
    """A disk that is full becomes `Failure(storage_full)`."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise Failure(FailureCode.STORAGE_FULL, f"the storage is full: {error.strerror}") from error
        raise


def check_free(folder: Path, *, more_bytes: int = 0, free_bytes_min: int) -> None:
    """Raises `Failure(storage_full)` if less than the minimum would stay free around a folder."""
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes - more_bytes < free_bytes_min:
        raise Failure(FailureCode.STORAGE_FULL, f"{free_bytes} bytes are free, {free_bytes_min} are kept free")


def lock(file: int | IO[bytes]) -> bool:
    """Make an open file ours alone until it is closed, also by the end of our process; False if it is somebody else's."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def write_all(descriptor: int, parts: Sequence[bytes], *, offset: int) -> None:
    """Write all parts one after the other from `offset` on, in as few calls as the kernel allows."""
    views = [memoryview(part) for part in parts if part]
    while views:
        written = os.pwritev(descriptor, views, offset)
        offset += written
        while views and written >= len(views[0]):
            written -= len(views.pop(0))
        if written:
            views[0] = views[0][written:]
