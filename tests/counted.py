"""`python -m tests.counted FILE edge|consumers`: that process, which writes to FILE every few seconds what it holds.

At SIGUSR2 it says in FILE.where what it is doing.
"""

import asyncio
import contextlib
import faulthandler
import gc
import itertools
import os
import runpy
import signal
import sys
import threading
import time
import tracemalloc
from collections import Counter
from pathlib import Path

import msgspec

EVERY_S = 10.0
INTERNED = [sys.intern(f"soak {number}") for number in range(60_000)]
"""They stay: with them edge (98,000) and consumer (120,000) are far from the numbers of strings at which CPython's table of
interned strings has another size when it is made anew, 87,382 and 174,763."""
THROWN_AWAY = 80_000
"""Enough for that table to be made anew, in its new size, and few enough for it not to be full again for ten hours."""
THROWN_AWAY_TURN = 3
"""Half a minute after the start: all is imported, and a soak of three minutes or more still warms up."""
TRACED = "TRACE_MEMORY"
"""Set in the environment: beside FILE lies FILE.traced, which says where memory was taken since the last time."""
TRACED_EVERY_S = 300.0
TRACED_LINES = 40


class Held(msgspec.Struct, frozen=True):
    """What a process holds of what only it can count."""

    at_s: float
    tasks: int
    """Of asyncio, that are not done."""
    blocks: int
    """Of memory, that Python's objects have."""


def held() -> Held:
    """No list of all objects is made for it: under one that is held, tuples in the making break (`SystemError`)."""
    return Held(at_s=time.time(), tasks=pending_tasks(), blocks=sys.getallocatedblocks())


def pending_tasks() -> int:
    """Those that are done stay until the garbage collector has seen them, so they say nothing."""
    while True:
        with contextlib.suppress(RuntimeError):  # the loop made one meanwhile
            return sum(not task.done() for task in list(asyncio.tasks._all_tasks))


def count(file: Path) -> None:
    """Write it down again and again.

    CPython's table of interned strings, into which `pathlib` puts the name of each folder, keeps room for those that are gone
    and is made anew when it is full (8 MB), after hours. Strings that are thrown away have that happen in the warm-up of a soak.
    """
    for turn in itertools.count():
        for number in range(THROWN_AWAY if turn == THROWN_AWAY_TURN else 0):
            sys.intern(f"gone {number}")
        replacement = file.with_suffix(".new")
        replacement.write_bytes(msgspec.json.encode(held()))
        replacement.replace(file)
        time.sleep(EVERY_S)


def trace(file: Path) -> None:
    """Say again and again where memory was taken since, and of which types there are more objects."""
    before, types_before = tracemalloc.take_snapshot(), types()
    while True:
        time.sleep(TRACED_EVERY_S)
        gc.collect()
        now, types_now = tracemalloc.take_snapshot(), types()
        with file.open("a") as out:
            print(f"--- {time.ctime()}, traced {tracemalloc.get_traced_memory()}", file=out)
            for line in now.compare_to(before, "lineno")[:TRACED_LINES]:
                print(line, file=out)
            for name, more in (types_now - types_before).most_common(TRACED_LINES):
                print(f"{more:+} {name}", file=out)
        before, types_before = now, types_now


def say_where(file: Path) -> None:
    """Write down where every task and thread is."""
    with file.open("w") as out:
        for task in list(asyncio.tasks._all_tasks):
            print(f"--- {task}", file=out)
            task.print_stack(file=out)
        faulthandler.dump_traceback(out, all_threads=True)


def types() -> Counter[str]:
    return Counter(f"{type(each).__module__}.{type(each).__qualname__}" for each in gc.get_objects())


def main() -> None:
    file, module = sys.argv[1:]
    sys.argv = [module]
    threading.Thread(target=count, args=(Path(file),), daemon=True, name="counted").start()
    signal.signal(signal.SIGUSR2, lambda *_: say_where(Path(f"{file}.where")))
    if os.environ.get(TRACED):
        tracemalloc.start(8)
        threading.Thread(target=trace, args=(Path(f"{file}.traced"),), daemon=True, name="traced").start()
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
