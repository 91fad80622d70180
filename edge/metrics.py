"""What an edge counts, by name; `docs/metrics.md` is made of this. No label is an id: each has a few known values.

Everything is declared here and counted where it happens, in a line. What somebody knows anyway is not counted but asked, when
metrics are read (`edge/metrics_page.py`).
"""

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from contracts.commands import TaskKind
from contracts.failures import FailureCode, FailureRecord

prometheus_client.disable_created_metrics()  # a second series for each counter, of which nobody asks

REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)

REQUEST_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
FIRST_BUCKETS_S = (0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 30, 60, 300)
METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
OTHER = "other"
"""For what a client may invent."""
UNKNOWN = "unknown"
UNREADABLE = "unreadable"
OUTCOMES = ("succeeded", "failed", "cancelled")

HTTP_REQUESTS = Counter(
    "detections_http_requests",
    "Requests that were answered. `route` is a template, or `unmatched`, also of what was refused for its headers; `status` "
    "is 0 where the client left before an answer.",
    ("route", "method", "status"),
    registry=REGISTRY,
)
HTTP_REQUEST_SECONDS = Histogram(
    "detections_http_request_seconds",
    "From the head of a request to the end of its answer; of an upload all of it, of `/detect/stream` as long as it lasted.",
    ("route", "method"),
    buckets=REQUEST_BUCKETS_S,
    registry=REGISTRY,
)
HTTP_FAILURES = Counter(
    "detections_http_failures",
    "Requests that were answered with a problem, by its code.",
    ("code",),
    registry=REGISTRY,
)
UPLOADS_IN_PROGRESS = Gauge("detections_uploads_in_progress", "Bodies that are being received now.", registry=REGISTRY)
UPLOADS_IN_PROGRESS_BYTES = Gauge(
    "detections_uploads_in_progress_bytes",
    "What has been received so far of the bodies in progress.",
    registry=REGISTRY,
)
UPLOAD_BYTES = Counter("detections_upload_bytes", "Bytes of media that were received.", registry=REGISTRY)
FIRST_DETECTION_SECONDS = Histogram(
    "detections_first_detection_seconds",
    "From the first byte of a medium to its first report in the log, by this edge's clock. `medium` is image or video.",
    ("medium",),
    buckets=FIRST_BUCKETS_S,
    registry=REGISTRY,
)
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
COMMANDS_UNPUBLISHED = Gauge(
    "detections_commands_unpublished",
    "Commands and ends that the broker has not taken yet; this edge tries again.",
    registry=REGISTRY,
)
CONSUMERS = Gauge(
    "detections_consumers",
    "Consumers whose heartbeats are heard, by the state of their engine; `stopping` for those that are leaving.",
    ("engine_state",),
    registry=REGISTRY,
)
SSE_LISTENERS = Gauge("detections_sse_listeners", "Listeners of `/detect/stream` now.", registry=REGISTRY)
SSE_LAG_EVENTS = Gauge(
    "detections_sse_lag_events",
    "Events that the listener who is furthest behind has not been sent yet.",
    registry=REGISTRY,
)
SSE_REPLAYS = Counter(
    "detections_sse_replays",
    "Times a listener had to read the log itself, since its place had left this edge's memory.",
    registry=REGISTRY,
)
SSE_GAPS = Counter(
    "detections_sse_gaps", "Times a listener was told that events are no longer in the log.", registry=REGISTRY
)
DEAD_LETTERS = Counter(
    "detections_dead_letters",
    "Commands and posts that came to nothing and wait for the operator. `reason` is a failure code, or `unreadable`.",
    ("reason",),
    registry=REGISTRY,
)
POSTS = Counter(
    "detections_posts",
    "Posts to the Annotations service, by `outcome`: made, or the code of the failure (it may be tried again).",
    ("outcome",),
    registry=REGISTRY,
)
OUTBOX_TASKS = Gauge(
    "detections_outbox_tasks",
    "Tasks of which the Annotations service is still to be told, as this edge saw last; each edge sees all of them.",
    registry=REGISTRY,
)
OUTBOX_OLDEST_SECONDS = Gauge(
    "detections_outbox_oldest_seconds",
    "Since the first try of the post that has been failing for longest, as this edge saw last; 0 while none fails.",
    registry=REGISTRY,
)
BROKER_CONNECTED = Gauge(
    "detections_broker_connected", "1 while a connection to the broker stands.", ("purpose",), registry=REGISTRY
)
BROKER_BLOCKED = Gauge(
    "detections_broker_blocked", "1 while the broker is in alarm and takes no messages.", registry=REGISTRY
)
STORAGE_FREE_BYTES = Gauge("detections_storage_free_bytes", "Free around the shared storage.", registry=REGISTRY)
STORAGE_FREE_MIN_BYTES = Gauge(
    "detections_storage_free_min_bytes",
    "Kept free (`EDGE_FREE_BYTES_MIN`): with less, uploads are refused and the edge is not ready.",
    registry=REGISTRY,
)
READY = Gauge(
    "detections_ready",
    "1 while nothing of this kind keeps the edge from being ready: what `/health/ready` asks, each time metrics are read. "
    "`check` is broker, storage or consumer.",
    ("check",),
    registry=REGISTRY,
)


def task_ended(kind: TaskKind | None, failure: FailureRecord | None) -> None:
    """Count a task whose end was written here. kind: None where its command could not be read."""
    match failure:
        case None:
            outcome = "succeeded"
        case FailureRecord(code=FailureCode.CANCELLED):
            outcome = "cancelled"
        case FailureRecord(code=code):
            outcome = "failed"
            TASK_FAILURES.labels(code.value).inc()
    TASKS_ENDED.labels(kind.value if kind else UNKNOWN, outcome).inc()


def begin_at_zero() -> None:
    """A counter that appears with its first event cannot be seen to grow, and what wakes people is its growth."""
    for code in FailureCode:
        DEAD_LETTERS.labels(code.value)
        TASK_FAILURES.labels(code.value)
        HTTP_FAILURES.labels(code.value)
    DEAD_LETTERS.labels(UNREADABLE)
    for kind in (*(kind.value for kind in TaskKind), UNKNOWN):
        for outcome in OUTCOMES:
            TASKS_ENDED.labels(kind, outcome)
