"""The command line as a whole."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from contracts.failures import Failure, FailureCode
from contracts.settings import ConfigurationError
from detections.answers import ClientError, UnusableError
from detections.cli import Commands, build
from tests.conftest import REPOSITORY
from tests.fake_edge import FakeEdge

TASK = "00000000-0000-4000-8000-000000000001"
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
        (ClientError("said\nnothing"), 1, "detections: said nothing\n"),
        (UnusableError("'x' is no address"), 2, "detections: 'x' is no address\n"),
        (PermissionError(13, "Permission denied", "a.mp4"), 2, "detections: [Errno 13] Permission denied: 'a.mp4'\n"),
        (OSError(28, "No space left on device"), 1, "detections: [Errno 28] No space left on device\n"),
    ],
)
def test_what_goes_wrong_is_one_line_on_stderr(error: Exception, exit_code: int, said: str) -> None:
    result = CliRunner().invoke(failing(error), ["fail"])

    assert (result.exit_code, result.stdout, result.stderr) == (exit_code, "", said)


@pytest.mark.parametrize(
    "arguments",
    [
        ["top", "--amqp-url", "amqp://[::1/"],
        ["top", "--amqp-url", "amqp://b1/,amqp://[b2/"],
        ["top", "--amqp-url", "amqp://b/", "--management-url", "http://[::1/"],
        ["top", "--amqp-url", "amqp://b/", "--management-url", "http://u:canary@b:many"],
        ["broker", "setup", "--management-url", "http://u:canary@[b/"],
        ["broker", "setup", "--management-url", "b:15672"],
        ["broker", "setup", "--amqp-url", "amqp://u:canary@[b/"],
        ["dead-letters", "list", "--amqp-url", "amqp://u:canary@[b/"],
        ["models", "use", "aerial-vehicle", "--amqp-url", "amqp://u:canary@[b/"],
        ["watch", "--url", "b:8000"],
        ["watch", "--url", "http://u:canary@[b/"],
        ["watch", "--url", "http://xn--/"],
        ["watch", "--token", "canary canary"],
        ["watch", "--task", "a\udcff"],
        ["submit", __file__, "--config", '{"a\udcff": 1}'],
        ["models", "check", ""],
    ],
    ids=str,
)
def test_an_argument_that_can_be_none_is_one_line_without_its_password(arguments: list[str]) -> None:
    result = CliRunner().invoke(build(), arguments)

    assert result.exit_code == (1 if arguments[0] == "models" and "" in arguments else 2)
    assert isinstance(result.exception, SystemExit)
    assert (result.stdout, result.stderr.count("\n")) == ("", 1)
    assert "canary" not in result.stderr


def test_definitions_are_for_a_version_or_none() -> None:
    assert CliRunner().invoke(build(), ["broker", "definitions", "--rabbitmq", "newest"]).exit_code == 2
    assert CliRunner().invoke(build(), ["broker", "definitions", "--rabbitmq", "4.1.0-rc.1"]).exit_code == 0


def test_a_format_for_reports_is_refused_where_a_picture_is_answered_without_any(tmp_path: Path) -> None:
    picture = tmp_path / "photo.jpg"
    picture.touch()

    result = CliRunner().invoke(build(), ["submit", str(picture), "--format", "csv"])

    assert result.exit_code == 2
    assert "--format is for videos" in result.stderr


def test_events_go_nowhere_if_stdout_is_closed() -> None:
    with FakeEdge() as edge:
        edge.report(TASK, 1)
        edge.end(TASK)
        command = f'"{sys.executable}" -m detections watch --task {TASK} --url {edge.url} >&-'
        done = subprocess.run(["sh", "-c", command], cwd=REPOSITORY, capture_output=True, check=False)

    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("command", ["", "--help", "models --help", "broker definitions"])
@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
def test_a_stdout_that_is_full_is_one_line_on_stderr(command: str, unbuffered: str) -> None:
    done = subprocess.run(
        ["sh", "-c", f'"{sys.executable}" -m detections {command} >/dev/full'],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (1, "detections: [Errno 28] No space left on device\n")


def test_what_an_interrupt_made_of_a_module_that_was_loading_is_an_interrupt() -> None:
    error = ImportError("initialization failed")
    error.__cause__ = KeyboardInterrupt()
    failure = Failure(FailureCode.ENGINE_UNAVAILABLE, "not installed")
    failure.__cause__ = error

    result = CliRunner().invoke(failing(failure), ["fail"])

    assert (result.exit_code, result.stderr) == (130, "")


def test_a_fault_of_ours_is_not_hidden() -> None:
    result = CliRunner().invoke(failing(ZeroDivisionError()), ["fail"])

    assert isinstance(result.exception, ZeroDivisionError)
