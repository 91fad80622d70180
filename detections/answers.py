"""What the edge answers, as the client gives it on; and the two ways in which asking fails."""

from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec

from contracts.detections import Counts
from contracts.failures import FailureRecord

DEFAULT_URL = "http://127.0.0.1:8000"
"""Where `detections up` puts its edge."""


class TaskStatus(StrEnum):
    QUEUED = "Queued"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    CANCELLED = "Cancelled"

    @property
    def is_end(self) -> bool:
        return self not in (TaskStatus.QUEUED, TaskStatus.RUNNING)


class Task(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`GET /tasks/{id}`."""

    task_id: str
    status: TaskStatus
    kind: str | None = None
    media_id: str | None = None
    percent: int = 0
    created_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    counts: Counts | None = None
    error: FailureRecord | None = None
    result: Any = None
    is_partial: bool = False
    """True if the medium was cut or damaged; what could be decoded was reported."""
    retry_of: str | None = None
    retried_as: str | None = None


class Started(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The answer to an upload that has arrived whole."""

    task_id: str
    media_id: str
    status: str = "started"


class EngineHealth(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The engine of a consumer that finds shots."""

    ai_availability: str = "None"
    engine_type: str | None = None
    model: str | None = None
    error_message: str | None = None


class ConsumerHealth(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    id: str
    host: str | None = None
    engine_type: str | None = None
    ai_availability: str = "None"
    model: str | None = None
    error_message: str | None = None
    busy: Any = None
    last_seen: Any = None
    shots: EngineHealth | None = None


class Health(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`GET /health`: the best consumer's state, and every consumer that was seen lately."""

    status: str
    ai_availability: str = "None"
    engine_type: str | None = None
    error_message: str | None = None
    consumers: list[ConsumerHealth] = []


class ClientError(Exception):
    """Whatever keeps the client from an answer."""


class UnusableError(ClientError):
    """An address or a token that can be none: it was given wrongly, and nobody was asked."""


class ServiceError(ClientError):
    """The edge refused: `status` of HTTP (0 if a task's own failure), a stable `code`, and a `detail` for people."""

    def __init__(self, *, status: int, code: str, detail: str) -> None:
        super().__init__(f"{detail} ({code})")
        self.status = status
        self.code = code
        self.detail = detail


class UnreachableError(ClientError):
    """No edge answers at `url`, or it stopped answering and did not come back in time."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"no answer from {url}: {reason}")
        self.url = url
