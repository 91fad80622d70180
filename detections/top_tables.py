"""The board of `detections top` as tables for a terminal."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from contracts import topology
from contracts.events import ConsumerSeen
from detections.management import QueueSeen
from detections.top_board import Board, TaskSeen

TASKS_SHOWN_MAX = 20
_BAR_CHARACTERS = 20


def drawn(board: Board, *, broker: str) -> RenderableType:
    """Everything on one screen. broker: its address, without a password."""
    rates = board.rates
    head = Text.assemble(
        ("detections top", "bold"),
        f"  {broker}  events/s: {rates.reports:.1f} reports, {rates.progress:.1f} progress, {rates.ends:.1f} ends",
    )
    troubles = [Text(trouble, style="yellow") for trouble in board.troubles.values()]
    return Group(head, *troubles, _queues(board.queues), _consumers(board.consumers), _tasks(board.tasks))


def _queues(queues: Sequence[QueueSeen]) -> Table:
    table = Table("queue", box=None, title="queues", title_justify="left", expand=False)
    for name in ("ready", "unacked", "consumers", "in/s", "out/s"):
        table.add_column(name, justify="right")
    known = {queue.name: queue for queue in queues}
    for name in (queue.name for queue in topology.topology().queues):
        if (queue := known.get(name)) is not None:
            stats = queue.message_stats
            table.add_row(
                queue.name,
                str(queue.messages_ready),
                str(queue.messages_unacknowledged),
                str(queue.consumers),
                f"{stats.publish_details.rate:.1f}",
                f"{stats.deliver_get_details.rate:.1f}",
            )
    return table


def _consumers(consumers: Sequence[ConsumerSeen]) -> Table:
    table = Table("consumer", "engine", "by", "model", "shots", box=None, title="consumers", title_justify="left")
    table.add_column("tasks", justify="right")
    table.add_column("")
    for consumer in consumers:
        table.add_row(
            consumer.id.rpartition(":")[0],
            consumer.status.api_name,
            consumer.engine_type or "-",
            consumer.model or "-",
            consumer.shots.status.api_name if consumer.shots else "-",
            str(consumer.tasks_running),
            Text("stopping" if consumer.is_stopping else consumer.error_message or ""),
        )
    if not consumers:
        table.add_row("none was heard")
    return table


def _tasks(tasks: Sequence[TaskSeen]) -> Table:
    more = f", {TASKS_SHOWN_MAX} of {len(tasks)}" if len(tasks) > TASKS_SHOWN_MAX else ""
    table = Table("task", "", box=None, title=f"tasks in progress{more}", title_justify="left")
    for name in ("percent", "reports", "attempt"):
        table.add_column(name, justify="right")
    table.add_column("medium")
    for task in tasks[:TASKS_SHOWN_MAX]:
        filled = task.percent * _BAR_CHARACTERS // 100
        bar = "█" * filled + "·" * (_BAR_CHARACTERS - filled)
        medium = "" if task.media_id == task.task_id else task.media_id
        table.add_row(task.task_id, bar, f"{task.percent} %", str(task.reports), str(task.attempt), Text(medium))
    if not tasks:
        table.add_row("none")
    return table
