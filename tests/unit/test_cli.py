"""The command line as a whole."""

import pytest
import typer
from typer.testing import CliRunner

from contracts.failures import Failure, FailureCode
from contracts.settings import ConfigurationError
from detections.cli import Commands, build

COMMANDS = ("run", "up", "edge", "consumer", "submit", "watch", "models", "broker", "top")


def failing(error: Exception) -> typer.Typer:
    app = typer.Typer(cls=Commands)

    @app.command()
    def fail() -> None:
        raise error

    @app.command()
    def other() -> None: ...

    return app


def test_help_names_every_command() -> None:
    shown = CliRunner().invoke(build(), ["--help"]).stdout

    assert all(f" {command} " in shown for command in COMMANDS)


@pytest.mark.parametrize("command", [[], ["models"], ["broker"]])
def test_a_group_without_a_command_shows_its_help(command: list[str]) -> None:
    assert "Usage" in CliRunner().invoke(build(), command).output


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    result = CliRunner().invoke(build(), [command, "--help"])

    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) > 5


def test_an_unknown_command_is_wrong_usage() -> None:
    assert CliRunner().invoke(build(), ["fly"]).exit_code == 2


@pytest.mark.parametrize(
    ("error", "exit_code", "said"),
    [
        (Failure(FailureCode.NO_FRAMES, "nothing in it"), 1, "detections: no_frames: nothing in it\n"),
        (Failure(FailureCode.MALFORMED_OPTIONS, "not JSON"), 2, "detections: malformed_options: not JSON\n"),
        (Failure(FailureCode.INTERNAL, "two\nlines [b]x[/b]"), 1, "detections: internal: two lines [b]x[/b]\n"),
        (ConfigurationError("EDGE_PORT='x': Expected `int`"), 2, "detections: EDGE_PORT='x': Expected `int`\n"),
        (PermissionError(13, "Permission denied", "a.mp4"), 2, "detections: [Errno 13] Permission denied: 'a.mp4'\n"),
    ],
)
def test_what_goes_wrong_is_one_line_on_stderr(error: Exception, exit_code: int, said: str) -> None:
    result = CliRunner().invoke(failing(error), ["fail"])

    assert (result.exit_code, result.stdout, result.stderr) == (exit_code, "", said)


def test_a_fault_of_ours_is_not_hidden() -> None:
    result = CliRunner().invoke(failing(ZeroDivisionError()), ["fail"])

    assert isinstance(result.exception, ZeroDivisionError)
