"""Files that appear whole or not at all, and leave nothing of themselves where there was no room for them."""

import contextlib
import errno
import os
import secrets
from collections.abc import Generator
from pathlib import Path

from contracts.crashpoints import crashpoint

NO_ROOM = frozenset((errno.ENOSPC, errno.EDQUOT))
"""What an `OSError` says where a disk, or somebody's share of it, is full."""


def create_file(path: Path, content: bytes, *, mode: int = 0o666) -> bool:
    """Write a file that did not exist; False if it did. It appears whole or not at all, and survives a crash."""
    with _written_beside(path, content, mode) as temporary:
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
    return True


def replace_file(path: Path, content: bytes, *, mode: int = 0o666, makes_folder: bool = True) -> None:
    """Write a file over the one before; a reader sees the old or the new one, whole.

    makes_folder: False where a folder that is gone must not come back with this file alone: `FileNotFoundError`.
    """
    with _written_beside(path, content, mode, makes_folder=makes_folder) as temporary:
        temporary.replace(path)
    crashpoint("file.replaced")


@contextlib.contextmanager
def _written_beside(path: Path, content: bytes, mode: int, *, makes_folder: bool = True) -> Generator[Path, None, None]:
    """A file of another name with this content, on the disk; whatever comes of it, that name is gone afterwards."""
    if makes_folder:
        path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        crashpoint("file.synced")
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)
