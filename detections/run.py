"""`detections run`: one file looked at here and now, by the engine that the service runs, without a broker."""

import signal
import threading
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from contracts.failures import Failure, FailureCode
from contracts.formats import ResultFormat, render
from contracts.media import MediumKind
from contracts.options import read_options
from contracts.settings import Provider
from contracts.shots import Shot
from detections.exits import EXIT_INTERRUPTED, take_signals_as_ctrl_c
from detections.looks import Looks
from detections.model_files import DEFAULT_MODEL, find_model, find_shot_model
from detections.progress import Progress

if TYPE_CHECKING:
    from detections.in_process import Load, Task
    from engine.models import OpenModel
    from engine.shot_model import ShotModel

ModelName = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help="An ONNX file, a name in the models folder, or triton+grpc://host:port/model. Default: a shipped one.",
        show_default=False,
    ),
]

Config = Annotated[
    str | None, typer.Option(help='How to look, JSON: `{"probability_threshold": 0.4}`.', show_default=False)
]
ProviderName = Annotated[
    Provider,
    typer.Option(help="What runs the model; auto: a GPU if there is one, else the CPU; openvino: the CPU in bfloat16."),
]
VideoTarget = Annotated[
    Path | None, typer.Option(help="Also write the video with its boxes drawn, MP4.", show_default=False)
]
Thumbnails = Annotated[
    Path | None, typer.Option(help="Also write a picture of each shot into this folder.", show_default=False)
]


def register(commands: typer.Typer) -> None:
    """Add the command."""
    commands.command("run")(run)


def run(
    file: Annotated[Path, typer.Argument(help="An image or a video.", show_default=False)],
    *,
    model: ModelName = None,
    config: Config = None,
    result_format: Annotated[ResultFormat, typer.Option("--format", "-f", help="What stdout gets.")] = (
        ResultFormat.JSONL
    ),
    provider: ProviderName = "auto",
    save_video: VideoTarget = None,
    shots: Annotated[bool, typer.Option("--shots", help="Find the shots of a video instead of its objects.")] = False,
    thumbnails: Thumbnails = None,
) -> None:
    """Look at one file and print what was seen: a DetectionEvent per reported frame, or per shot.

    Objects and shots in one pass: `--config '{"shots": true}'`. As CSV `--shots` gives a scene list in PySceneDetect's columns.
    Progress and the summary go to stderr. Ctrl-C ends the output in good order.
    """
    read = read_options(config)
    has_shots = shots or read.options.shots
    from detections import in_process  # the engine and its native libraries: not before they are needed

    task = in_process.task_of(file)
    looks = Looks() if save_video else None
    _check_targets(task, save_video, thumbnails, is_for_shots_only=shots, has_shots=has_shots)
    with Progress(file.name, is_for_shots_only=shots) as progress, _stop_on_interrupt() as stop:
        progress.say_ignored(read.unknown_fields)
        engine = in_process.Engine(
            load=None if shots else _loader(model, provider, progress),
            load_shots=_shot_loader(model if shots else None, provider) if has_shots else None,
            looks=looks,
        )
        events = in_process.events_of(task, engine=engine, options=read.options, stop=stop)
        with closing(events):  # its threads end with it, whatever ends the output
            for text in render(progress.reports_of(events), result_format, is_scene_list=shots):
                progress.write(text)
        progress.say(progress.summary())
        if save_video is not None and looks is not None:
            _save_video(task, save_video, looks, stop, progress)
        if thumbnails is not None and not stop.is_set():
            progress.say(save_thumbnails(task.file, thumbnails, progress.shots, stop=stop, on_percent=progress.drew))
    _conclude(stop, progress)


def _conclude(stop: threading.Event, progress: Progress) -> None:
    """End with the exit code that says how it went."""
    if stop.is_set():
        raise typer.Exit(EXIT_INTERRUPTED)
    if progress.failure is not None:
        raise Failure(progress.failure.code, progress.failure.detail)


def _loader(name: str | None, provider: Provider, progress: Progress) -> "Load":
    """Loads the model and says what is odd about it: a GPU that was asked for and is not there, for one."""
    from engine.models import open_model

    source = find_model(name or DEFAULT_MODEL)

    def load(*, threads: int) -> "OpenModel":
        opened = open_model(source, threads=threads, provider=provider)
        for warning in opened.card.warnings:
            progress.say(f"warning: {warning}")
        return opened

    return load


def _shot_loader(name: str | None, provider: Provider) -> "Callable[[], ShotModel]":
    from engine.shot_model import open_shot_model

    return partial(open_shot_model, find_shot_model(name), provider=provider)


def _check_targets(
    task: "Task", save_video: Path | None, thumbnails: Path | None, *, is_for_shots_only: bool, has_shots: bool
) -> None:
    """Refuse before the work what would fail after it."""
    if save_video is not None:
        if is_for_shots_only:
            raise typer.BadParameter("--save-video draws objects; --shots looks for none")
        _check_target(save_video, task)
    if thumbnails is not None:
        check_thumbnails(thumbnails, has_shots=has_shots)


def check_thumbnails(folder: Path, *, has_shots: bool) -> None:
    """Refuse a folder that nothing could be written to, and pictures of shots that nobody looks for."""
    if not has_shots:
        raise typer.BadParameter("--thumbnails are of shots: it needs --shots")
    if not folder.parent.is_dir() or (folder.exists() and not folder.is_dir()):
        raise typer.BadParameter(f"--thumbnails: {folder} is to be a folder in one that exists")


def save_thumbnails(
    file: Path,
    folder: Path,
    shots: list[Shot],
    *,
    stop: threading.Event,
    on_percent: Callable[[int], None] = lambda _: None,
) -> str:
    """Write a picture of each shot; a line that says so. Raises `Failure(storage_full)`, as `opened_video`."""
    from detections.thumbnails import write_thumbnails  # the engine: not before it is needed

    try:
        count = write_thumbnails(file, folder, shots, stop=stop, on_percent=on_percent)
    except OSError as error:
        raise Failure(FailureCode.STORAGE_FULL, f"{folder}: {error.strerror or error}") from error
    return f"pictures of {count} shots: {folder}"


def _check_target(target: Path, task: "Task") -> None:
    if task.kind is MediumKind.IMAGE:
        raise typer.BadParameter(f"{task.file.name} is a picture; --save-video is for videos")
    if target.suffix.lower() != ".mp4" or not target.parent.is_dir():
        raise typer.BadParameter(f"--save-video: {target} is to be an .mp4 in a folder that exists")
    if target.exists() and target.samefile(task.file):
        raise typer.BadParameter(f"--save-video: {target} is the video itself")


def _save_video(task: "Task", target: Path, looks: Looks, stop: threading.Event, progress: Progress) -> None:
    from detections.annotate import annotate

    if stop.is_set():
        return
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

    take_signals_as_ctrl_c()
    before = signal.signal(signal.SIGINT, ask_to_stop)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
