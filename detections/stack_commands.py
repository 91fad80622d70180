"""The commands that start the service and talk to it."""

import asyncio
import runpy
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import msgspec
import typer

from contracts.failures import Failure
from contracts.formats import ResultFormat, render
from contracts.media import MediumKind, kind_by_extension
from contracts.options import read_options
from detections.answers import DEFAULT_URL
from detections.exits import EXIT_FAILED, EXIT_INTERRUPTED, take_signals_as_ctrl_c
from detections.model_files import find_model
from detections.run import Config, Thumbnails, check_thumbnails, save_thumbnails

if TYPE_CHECKING:
    from detections.local import LocalStack
    from detections.submitting import Submission

_LOOK_EVERY_S = 0.2

Url = Annotated[str, typer.Option(help="Where the edge is.", envvar="DETECTIONS_URL")]
Token = Annotated[
    str | None,
    typer.Option(
        help="Bearer token for an edge that asks who calls; better in the environment, where nobody sees it.",
        envvar="DETECTIONS_TOKEN",
        show_default=False,
    ),
]

RefreshToken = Annotated[
    str | None,
    typer.Option(
        help="What the edge refreshes the token with while it tells an Annotations service; better in the environment.",
        envvar="DETECTIONS_REFRESH_TOKEN",
        show_default=False,
    ),
]
Pace = Annotated[float | None, typer.Option(help="Send no faster than this.", min=1.0, show_default=False)]
Shots = Annotated[bool, typer.Option("--shots", help="Find the shots of a video instead of its objects.")]
Format = Annotated[
    ResultFormat | None,
    typer.Option("--format", "-f", help="Wait for the end and print all reports so.", show_default=False),
]


def register(commands: typer.Typer) -> None:
    """Add the commands."""
    for name, command in (("up", up), ("edge", edge), ("consumer", consumer), ("submit", submit), ("watch", watch)):
        commands.command(name)(command)


def up(
    storage: Annotated[
        Path, typer.Option(help="Folder of everything: media, tasks, the broker's data, logs.", envvar="STORAGE_DIR")
    ] = Path("storage"),
    model: Annotated[
        str | None,
        typer.Option(
            help="Model file, or a server: triton+grpc://host:8001/model; else the shipped one.", show_default=False
        ),
    ] = None,
    port: Annotated[
        int, typer.Option(help="Of the edge; 0 takes a free one.", envvar="EDGE_PORT", min=0, max=65_535)
    ] = 8000,
    consumers: Annotated[int, typer.Option(help="How many look at media.", min=0, max=64)] = 1,
    annotations: Annotated[
        str | None,
        typer.Option(
            help="`fake` starts a double of the Annotations service beside it, to try what it is told.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Start the whole service on this machine: RabbitMQ (unless AMQP_URL names one), an edge and consumers.

    One line on stdout when it is ready. Ctrl-C ends everything in good order, a second one at once.
    """
    from detections.local import FAKE, LocalStack, StackError

    if annotations not in (None, FAKE):
        raise typer.BadParameter("only `fake` can be started; a real service is named by ANNOTATIONS_URL")
    environ = {"ANNOTATIONS_URL": FAKE} if annotations else {}
    source = None if model is None else find_model(model)
    _say(f"starting, which takes some seconds; logs are in {storage / 'logs'}")
    with _interruptible():
        try:
            with LocalStack(storage, model=source, port=port, consumers=consumers, environ=environ, say=_say) as stack:
                failure = _serve(stack)
                _say("ending; an interrupt ends it at once")
        except StackError as error:
            _say(str(error))
            raise typer.Exit(EXIT_FAILED) from None
    if failure is not None:
        raise typer.Exit(EXIT_FAILED)


def edge() -> None:
    """Run one edge; everything is set by the environment (`EDGE_*`, `AMQP_URL`, `STORAGE_DIR`)."""
    runpy.run_module("edge", run_name="__main__", alter_sys=True)


def consumer() -> None:
    """Run one consumer; everything is set by the environment (`CONSUMER_*`, `AMQP_URL`, `STORAGE_DIR`)."""
    runpy.run_module("consumers", run_name="__main__", alter_sys=True)


def submit(
    file: Annotated[Path, typer.Argument(help="A video or an image.", exists=True, dir_okay=False)],
    *,
    url: Url = DEFAULT_URL,
    token: Token = None,
    refresh_token: RefreshToken = None,
    follow: Annotated[bool, typer.Option(help="Print every event as JSON lines, until the last.")] = False,
    config: Config = None,
    bytes_per_s_max: Pace = None,
    shots: Shots = False,
    result_format: Format = None,
    thumbnails: Thumbnails = None,
) -> None:
    """Send a file to the service; detection goes on while it is sent.

    Without --follow and --format the answer (its task and media id) is printed when all of it has arrived. An image is
    answered at once, with its detections. As CSV `--shots` gives a scene list in PySceneDetect's columns.
    """
    from detections.submitting import Submission

    has_shots = read_options(config).options.shots or shots  # refused before anything is sent
    if thumbnails is not None:
        check_thumbnails(thumbnails, has_shots=has_shots)
    submission = Submission(
        file=file,
        url=url,
        token=token,
        refresh_token=refresh_token,
        config=config,
        follow=follow,
        bytes_per_s_max=bytes_per_s_max,
        is_for_shots=shots,
        result_format=result_format,
        thumbnails=thumbnails,
    )
    with _interruptible():
        if kind_by_extension(file.name) is MediumKind.IMAGE and not has_shots:
            if result_format is not None:
                raise typer.BadParameter("--format is for videos; an image is answered at once, as JSON")
            _detect(submission)
        else:
            _stream(submission)


def watch(
    url: Url = DEFAULT_URL,
    token: Token = None,
    task: Annotated[str | None, typer.Option(help="Only this task, all of it, up to its end.", show_default=False)] = (
        None
    ),
) -> None:
    """Print events as they come, as JSON lines."""
    from detections.client import Client

    with _interruptible(), Client(url, token=token) as client:
        for event in client.events(task, on_gap=lambda: _say("some events are lost: the edge no longer has them")):
            sys.stdout.buffer.write(msgspec.json.encode(event) + b"\n")
            sys.stdout.buffer.flush()


def _ready(stack: "LocalStack") -> str:
    """Where everything is that it started."""
    user = urlsplit(stack.amqp_url)
    managed = (
        f", RabbitMQ {stack.management_url} ({user.username}, {user.password}), AMQP_URL={stack.amqp_url}"
        if stack.management_url
        else ""
    )
    doubled = f", Annotations double {stack.annotations_url}" if stack.annotations_url else ""
    return f"ready: {stack.url}{managed}{doubled}"


def _serve(stack: "LocalStack") -> str | None:
    """Say that it is ready; return None at the first interrupt, or why the stack cannot go on (which has been said)."""
    with suppress(KeyboardInterrupt):
        print(_ready(stack), flush=True)
        while (failure := stack.failure()) is None:
            time.sleep(_LOOK_EVERY_S)
        return failure
    return None


def _detect(asked: "Submission") -> None:
    from detections.client import Client

    with Client(asked.url, token=asked.token, refresh_token=asked.refresh_token) as client:
        print(msgspec.json.encode(client.detect(asked.file, config=asked.config)).decode(), flush=True)


def _stream(submission: "Submission") -> None:
    from detections.submitting import View, submit

    keeps_reports = submission.result_format is not None
    with View(submission.file.name, prints_events=submission.follow, keeps_reports=keeps_reports) as view:
        started = asyncio.run(submit(submission, view))
    if submission.result_format is not None:
        for text in render(view.reports, submission.result_format, is_scene_list=submission.is_for_shots):
            sys.stdout.buffer.write(text)
        sys.stdout.buffer.flush()
    elif not submission.follow:
        print(msgspec.json.encode(started).decode(), flush=True)
    if submission.thumbnails is not None:
        _say(save_thumbnails(submission.file, submission.thumbnails, view.shots, stop=threading.Event()))
    if view.end is not None and view.end.error is not None:
        raise Failure(view.end.error.code, view.end.error.detail)
    view.say(f"{view.found()}, task {started.task_id}")


@contextmanager
def _interruptible() -> Generator[None]:
    take_signals_as_ctrl_c()
    try:
        yield
    except KeyboardInterrupt:
        raise typer.Exit(EXIT_INTERRUPTED) from None


def _say(text: str) -> None:
    print(f"detections: {text}", file=sys.stderr, flush=True)
