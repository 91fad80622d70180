"""`detections run`: one file looked at here and now, by the engine that the service runs, without a broker."""

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from contracts.failures import Failure
from contracts.formats import ResultFormat, render
from contracts.options import read_options
from detections.model_files import DEFAULT_MODEL, find_model
from detections.progress import Progress

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130


def register(commands: typer.Typer) -> None:
    """Add the command."""
    commands.command("run")(run)


def run(
    file: Annotated[Path, typer.Argument(help="An image or a video.", show_default=False)],
    model: Annotated[str, typer.Option("--model", "-m", help="An ONNX file, or a name in the models folder.")] = (
        DEFAULT_MODEL
    ),
    config: Annotated[
        str | None,
        typer.Option(help='How to look, JSON: `{"probability_threshold": 0.4}`.', show_default=False),
    ] = None,
    result_format: Annotated[ResultFormat, typer.Option("--format", "-f", help="What stdout gets.")] = (
        ResultFormat.JSONL
    ),
    save_video: Annotated[
        Path | None, typer.Option(help="Also write the video with its boxes drawn, MP4.", show_default=False)
    ] = None,
) -> None:
    """Look at one file and print what was seen: a DetectionEvent per reported frame.

    Progress and the summary go to stderr. Ctrl-C ends the output in good order.
    """
    read = read_options(config)
    from detections import in_process  # the engine and its native libraries: not before they are needed

    with Progress(file.name) as progress, _stop_on_interrupt() as stop:
        if read.unknown_fields:
            progress.say(f"unknown fields of --config ignored: {', '.join(read.unknown_fields)}")
        look = in_process.Look(
            file, model=find_model(model), options=read.options, is_every_look_kept=save_video is not None
        )
        for text in render(progress.reports_of(look.events(stop)), result_format):
            progress.write(text)
        if save_video is not None and not stop.is_set():
            look.save_video(save_video, on_frame=progress.drew)
    progress.say(progress.summary())
    if stop.is_set():
        raise typer.Exit(EXIT_INTERRUPTED)
    if progress.failure is not None:
        raise Failure(progress.failure.code, progress.failure.detail)


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
