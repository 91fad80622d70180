"""The command line: every command registers itself here; nothing heavy is imported before one of them runs."""

import typer
from rich.console import Console
from typer.core import TyperGroup

from contracts.failures import Failure, FailureCode
from contracts.settings import ConfigurationError
from detections import broker_commands, dead_letters, models_check, run, stack_commands, top
from detections.answers import ClientError, UnusableError
from detections.exits import EXIT_FAILED, EXIT_MISUSED

_MISUSES = frozenset((FailureCode.MALFORMED_OPTIONS, FailureCode.OPTIONS_OUT_OF_RANGE))

HELP = """Finds objects in images and video, while the file is still being uploaded.

`detections run FILE` looks at one file here and now, without a broker. `detections up` starts the whole service on this
machine; `detections submit FILE` sends it a file and `detections watch` listens.

Exit codes: 0 done, 1 failed (the reason is one line on stderr), 2 wrong usage, 130 interrupted (Ctrl-C, SIGTERM).
"""


class Commands(TyperGroup):
    """The commands, with one way to end for what goes wrong in any of them."""

    def invoke(self, ctx: typer.Context) -> object:  # pyright: ignore[reportIncompatibleMethodOverride] - typer's own
        try:
            return super().invoke(ctx)
        except Failure as failure:
            _say(f"{failure.code}: {failure.detail}")
            raise typer.Exit(EXIT_MISUSED if failure.code in _MISUSES else EXIT_FAILED) from None
        except ConfigurationError as error:
            _say(str(error))
            raise typer.Exit(EXIT_MISUSED) from None
        except ClientError as error:
            _say(str(error))
            raise typer.Exit(EXIT_MISUSED if isinstance(error, UnusableError) else EXIT_FAILED) from None
        except UnicodeEncodeError as error:  # text that came in by surrogates goes out nowhere
            _say(f"an argument or a variable of the environment is no UTF-8: {error.reason}")
            raise typer.Exit(EXIT_MISUSED) from None
        except BrokenPipeError:  # whoever read our stdout has gone: typer ends it without a word
            raise
        except OSError as error:  # a path that may not be read, a name that is too long, a stdout that is full
            _say(str(error))
            raise typer.Exit(EXIT_MISUSED) from None


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
