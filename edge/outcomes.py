"""What came of a medium that came in: data, so that the same answer can be given again."""

import msgspec

from contracts.detections import Detection
from contracts.failures import FailureCode


class Started(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The body of a 202: the medium is stored and its task is announced."""

    status: str = "started"
    media_id: str
    task_id: str


class Appended(msgspec.Struct, frozen=True, kw_only=True):
    """A part of an upload is stored; more is to come."""

    task_id: str
    offset_bytes: int


class Outcome(msgspec.Struct, frozen=True, kw_only=True, tag_field="outcome"):
    """What every outcome knows."""

    unknown_fields: tuple[str, ...] = ()
    """Fields of the configuration that were ignored."""


class PictureSeen(Outcome, frozen=True, kw_only=True, tag="picture"):
    detections: list[Detection]


class VideoSeen(Outcome, frozen=True, kw_only=True, tag="video"):
    """Its detections are in the task's results, which may be too many to be held here."""

    task_id: str
    is_partial: bool


class TaskStarted(Outcome, frozen=True, kw_only=True, tag="started"):
    started: Started


class Refused(Outcome, frozen=True, kw_only=True, tag="refused"):
    """What the task found wrong with the medium; asking again would not change it."""

    code: FailureCode
    detail: str
    task_id: str | None = None


AnyOutcome = PictureSeen | VideoSeen | TaskStarted | Refused
