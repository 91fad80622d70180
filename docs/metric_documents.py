"""`metrics.md`, from the definitions in `edge/metrics.py` and `consumers/metrics.py`."""

from types import ModuleType

import msgspec
from prometheus_client.metrics import MetricWrapperBase

import consumers.metrics
import edge.metrics

_INTRODUCTION = """# Metrics

Written by `python docs/generate.py` from `edge/metrics.py` and `consumers/metrics.py`. Prometheus's text format, base units, no
ids in labels.

| where | read at | who may |
|---|---|---|
| an edge with `EDGE_AUTH=off` | `GET /metrics` | everybody who reaches it, which is this machine |
| any edge | `GET http://$EDGE_METRICS_ADDRESS/metrics`; unset: nowhere | everybody who reaches that address |
| a consumer | `GET http://$CONSUMER_METRICS_ADDRESS/metrics`; unset: nowhere | everybody who reaches that address |

A consumer answers `/health/live` and `/health/ready` there as well. `detections up` gives each of its processes a port
of its own on 127.0.0.1 and writes them into `stack.json` in its storage. Why it is so:
[ADR 55](adr/0055-metrics-have-a-port-of-their-own.md). What they are worth watching for:
[`compose/prometheus/alerts.yml`](../compose/prometheus/alerts.yml), the dashboard in
[`compose/grafana`](../compose/grafana), and [operations.md](operations.md).

Each process also has Prometheus's own `process_*`: CPU seconds, resident memory, open files, start time.

A histogram `x` is read as `x_bucket`, `x_sum` and `x_count`. Counters begin at 0 when a process starts. Where both services
have a metric of one name, each counts what it did itself: a task that an edge ended (cancelled before anybody took it, a dead
letter) is counted there, one that a consumer ended here.
"""


class Row(msgspec.Struct, frozen=True):
    """One metric, as it is written down."""

    name: str
    kind: str
    labels: tuple[str, ...]
    meaning: str

    def __str__(self) -> str:
        labels = ", ".join(f"`{label}`" for label in self.labels)
        return f"| `{self.name}` | {self.kind} | {labels} | {self.meaning} |"


def rows_of(module: ModuleType) -> list[Row]:
    """The metrics that a module declares, in its order."""
    declared = [thing for thing in vars(module).values() if isinstance(thing, MetricWrapperBase)]
    return [_row(metric) for metric in declared]


def metrics() -> str:
    """Every metric of every process."""
    sections = [_INTRODUCTION]
    for title, module in (("An edge", edge.metrics), ("A consumer", consumers.metrics)):
        table = ["| name | type | labels | meaning |", "|---|---|---|---|", *map(str, rows_of(module))]
        sections.append(f"## {title}\n\n" + "\n".join(table) + "\n")
    return "\n".join(sections)


def _row(metric: MetricWrapperBase) -> Row:
    (family,) = metric.describe()
    name = f"{family.name}_total" if family.type == "counter" else family.name
    return Row(name=name, kind=family.type, labels=tuple(metric._labelnames), meaning=family.documentation)  # noqa: SLF001
