"""The command line: every command registers itself here; nothing heavy is imported before one of them runs."""

import sys
from typing import Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from contracts.failures import Failure, FailureCode
from contracts.settings import ConfigurationError
from detections import broker_commands, dead_letters, models_check, run, stack_commands, top
from detections.answers import ClientError, UnusableError
from detections.exits import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_MISUSED

_MISUSES = frozenset((FailureCode.MALFORMED_OPTIONS, FailureCode.OPTIONS_OUT_OF_RANGE))

HELP = """Finds objects in images and video, while the file is still being uploaded.

`detections run FILE` looks at one file here and now, without a broker. `detections up` starts the whole service on this
machine; `detections submit FILE` sends it a file and `detections watch` listens.

Exit codes: 0 done, 1 failed (the reason is one line on stderr), 2 wrong usage, 130 interrupted (Ctrl-C, SIGTERM).
"""


class Commands(TyperGroup):
    """The commands, with one way to end for what goes wrong in any of them."""

    def main(self, *args: Any, **extra: Any) -> Any:
        try:
            return super().main(*args, **extra)
        except Exception as error:
            if _is_interrupt(error):
                sys.exit(EXIT_INTERRUPTED)
            if (code := _exit_code(error)) is None:
                raise
            _say(f"{error.code}: {error.detail}" if isinstance(error, Failure) else str(error))
            sys.exit(code)

    def invoke(self, ctx: typer.Context) -> object:  # pyright: ignore[reportIncompatibleMethodOverride] - typer's own
        answer = super().invoke(ctx)
        sys.stdout.flush()  # a command whose words were not written has failed
        return answer


def _is_interrupt(error: BaseException | None) -> bool:
    """Whether it came of a Ctrl-C: one that meets a native module while it loads becomes its ImportError."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _exit_code(error: Exception) -> int | None:
    """How a command ends that met this; None for a fault of ours, and for what typer ends by itself."""
    match error:
        case Failure():
            return EXIT_MISUSED if error.code in _MISUSES else EXIT_FAILED
        case ConfigurationError() | UnusableError():
            return EXIT_MISUSED
        case ClientError():
            return EXIT_FAILED
        case UnicodeEncodeError():  # an argument or a variable that is no UTF-8, and is to be sent
            return EXIT_MISUSED
        case OSError(filename=None):  # a stdout that is full; typer ends by itself where its reader has gone
            return EXIT_FAILED
        case OSError():  # a path that may not be read, a name that is too long
            return EXIT_MISUSED
        case _:
            return None


def build() -> typer.Typer:
    """The whole command line."""
    commands = typer.Typer(
        cls=Commands, help=HELP, no_args_is_help=True, rich_markup_mode="markdown", pretty_exceptions_enable=False
    )
    run.register(commands)
    models_check.register(commands)
    stack_commands.register(commands)
    broker_commands.register(commands)
    dead_letters.register(commands)
    top.register(commands)
    return commands


def _say(text: str) -> None:
    line = " ".join(text.split())
    Console(stderr=True, soft_wrap=True).print(f"detections: {line}", markup=False, highlight=False)


app = build()
