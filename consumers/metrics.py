"""What a consumer counts, by name; `docs/metrics.md` is made of this. No label is an id: each has a few known values.

Everything is declared here and counted where it happens, in a line. What somebody knows anyway is not counted but asked, when
metrics are read (`consumers/metrics_page.py`). Frames are counted by what their task says of itself, about once a second.
"""

from datetime import UTC, datetime

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from contracts.commands import AnyCommand, TaskKind, kind_of
from contracts.detections import Counts
from contracts.failures import FailureCode, FailureRecord
from engine.stages import Stage

prometheus_client.disable_created_metrics()  # a second series for each counter, of which nobody asks

REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)

STAGE_BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
WAIT_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)
OUTCOMES = ("succeeded", "failed", "cancelled")

TASKS_RUNNING = Gauge("detections_tasks_running", "Tasks that are worked on now.", registry=REGISTRY)
TASKS_ENDED = Counter(
    "detections_tasks_ended",
    "Tasks that this process ended. `kind` is image, video, shots or unknown; `outcome` succeeded, failed or cancelled.",
    ("kind", "outcome"),
    registry=REGISTRY,
)
TASK_FAILURES = Counter(
    "detections_task_failures",
    "Tasks that this process ended as failed, by the code of the failure.",
    ("code",),
    registry=REGISTRY,
)
QUEUE_WAIT_SECONDS = Histogram(
    "detections_queue_wait_seconds",
    "From a command being made to a consumer taking it for the first time, by the clocks of both machines.",
    ("kind",),
    buckets=WAIT_BUCKETS_S,
    registry=REGISTRY,
)
REDELIVERIES = Counter(
    "detections_redeliveries",
    "Commands that came again: whoever had them before is gone, or gave them back.",
    registry=REGISTRY,
)
TASKS_HANDED_ON = Counter(
    "detections_tasks_handed_on",
    "Tasks that this process handed on: it stopped, or their message had been given out too often.",
    registry=REGISTRY,
)
FRAMES_DECODED = Counter(
    "detections_frames_decoded", "Frames of videos that were decoded, and pictures.", registry=REGISTRY
)
FRAMES_INFERRED = Counter("detections_frames_inferred", "Sampled frames that were looked at.", registry=REGISTRY)
FRAMES_FAILED = Counter(
    "detections_frames_failed", "Sampled frames that could not be looked at; their task goes on.", registry=REGISTRY
)
REPORTS = Counter("detections_reports", "Reports of frames and pictures.", registry=REGISTRY)
INFERENCE_SECONDS = Histogram(
    "detections_inference_seconds",
    "Of one step in one thread. `stage` is preprocess (a view into its row), infer (a batch, or a view), postprocess "
    "(the same, to boxes) or shots (windows of frames).",
    ("stage",),
    buckets=STAGE_BUCKETS_S,
    registry=REGISTRY,
)
ENGINE_STATE = Gauge(
    "detections_engine_state",
    "1 for the state in which an engine is, 0 for the others. `engine` is objects or shots.",
    ("engine", "state"),
    registry=REGISTRY,
)
BROKER_CONNECTED = Gauge(
    "detections_broker_connected", "1 while a connection to the broker stands.", ("purpose",), registry=REGISTRY
)
BROKER_BLOCKED = Gauge(
    "detections_broker_blocked", "1 while the broker is in alarm and takes no messages.", registry=REGISTRY
)

_STAGES = {stage: INFERENCE_SECONDS.labels(stage.value) for stage in Stage}


def stage_took(stage: Stage, seconds: float) -> None:
    """Count a step of an inference."""
    _STAGES[stage].observe(seconds)


def command_taken(command: AnyCommand, *, is_redelivered: bool) -> None:
    """Count a command that was taken, and how long nobody took it; of one that others had before, that is not known."""
    if is_redelivered:
        REDELIVERIES.inc()
    elif command.continuation == 0 and command.created_at is not None:
        waited_s = (datetime.now(UTC) - command.created_at).total_seconds()
        QUEUE_WAIT_SECONDS.labels(kind_of(command).value).observe(max(waited_s, 0.0))


def task_ended(kind: TaskKind, failure: FailureRecord | None) -> None:
    """Count a task whose end was written here, or told."""
    match failure:
        case None:
            outcome = "succeeded"
        case FailureRecord(code=FailureCode.CANCELLED):
            outcome = "cancelled"
        case FailureRecord(code=code):
            outcome = "failed"
            TASK_FAILURES.labels(code.value).inc()
    TASKS_ENDED.labels(kind.value, outcome).inc()


class FrameCounts:
    """Counts the frames of one task: how far it has come since it said so last."""

    def __init__(self, behind: Counts) -> None:
        """behind: what others have counted."""
        self._counted = behind

    def reach(self, counts: Counts) -> None:
        """The task has come so far."""
        before, self._counted = self._counted, counts
        FRAMES_DECODED.inc(max(counts.decoded - before.decoded, 0))
        FRAMES_INFERRED.inc(max(counts.inferred - before.inferred, 0))
        FRAMES_FAILED.inc(max(counts.failed - before.failed, 0))
        REPORTS.inc(max(counts.reported - before.reported, 0))


def begin_at_zero() -> None:
    """A counter that appears with its first event cannot be seen to grow, and what wakes people is its growth."""
    for code in FailureCode:
        TASK_FAILURES.labels(code.value)
    for kind in TaskKind:
        for outcome in OUTCOMES:
            TASKS_ENDED.labels(kind.value, outcome)
