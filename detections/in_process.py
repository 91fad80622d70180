"""The engine in this process: the events of one file, as a consumer would publish them."""

import os
import threading
import uuid
from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Protocol

import msgspec

from consumers.narrator import Narrator
from contracts.detections import PICTURE_COUNTS, Detection
from contracts.events import AnyEvent
from contracts.failures import Failure, FailureCode
from contracts.media import MediumKind, kind_by_extension
from contracts.options import DetectionOptions
from contracts.results import Checkpoint
from detections.looks import Looks
from edge.hashing import content_hash
from engine.account import Finished, FrameReport, Progressed
from engine.batching import Workers
from engine.decode_thread import Terms
from engine.detector import Detector
from engine.growing_file import MediumFile
from engine.images import read_picture
from engine.models import OpenModel
from engine.picture import Picture
from engine.shot_model import ShotModel
from engine.shot_workers import ShotWorkers
from engine.tiling import TileBoxes
from engine.video_frame import DecodedFrame
from engine.watching import Seen, watch_video


class Load(Protocol):
    """How the model is opened; `engine.models.open_model` with its file."""

    def __call__(self, *, threads: int) -> OpenModel: ...


class Engine(msgspec.Struct, frozen=True, kw_only=True):
    """What looks at a file."""

    load: Load | None
    """The detector; None: nobody looks for objects."""
    load_shots: Callable[[], ShotModel] | None = None
    """What finds the shots of a video; None: nobody looks for them."""
    looks: Looks | None = None
    """Gets what was seen in every frame that was looked at."""


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """One look at one file."""

    file: Path
    kind: MediumKind
    task_id: str
    media_id: str


def task_of(file: Path) -> Task:
    """The task that looks at a file; a picture or a video by its extension, else by its content.

    Raises `Failure`: `medium_missing`, `empty_media`, and what says why an unknown file can't be read.
    """
    if not file.is_file():
        raise Failure(FailureCode.MEDIUM_MISSING, f"there is no file {file}")
    with file.open("rb") as opened:
        media_id = content_hash(opened.fileno(), size_bytes=file.stat().st_size)
    kind = kind_by_extension(file.name) or _kind_by_content(file)
    return Task(file=file, kind=kind, task_id=str(uuid.uuid4()), media_id=media_id)


def events_of(task: Task, *, engine: Engine, options: DetectionOptions, stop: threading.Event) -> Generator[AnyEvent]:
    """Reports and progress in order, then the end; without an end if `stop` was set before.

    Raises `Failure` if a model cannot be loaded or the picture cannot be read, and for the shots of a picture.
    """
    if task.kind is MediumKind.VIDEO:
        return _video_events(task, engine, options, stop)
    if engine.load is None:
        raise Failure(FailureCode.NO_VIDEO_STREAM, f"{task.file.name} is a picture: it has no shots")
    return _image_events(task, engine.load, options, stop)


class Remembering(Detector):
    """A detector that also keeps what it saw in each frame of a video."""

    def __init__(self, opened: OpenModel, looks: Looks) -> None:
        super().__init__(opened)
        self._looks = looks

    def conclude(self, picture: Picture, seen: list[TileBoxes], options: DetectionOptions) -> list[Detection]:
        """As any detector."""
        detections = super().conclude(picture, seen, options)
        if isinstance(picture, DecodedFrame):
            self._looks.add(picture.index, detections)
        return detections


def _image_events(task: Task, load: Load, options: DetectionOptions, stop: threading.Event) -> Generator[AnyEvent]:
    picture = read_picture(task.file)
    with closing(Detector(load(threads=_cores()))) as detector:  # one picture: all cores for it
        try:
            detections = detector.detect(picture, options, stop=stop)
        except Failure as failure:
            if failure.code is not FailureCode.CANCELLED:
                raise
            return
    narrator = _narrator(task)
    yield narrator.picture(detections)
    yield narrator.end(sequence=2, counts=PICTURE_COUNTS)


def _video_events(task: Task, engine: Engine, options: DetectionOptions, stop: threading.Event) -> Generator[AnyEvent]:
    with ExitStack() as held:
        workers = held.enter_context(closing(_workers(engine.load, engine.looks))) if engine.load else None
        shots = held.enter_context(closing(_shot_workers(engine.load_shots))) if engine.load_shots else None
        medium, terms = MediumFile(path=task.file), Terms(shots=shots)
        steps = held.enter_context(
            closing(watch_video(medium, workers=workers, options=options, stop=stop, terms=terms))
        )
        yield from _told(steps, _narrator(task))


def _workers(load: Load, looks: Looks | None) -> Workers:
    opened = load(threads=1)
    return Workers(Detector(opened) if looks is None else Remembering(opened, looks), count=_cores())


def _shot_workers(load: Callable[[], ShotModel]) -> ShotWorkers:
    return ShotWorkers(load(), count=_cores())


def _told(steps: Iterable[Seen], narrator: Narrator) -> Generator[AnyEvent]:
    """What the engine says, as it is published; checkpoints are left out, since nobody resumes a run."""
    reported = 0
    for step in steps:
        match step:
            case FrameReport():
                reported = step.sequence
                yield narrator.report(step)
            case Progressed():
                yield narrator.progress(step)
            case Finished():
                yield narrator.end(
                    sequence=reported + 1,
                    counts=step.counts,
                    percent=step.percent,
                    is_partial=step.is_partial,
                    failure=step.failure,
                )
            case Checkpoint():
                pass


def _narrator(task: Task) -> Narrator:
    return Narrator(task_id=task.task_id, media_id=task.media_id, is_video=task.kind is MediumKind.VIDEO)


def _kind_by_content(file: Path) -> MediumKind:
    try:
        read_picture(file)
    except Failure as failure:
        if failure.code is not FailureCode.UNSUPPORTED_MEDIA:
            raise
        return MediumKind.VIDEO
    return MediumKind.IMAGE


def _cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0))
