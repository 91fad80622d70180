"""What happened: the events on the broker, and how a listener is told."""

from datetime import datetime
from enum import IntEnum, StrEnum
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from contracts.detections import Counts, Detection
from contracts.failures import FailureCode, FailureRecord
from contracts.shots import Shot


class MediaStatus(StrEnum):
    """The words of the external contract."""

    AI_PROCESSING = "AIProcessing"
    AI_PROCESSED = "AIProcessed"
    ERROR = "Error"


class Event(msgspec.Struct, frozen=True, kw_only=True, rename="camel", tag_field="type"):
    """What every event of a task says."""

    task_id: str
    media_id: str
    """The content hash; the task id until the hash is known."""
    epoch: int = 1
    """Which taker of the task speaks; readers ignore an older one."""
    percent: int = 0
    """Bytes read of the total, <= 99 before the end, 0 while the total is unknown. It falls only where another epoch begins,
    at its checkpoint; an edge shows none that is lower than before."""
    is_quiet: bool = False
    owner: str | None = None
    """The user whose medium it is; never shown to listeners."""
    at: datetime | None = None
    version: Literal[1] = 1


class FrameDetected(Event, frozen=True, kw_only=True, tag="FrameDetected", omit_defaults=False):
    """A report: what one frame or picture shows, and the shots that became certain with it.

    Its id is `task_id:sequence`, equal on every run.
    """

    sequence: int
    frame_index: int = 0
    video_time: str | None = None
    annotations: list[Detection] = []
    shots: list[Shot] = []


class TaskProgressed(Event, frozen=True, kw_only=True, tag="TaskProgressed"):
    """The task is alive; not numbered and not kept."""

    counts: Counts = Counts()
    waiting_for: Literal["moov"] | None = None


class TaskEnded(Event, frozen=True, kw_only=True, tag="TaskEnded"):
    """The last event of a task, exactly one whatever happened."""

    sequence: int
    counts: Counts = Counts()
    is_partial: bool = False
    """True when the medium was cut or damaged and what could be decoded was reported."""
    failure: FailureRecord | None = None

    @property
    def is_cancelled(self) -> bool:
        return self.failure is not None and self.failure.code is FailureCode.CANCELLED


AnyEvent = FrameDetected | TaskProgressed | TaskEnded


def event_id(event: AnyEvent) -> str | None:
    """`task_id:sequence` of a numbered event, else None."""
    match event:
        case TaskProgressed():
            return None
        case FrameDetected() | TaskEnded():
            return f"{event.task_id}:{event.sequence}"


class DetectionEvent(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """An event as clients see it: over SSE, in `/tasks/{id}/results` and from `detections run`."""

    annotations: list[Detection]
    media_id: str
    media_status: MediaStatus
    media_percent: int
    task_id: str
    sequence: int | None = None
    video_time: str | None = None
    frame_index: int | None = None
    shots: list[Shot] | None = None
    counts: Counts | None = None
    partial: bool = False
    waiting_for: Literal["moov"] | None = None
    error: FailureRecord | None = None


def as_seen_by_clients(event: AnyEvent) -> DetectionEvent:
    """The event in the words of the external contract."""
    match event:
        case FrameDetected():
            return DetectionEvent(
                annotations=event.annotations,
                media_id=event.media_id,
                media_status=MediaStatus.AI_PROCESSING,
                media_percent=event.percent,
                task_id=event.task_id,
                sequence=event.sequence,
                video_time=event.video_time,
                frame_index=event.frame_index,
                shots=event.shots or None,
            )
        case TaskProgressed():
            return DetectionEvent(
                annotations=[],
                media_id=event.media_id,
                media_status=MediaStatus.AI_PROCESSING,
                media_percent=event.percent,
                task_id=event.task_id,
                counts=event.counts,
                waiting_for=event.waiting_for,
            )
        case TaskEnded():
            return DetectionEvent(
                annotations=[],
                media_id=event.media_id,
                media_status=MediaStatus.ERROR if event.failure else MediaStatus.AI_PROCESSED,
                media_percent=event.percent,
                task_id=event.task_id,
                sequence=event.sequence,
                counts=event.counts,
                partial=event.is_partial,
                error=event.failure,
            )


class EngineStatus(IntEnum):
    """Where the engine stands: numbers in messages, names in the HTTP answers (`api_name`)."""

    NONE = 0
    DOWNLOADING = 10
    CONVERTING = 20
    UPLOADING = 30
    ENABLED = 200
    WARNING = 300
    ERROR = 500

    @property
    def api_name(self) -> str:
        return self.name.capitalize()


class ActiveModel(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Which model serves: `active.json` in the models folder."""

    file: str
    """Its path below the models folder, or its address on a server: `triton+grpc://...`."""
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")] | None = None
    """Of the model file; None: whatever the file holds."""
    beside: tuple[str, ...] = ()
    """Names of its side files, in the same folder."""
    data: tuple[str, ...] = ()
    """Names of the files with weights that the model file refers to, in the same folder."""
    revision: str | None = None
    """Another one at every choice: also the same file, chosen again, is loaded again."""
    previous: "ActiveModel | None" = None
    """What was active before, served where this one does not load; None: nothing, or the default model."""


class ModelChanged(msgspec.Struct, frozen=True, kw_only=True, rename="camel", tag_field="type", tag="ModelChanged"):
    """To every consumer: another model is active. Who misses it finds it in `active.json`."""

    active: ActiveModel
    version: Literal[1] = 1


class ModelOutcome(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What became of the last choice of a model in one consumer."""

    revision: str | None
    failure: FailureRecord | None = None
    """Why it does not serve here; None: it does."""


class EngineSeen(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Where one engine of a consumer stands."""

    status: EngineStatus
    engine_type: str | None = None
    model: str | None = None
    error_message: str | None = None


COLOURS_MAX = 256
"""Colours in a heartbeat, which comes once a second."""


class ConsumerSeen(msgspec.Struct, frozen=True, kw_only=True, rename="camel", tag_field="type", tag="ConsumerSeen"):
    """A consumer's heartbeat on the presence exchange, once a second and at every change of status."""

    id: str
    host: str
    engine_type: str | None
    status: EngineStatus
    model: str | None
    error_message: str | None = None
    model_outcome: ModelOutcome | None = None
    """None before a model was chosen while it lived."""
    shots: EngineSeen | None = None
    """The engine that finds shots; None of a consumer that knows none."""
    class_colours: dict[int, Annotated[str, Meta(pattern="^#[0-9a-f]{6}$")]] = {}
    """Of the model, by class number: those that its class list states, the first `COLOURS_MAX`."""
    tasks_running: int = 0
    is_stopping: bool = False
    version: Literal[1] = 1
