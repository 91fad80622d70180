"""Runs the process that builds a plan (`engine/conversion.py`): listens to it, bounds it, ends it."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from contracts.failures import Failure, FailureCode
from engine.conversion import CANCEL_S_MAX, BuildOrder, Built, Line, NotBuilt, Progress

LINE_BYTES_MAX = 64 * 1024
"""Of the process's stdout; its lines are a few hundred bytes."""
LAST_WORDS_BYTES_MAX = 2000
"""What is kept of its stderr."""
_SOURCE = Path(__file__).resolve().parent.parent


class BuildLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What a build may need; beyond it the process is killed."""

    wall_s: float = 3600.0
    memory_bytes: int = 16 << 30
    """Resident; address space means nothing with CUDA, which reserves all it can."""
    look_s: float = 0.5
    """How often its memory is looked at."""
    stop_s: float = CANCEL_S_MAX + 2.0
    """From asking it to stop to killing it."""


def own_command(order: BuildOrder) -> Sequence[str]:
    """Our own builder, in the interpreter that runs this."""
    return (sys.executable, "-P", "-m", "engine.conversion", msgspec.json.encode(order).decode())


class Builder:
    """Builds plans, each in a process of its own. It may be cancelled at any time: no process is left behind."""

    def __init__(
        self, *, command: Callable[[BuildOrder], Sequence[str]] = own_command, limits: BuildLimits | None = None
    ) -> None:
        self._command = command
        self._limits = limits or BuildLimits()

    async def build(self, order: BuildOrder, told: Callable[[Progress], None]) -> Path:
        """The plan. Raises `Failure(engine_unavailable)` with what the process said, or how it ended."""
        process = await asyncio.create_subprocess_exec(
            *self._command(order),
            stdin=asyncio.subprocess.PIPE,  # closing it cancels the build
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=LINE_BYTES_MAX,
            env={**os.environ, "PYTHONPATH": str(_SOURCE)},
        )
        last_words = asyncio.create_task(_last_words(process))
        memory = asyncio.create_task(self._watch_memory(process))
        try:
            async with asyncio.timeout(self._limits.wall_s):
                outcome = await _outcome(process, told)
        except TimeoutError as error:
            raise _failed(f"it took more than {self._limits.wall_s:g} s") from error
        finally:
            await asyncio.shield(self._end(process))
            memory.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait((memory, last_words))
        if memory.done() and not memory.cancelled():
            raise _failed(f"it took more than {self._limits.memory_bytes >> 20} MiB of memory")
        match outcome:
            case Built(plan=plan):
                return Path(plan)
            case NotBuilt(failure=failure):
                raise Failure(failure.code, failure.detail)
            case None:
                raise _failed(_how_it_ended(process, last_words.result()))

    async def _watch_memory(self, process: asyncio.subprocess.Process) -> None:
        """Return once it was killed for its memory."""
        while _resident_bytes(process.pid) <= self._limits.memory_bytes:  # noqa: ASYNC110 - nobody tells of memory
            await asyncio.sleep(self._limits.look_s)
        with contextlib.suppress(ProcessLookupError):
            process.kill()

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        if process.stdin is not None:
            process.stdin.close()
        try:
            async with asyncio.timeout(self._limits.stop_s):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def _outcome(process: asyncio.subprocess.Process, told: Callable[[Progress], None]) -> Built | NotBuilt | None:
    """What its last word was; None without one. What it prints beside its lines (native libraries do) is not heard."""
    assert process.stdout is not None  # noqa: S101 - it was asked for
    while True:
        try:
            text = await process.stdout.readline()
        except ValueError:  # longer than the limit: none of ours
            continue
        if not text:
            return None
        try:
            line: Line = msgspec.json.decode(text, type=Line)
        except ValueError:
            continue
        if not isinstance(line, Progress):
            return line
        told(line)


async def _last_words(process: asyncio.subprocess.Process) -> bytes:
    """The end of its stderr."""
    assert process.stderr is not None  # noqa: S101 - it was asked for
    kept = b""
    while part := await process.stderr.read(LINE_BYTES_MAX):
        kept = (kept + part)[-LAST_WORDS_BYTES_MAX:]
    return kept


def _how_it_ended(process: asyncio.subprocess.Process, last_words: bytes) -> str:
    status = process.returncode or 0
    how = signal.Signals(-status).name if status < 0 else f"status {status}"
    last = last_words.decode(errors="replace").strip().rpartition("\n")[2]
    return f"the process ended without a plan ({how})" + (f": {last}" if last else "")


def _resident_bytes(pid: int) -> int:
    """0 once it has ended."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    except (OSError, IndexError):
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _failed(why: str) -> Failure:
    return Failure(FailureCode.ENGINE_UNAVAILABLE, f"building: {why}")
