"""Grafana's dashboard, from a list of rows of panels: `compose/grafana/dashboards/detections.json`."""

from pathlib import Path
from typing import Any

import msgspec

DASHBOARD = Path(__file__).resolve().parent.parent / "compose" / "grafana" / "dashboards" / "detections.json"
COLUMNS = 24
PANEL_HEIGHT = 8
_SOURCE = {"type": "prometheus", "uid": "prometheus"}


class Query(msgspec.Struct, frozen=True):
    """A line of a panel: what is asked, and how it is called."""

    expression: str
    legend: str


class Panel(msgspec.Struct, frozen=True, kw_only=True):
    """A panel. unit: as Grafana calls it."""

    title: str
    unit: str = "short"
    queries: tuple[Query, ...]
    is_figure: bool = False
    """True: the last value in large type, no curve."""
    about: str = ""


class Row(msgspec.Struct, frozen=True):
    """Panels beside each other under a title."""

    title: str
    panels: tuple[Panel, ...]


def _quantiles(metric: str, by: str, *quantiles: float) -> tuple[Query, ...]:
    rate = f"sum by (le, {by}) (rate({metric}_bucket[$__rate_interval]))"
    return tuple(
        Query(f"histogram_quantile({quantile}, {rate})", f"{{{{{by}}}}} p{quantile * 100:g}") for quantile in quantiles
    )


def _rate(metric: str, by: str) -> Query:
    return Query(f"sum by ({by}) (rate({metric}[$__rate_interval]))", f"{{{{{by}}}}}")


ROWS = (
    Row(
        "Is it well?",
        (
            Panel(
                title="Ready",
                is_figure=True,
                queries=(Query("min by (check) (detections_ready)", "{{check}}"),),
                about="1: nothing of this kind keeps an edge from being ready.",
            ),
            Panel(
                title="Consumers",
                is_figure=True,
                queries=(Query("max by (engine_state) (detections_consumers) > 0", "{{engine_state}}"),),
                about="By the state of their engine, as an edge hears them.",
            ),
            Panel(
                title="Engines",
                is_figure=True,
                queries=(Query("sum by (engine, state) (detections_engine_state) > 0", "{{engine}} {{state}}"),),
                about="As the consumers say themselves.",
            ),
            Panel(
                title="Broker",
                is_figure=True,
                queries=(
                    Query("max(detections_broker_blocked)", "in alarm"),
                    Query("sum(1 - detections_broker_connected)", "connections missing"),
                ),
            ),
            Panel(
                title="Storage free",
                unit="bytes",
                is_figure=True,
                queries=(
                    Query("min(detections_storage_free_bytes)", "free"),
                    Query("max(detections_storage_free_min_bytes)", "refused below"),
                ),
            ),
        ),
    ),
    Row(
        "What people feel",
        (
            Panel(
                title="First detection",
                unit="s",
                queries=_quantiles("detections_first_detection_seconds", "medium", 0.5, 0.9),
                about="From the first byte of a medium to its first report.",
            ),
            Panel(
                title="Queue wait",
                unit="s",
                queries=_quantiles("detections_queue_wait_seconds", "kind", 0.5, 0.95),
                about="From a command being made to a consumer taking it.",
            ),
            Panel(
                title="Requests",
                unit="reqps",
                queries=(_rate("detections_http_requests_total", "status"),),
            ),
            Panel(
                title="Seconds of requests",
                unit="s",
                queries=(
                    Query(
                        "histogram_quantile(0.95, sum by (le, route) "
                        '(rate(detections_http_request_seconds_bucket{route!="/detect/stream"}[$__rate_interval])))',
                        "{{route}} p95",
                    ),
                ),
            ),
        ),
    ),
    Row(
        "Tasks",
        (
            Panel(title="Tasks ended", unit="ops", queries=(_rate("detections_tasks_ended_total", "outcome"),)),
            Panel(
                title="Failures of tasks",
                unit="ops",
                queries=(
                    Query("sum by (code) (rate(detections_task_failures_total[$__rate_interval])) > 0", "{{code}}"),
                ),
            ),
            Panel(
                title="Tasks running",
                queries=(Query("sum by (instance) (detections_tasks_running)", "{{instance}}"),),
            ),
            Panel(
                title="Dead letters, redeliveries",
                queries=(
                    Query("sum by (reason) (increase(detections_dead_letters_total[1h])) > 0", "dead: {{reason}}"),
                    Query("sum(increase(detections_redeliveries_total[1h]))", "redelivered"),
                ),
                about="Within the last hour.",
            ),
        ),
    ),
    Row(
        "Engine",
        (
            Panel(
                title="Frames",
                unit="ops",
                queries=(
                    Query("sum(rate(detections_frames_decoded_total[$__rate_interval]))", "decoded"),
                    Query("sum(rate(detections_frames_inferred_total[$__rate_interval]))", "inferred"),
                    Query("sum(rate(detections_frames_failed_total[$__rate_interval]))", "failed"),
                    Query("sum(rate(detections_reports_total[$__rate_interval]))", "reported"),
                ),
            ),
            Panel(
                title="Inference by stage",
                unit="s",
                queries=_quantiles("detections_inference_seconds", "stage", 0.5, 0.95),
            ),
            Panel(
                title="Threads busy",
                queries=(
                    Query(
                        "sum by (stage) (rate(detections_inference_seconds_sum[$__rate_interval]))",
                        "{{stage}}",
                    ),
                ),
                about="Seconds of each stage in a second: how many threads it keeps busy.",
            ),
            Panel(
                title="CPU",
                queries=(Query("sum by (job) (rate(process_cpu_seconds_total[$__rate_interval]))", "{{job}} cores"),),
            ),
            Panel(
                title="Memory",
                unit="bytes",
                queries=(Query("sum by (job, instance) (process_resident_memory_bytes)", "{{job}} {{instance}}"),),
            ),
        ),
    ),
    Row(
        "Uploads and listeners",
        (
            Panel(
                title="Uploads in progress",
                queries=(Query("sum(detections_uploads_in_progress)", "uploads"),),
            ),
            Panel(
                title="Bytes received",
                unit="Bps",
                queries=(Query("sum(rate(detections_upload_bytes_total[$__rate_interval]))", "received"),),
            ),
            Panel(
                title="Bytes of uploads in progress",
                unit="bytes",
                queries=(Query("sum(detections_uploads_in_progress_bytes)", "so far"),),
            ),
            Panel(
                title="Listeners",
                queries=(Query("sum by (instance) (detections_sse_listeners)", "{{instance}}"),),
            ),
            Panel(
                title="Listeners behind",
                queries=(
                    Query("max(detections_sse_lag_events)", "events behind"),
                    Query("sum(increase(detections_sse_replays_total[1h]))", "replays within an hour"),
                    Query("sum(increase(detections_sse_gaps_total[1h]))", "gaps within an hour"),
                ),
            ),
            Panel(
                title="Problems",
                unit="ops",
                queries=(
                    Query("sum by (code) (rate(detections_http_failures_total[$__rate_interval])) > 0", "{{code}}"),
                ),
                about="Requests that were answered with a problem, by its code.",
            ),
        ),
    ),
    Row(
        "Broker and Annotations service",
        (
            Panel(
                title="Commands waiting",
                queries=(
                    Query(
                        "sum by (queue) (rabbitmq_detailed_queue_messages_ready"
                        '{queue=~"detections[.]commands[.].+|detections[.]dead-letters"})',
                        "{{queue}}",
                    ),
                    Query("max(detections_commands_unpublished)", "not yet published"),
                ),
            ),
            Panel(
                title="In consumers' hands",
                queries=(
                    Query(
                        "sum by (queue) (rabbitmq_detailed_queue_messages_unacked"
                        '{queue=~"detections[.]commands[.].+"})',
                        "{{queue}}",
                    ),
                    Query(
                        'sum by (queue) (rabbitmq_detailed_queue_consumers{queue=~"detections[.]commands[.].+"})',
                        "{{queue}} consumers",
                    ),
                ),
            ),
            Panel(
                title="Alarms",
                queries=(
                    Query("max(rabbitmq_alarms_memory_used_watermark)", "memory"),
                    Query("max(rabbitmq_alarms_free_disk_space_watermark)", "disk"),
                ),
            ),
            Panel(
                title="To be told",
                queries=(
                    Query("max(detections_outbox_tasks)", "tasks"),
                    Query("max(detections_outbox_oldest_seconds)", "seconds since the oldest failure"),
                ),
            ),
            Panel(title="Posts", unit="ops", queries=(_rate("detections_posts_total", "outcome"),)),
        ),
    ),
)


def dashboard() -> str:
    """The dashboard as Grafana reads it."""
    panels: list[dict[str, Any]] = []
    at_row = 0
    for row in ROWS:
        place = {"h": 1, "w": COLUMNS, "x": 0, "y": at_row}
        panels.append({"type": "row", "title": row.title, "collapsed": False, "gridPos": place, "panels": []})
        width = COLUMNS // len(row.panels)
        for number, panel in enumerate(row.panels):
            place = {"h": PANEL_HEIGHT, "w": width, "x": number * width, "y": at_row + 1}
            panels.append(_panel(panel) | {"gridPos": place})
        at_row += 1 + PANEL_HEIGHT
    numbered = [{"id": number, **panel} for number, panel in enumerate(panels, start=1)]
    board = {
        "uid": "detections",
        "title": "Detections",
        "tags": ["detections"],
        "schemaVersion": 39,
        "editable": False,
        "refresh": "15s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": []},
        "annotations": {"list": []},
        "panels": numbered,
    }
    return msgspec.json.format(msgspec.json.encode(board), indent=1).decode() + "\n"


def _panel(panel: Panel) -> dict[str, Any]:
    targets = [
        {"refId": chr(ord("A") + number), "datasource": _SOURCE, "expr": query.expression, "legendFormat": query.legend}
        for number, query in enumerate(panel.queries)
    ]
    return {
        "type": "stat" if panel.is_figure else "timeseries",
        "title": panel.title,
        "description": panel.about,
        "datasource": _SOURCE,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {"reduceOptions": {"calcs": ["lastNotNull"]}}
        if panel.is_figure
        else {"legend": {"showLegend": True}},
        "targets": targets,
    }
