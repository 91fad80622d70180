"""The exit codes of every command, and the signals that end one as Ctrl-C does."""

import os
import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

EXIT_FAILED = 1
EXIT_MISUSED = 2
EXIT_INTERRUPTED = 130
"""128 + SIGINT, as a shell tells it."""
_STDOUT = 1


@contextmanager
def ended_by_exit_code() -> Generator[None]:
    """Around all that a process does: Ctrl-C ends it with `EXIT_INTERRUPTED`, also before or after a command's own answer.

    `python -m` ends by SIGINT nevertheless where Ctrl-C came while a string was executed, as in the making of a
    dataclass, although it was answered: CPython remembers that until the next string is executed.
    """
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    finally:
        eval("None")  # noqa: S307 - a constant
        _leave_unwritten()


def take_signals_as_ctrl_c() -> None:
    """From now on SIGTERM and SIGHUP end the command in good order too; who is ignored (`nohup`) stays ignored."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _as_ctrl_c)


def _leave_unwritten() -> None:
    """Drop what stdout does not take: Python would try once more, tell of it in its own words and end with 120."""
    try:
        print(end="", flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), _STDOUT)


def _as_ctrl_c(_signal: int, frame: FrameType | None) -> None:
    """Do what Ctrl-C would do at this moment; where that is ignored (a job in the background), what it does elsewhere."""
    handler = signal.getsignal(signal.SIGINT)
    if not callable(handler):
        raise KeyboardInterrupt
    handler(signal.SIGINT, frame)
