"""How many heaps threads come to use."""

import os
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY

THREADS = 12
HEAPS = f"""
import ctypes, sys, threading
from contracts.allocator import keep_an_arena_a_core
keep_an_arena_a_core(dict(each.split("=") for each in sys.argv[1:]))
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
together = threading.Barrier({THREADS})
threads = [threading.Thread(target=lambda: (libc.malloc(5000), together.wait())) for _ in range({THREADS})]
for each in threads: each.start()
for each in threads: each.join()
libc.malloc_stats()
"""


def heaps(*environ: str) -> int:
    """Of a process of `THREADS` threads that all allocate at once."""
    command = [sys.executable, "-c", HEAPS, *environ]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=60)
    return done.stderr.count("\nArena ") + done.stderr.startswith("Arena ")


@pytest.mark.skipif(
    not hasattr(os, "confstr") or "glibc" not in (os.confstr("CS_GNU_LIBC_VERSION") or ""), reason="glibc's"
)
def test_threads_share_a_heap_for_each_core() -> None:
    cores = max(2, os.cpu_count() or 1)

    assert heaps() <= cores
    if cores < THREADS:
        assert heaps("MALLOC_ARENA_MAX=an operator's") > cores
