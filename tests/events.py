"""Events of invented tasks, and the messages of a log that holds them."""

from uuid import uuid4

from contracts.events import AnyEvent, FrameDetected, TaskEnded, TaskProgressed
from edge.log import Logged


def new_task() -> str:
    return str(uuid4())


def report(
    task_id: str,
    sequence: int,
    *,
    epoch: int = 1,
    is_quiet: bool = False,
    media_id: str = "",
    owner: str | None = None,
) -> FrameDetected:
    return FrameDetected(
        task_id=task_id,
        media_id=media_id or task_id,
        sequence=sequence,
        epoch=epoch,
        is_quiet=is_quiet,
        owner=owner,
    )


def reports(task_id: str, first: int, last: int) -> list[FrameDetected]:
    """Reports `first` .. `last`, both included."""
    return [report(task_id, sequence) for sequence in range(first, last + 1)]


def progress(task_id: str, *, epoch: int = 1) -> TaskProgressed:
    return TaskProgressed(task_id=task_id, media_id=task_id, epoch=epoch)


def end(task_id: str, sequence: int, *, epoch: int = 1, is_quiet: bool = False) -> TaskEnded:
    return TaskEnded(task_id=task_id, media_id=task_id, sequence=sequence, epoch=epoch, is_quiet=is_quiet, percent=100)


def logged(first_offset: int, *events: AnyEvent) -> list[Logged]:
    return [Logged(first_offset + index, event=event) for index, event in enumerate(events)]
