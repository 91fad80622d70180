"""What glibc's allocator takes from the kernel, and what it may keep of what threads gave back."""

import contextlib
import ctypes
import os
from collections.abc import Mapping

HUGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
"""The environment in which a process that infers on the CPU begins: glibc reads it before there is any of our code.

Where an allocation is large it asks the kernel for huge pages (madvise), so that a model's weights and activations take few
entries of the processor's table of addresses (ADR 65). A kernel that gives none, or another C library, ignores it.
"""
_M_ARENA_MAX = -8
"""Of `malloc.h`."""
_OPERATORS = "MALLOC_ARENA_MAX"


def keep_an_arena_a_core(environ: Mapping[str, str], *, workers: int | None = None) -> None:
    """Let threads share as many heaps as there are cores for them, at least two. To be called before there are threads.

    workers: threads that are to be busy at a time; they follow a container's limit of CPUs, which counting cores does not see.

    A heap keeps what its threads once needed at the same time. By default there are up to eight a core, and each thread that
    is begun may come to use one that has not grown yet: a process goes on growing for hours, in steps. An operator's own
    MALLOC_ARENA_MAX stands; a C library without such heaps is left alone.
    """
    if _OPERATORS not in environ:
        with contextlib.suppress(AttributeError, OSError):
            cores = len(os.sched_getaffinity(0))
            ctypes.CDLL(None).mallopt(_M_ARENA_MAX, max(2, min(cores, workers or cores)))
