"""`detections run`: one file looked at here and now, by the engine that the service runs, without a broker."""

import signal
import threading
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from contracts.failures import Failure, FailureCode
from contracts.formats import ResultFormat, render
from contracts.media import MediumKind
from contracts.options import read_options
from contracts.settings import Provider
from detections.looks import Looks
from detections.model_files import DEFAULT_MODEL, find_model
from detections.progress import Progress

if TYPE_CHECKING:
    from detections.in_process import Load, Task
    from engine.models import OpenModel
    from engine.sources import ModelSource

EXIT_INTERRUPTED = 130
ModelName = Annotated[
    str,
    typer.Option("--model", "-m", help="An ONNX file, a name in the models folder, or triton+grpc://host:port/model."),
]


def register(commands: typer.Typer) -> None:
    """Add the command."""
    commands.command("run")(run)


def run(
    file: Annotated[Path, typer.Argument(help="An image or a video.", show_default=False)],
    *,
    model: ModelName = DEFAULT_MODEL,
    config: Annotated[
        str | None,
        typer.Option(help='How to look, JSON: `{"probability_threshold": 0.4}`.', show_default=False),
    ] = None,
    result_format: Annotated[ResultFormat, typer.Option("--format", "-f", help="What stdout gets.")] = (
        ResultFormat.JSONL
    ),
    provider: Annotated[
        Provider,
        typer.Option(
            help="What runs the model; auto: a GPU if there is one, else the CPU; openvino: the CPU in bfloat16."
        ),
    ] = "auto",
    save_video: Annotated[
        Path | None, typer.Option(help="Also write the video with its boxes drawn, MP4.", show_default=False)
    ] = None,
) -> None:
    """Look at one file and print what was seen: a DetectionEvent per reported frame.

    Progress and the summary go to stderr. Ctrl-C ends the output in good order.
    """
    read = read_options(config)
    from detections import in_process  # the engine and its native libraries: not before they are needed

    task = in_process.task_of(file)
    looks = Looks() if save_video else None
    if save_video is not None:
        _check_target(save_video, task)
    with Progress(file.name) as progress, _stop_on_interrupt() as stop:
        if read.unknown_fields:
            progress.say(f"unknown fields of --config are ignored: {', '.join(read.unknown_fields)}")
        load = _loader(find_model(model), provider, progress)
        events = in_process.events_of(task, load=load, options=read.options, stop=stop, looks=looks)
        with closing(events):  # its threads end with it, whatever ends the output
            for text in render(progress.reports_of(events), result_format):
                progress.write(text)
        progress.say(progress.summary())
        if save_video is not None and looks is not None and not stop.is_set():
            _save_video(task, save_video, looks, stop, progress)
    _conclude(stop, progress)


def _conclude(stop: threading.Event, progress: Progress) -> None:
    """End with the exit code that says how it went."""
    if stop.is_set():
        raise typer.Exit(EXIT_INTERRUPTED)
    if progress.failure is not None:
        raise Failure(progress.failure.code, progress.failure.detail)


def _loader(source: "ModelSource", provider: Provider, progress: Progress) -> "Load":
    """Loads the model and says what is odd about it: a GPU that was asked for and is not there, for one."""
    from engine.models import open_model

    def load(*, threads: int) -> "OpenModel":
        opened = open_model(source, threads=threads, provider=provider)
        for warning in opened.card.warnings:
            progress.say(f"warning: {warning}")
        return opened

    return load


def _check_target(target: Path, task: "Task") -> None:
    """Refuse before the work what would fail after it."""
    if task.kind is MediumKind.IMAGE:
        raise typer.BadParameter(f"{task.file.name} is a picture; --save-video is for videos")
    if target.suffix.lower() != ".mp4" or not target.parent.is_dir():
        raise typer.BadParameter(f"--save-video: {target} is to be an .mp4 in a folder that exists")
    if target.exists() and target.samefile(task.file):
        raise typer.BadParameter(f"--save-video: {target} is the video itself")


def _save_video(task: "Task", target: Path, looks: Looks, stop: threading.Event, progress: Progress) -> None:
    from detections.annotate import annotate

    try:
        annotate(task.file, target, looks, stop=stop, on_percent=progress.drew)
    except OSError as error:
        raise Failure(FailureCode.STORAGE_FULL, f"{target}: {error.strerror or error}") from error
    progress.say(f"boxes drawn: {target}")


@contextmanager
def _stop_on_interrupt() -> Generator[threading.Event]:
    """An event that the first Ctrl-C sets, so that the output is finished; the second ends the process at once."""
    stop = threading.Event()

    def ask_to_stop(_signal: int, _frame: FrameType | None) -> None:
        stop.set()
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, ask_to_stop)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
