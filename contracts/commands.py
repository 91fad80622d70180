"""What a service may ask for. Other services publish the same messages: docs/messages.md."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

import msgspec

from contracts.media import Medium
from contracts.options import DetectionOptions

TASK_ID_PATTERN = r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"

TaskId = Annotated[
    str,
    msgspec.Meta(
        pattern=TASK_ID_PATTERN,
        max_length=36,  # `$` alone would let a newline through
        description="a UUID, lower case; it names folders, so nothing else is let in",
    ),
]


Owner = Annotated[
    str,
    msgspec.Meta(
        min_length=1,
        max_length=256,
        description="the user whose medium it is; the Annotations service is told what becomes of owned media",
    ),
]


class Command(msgspec.Struct, frozen=True, kw_only=True, rename="camel", tag_field="type"):
    """What every command says."""

    task_id: TaskId
    """A UUID in lower case, chosen by the sender. It names folders, so nothing else is let in."""
    medium: Medium
    options: DetectionOptions = DetectionOptions()
    is_quiet: bool = False
    """True: its events reach only listeners that ask for this task (a synchronous answer)."""
    owner: Owner | None = None
    is_posted: bool = False
    """True: what becomes of it is posted to the Annotations service, so nothing of it is fleeting and the frame of each report
    is kept as a JPEG until it has been posted."""
    created_at: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    """When it was made, with its offset from UTC: how long it waits is counted from then."""
    continuation: int = 0
    """How often a consumer handed the task on, as it stopped or as its message had been given out too often."""
    retry_of: TaskId | None = None
    """The task that failed and whose work this one does again."""
    version: Literal[1] = 1


class DetectImage(Command, frozen=True, kw_only=True, tag="DetectImage"):
    """Find the objects in one picture."""

    @property
    def is_fleeting(self) -> bool:
        """True: only whoever waits for it is told, and nothing of the task is written down, unless it comes again."""
        return self.is_quiet and not self.is_posted


class DetectVideo(Command, frozen=True, kw_only=True, tag="DetectVideo"):
    """Find the objects in a video, also one that is still arriving (`medium.isGrowing`)."""


class FindShots(Command, frozen=True, kw_only=True, tag="FindShots"):
    """Find the shots of a video, also one that is still arriving; its objects are not looked for."""


AnyCommand = DetectImage | DetectVideo | FindShots


class TaskKind(StrEnum):
    """What is done in a task; a queue for each."""

    IMAGE = "image"
    VIDEO = "video"
    SHOTS = "shots"


COMMANDS: Mapping[TaskKind, type[AnyCommand]] = {
    TaskKind.IMAGE: DetectImage,
    TaskKind.VIDEO: DetectVideo,
    TaskKind.SHOTS: FindShots,
}
"""What asks for each kind."""


def kind_of(command: AnyCommand) -> TaskKind:
    """What is done when the command is followed."""
    match command:
        case DetectImage():
            return TaskKind.IMAGE
        case DetectVideo():
            return TaskKind.VIDEO
        case FindShots():
            return TaskKind.SHOTS


class CancelTask(msgspec.Struct, frozen=True, kw_only=True, rename="camel", tag_field="type", tag="CancelTask"):
    """To every consumer: stop this task if it is yours."""

    task_id: TaskId
    version: Literal[1] = 1
