"""A real disk that is soon full; it needs a user who may mount one."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 KiB, in pages of 4 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "none", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("this user may not mount a small disk")
    yield disk
    subprocess.run(["umount", disk], check=True)


def fill(disk: Path, *, leaving_bytes: int = 0) -> None:
    """Take all room but `leaving_bytes`."""
    filler = disk / "filler"
    file = os.open(filler, os.O_WRONLY | os.O_CREAT)
    with contextlib.suppress(OSError):
        while True:
            os.write(file, b"x" * 1024)
    os.ftruncate(file, os.fstat(file).st_size - leaving_bytes)
    os.close(file)


def make_read_only(disk: Path) -> None:
    """As a kernel does with a disk that has failed."""
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
