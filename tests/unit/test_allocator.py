"""How many heaps threads come to use."""

import os
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY

THREADS = 12
HEAPS = f"""
import ctypes, os, sys, threading
from contracts.allocator import keep_an_arena_a_core
cores, workers, *environ = sys.argv[1:]
os.sched_getaffinity = lambda _: set(range(int(cores)))
keep_an_arena_a_core(dict(each.split("=") for each in environ), workers=int(workers) or None)
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
together = threading.Barrier({THREADS})
threads = [threading.Thread(target=lambda: (libc.malloc(5000), together.wait())) for _ in range({THREADS})]
for each in threads: each.start()
for each in threads: each.join()
libc.malloc_stats()
"""
pytestmark = pytest.mark.skipif(
    not hasattr(os, "confstr") or "glibc" not in (os.confstr("CS_GNU_LIBC_VERSION") or ""), reason="glibc's"
)


def heaps(*environ: str, cores: int, workers: int = 0) -> int:
    """Of a process of `THREADS` threads that all allocate at once."""
    command = [sys.executable, "-c", HEAPS, str(cores), str(workers), *environ]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=60)
    return done.stderr.count("\nArena ") + done.stderr.startswith("Arena ")


@pytest.mark.parametrize(("cores", "workers", "shared"), [(1, 0, 2), (5, 0, 5), (5, 3, 3), (5, 64, 5)])
def test_threads_share_a_heap_for_each_core_that_is_theirs(cores: int, workers: int, shared: int) -> None:
    assert heaps(cores=cores, workers=workers) == shared


def test_an_operators_number_stands() -> None:
    assert heaps("MALLOC_ARENA_MAX=an operator's", cores=3) > 3
