"""The end of a task on disk. Its room is taken when the task is claimed, so that a full disk can still be told of."""

import contextlib
import os
from pathlib import Path

import msgspec

from contracts.crashpoints import crashpoint
from contracts.events import TaskEnded
from contracts.storage import Layout

RESERVED_BYTES = 4096
"""More than an end needs; a longer one needs a disk that is not full."""


class Ending:
    """The place of an end, for one attempt at a task."""

    def __init__(self, layout: Layout, task_id: str, *, epoch: int) -> None:
        self._end = layout.end(task_id)
        self._reserved = _reserved(layout, task_id, epoch=epoch)

    def create(self, event: TaskEnded) -> bool:
        """Make this the end of the task; False if it has one. It appears whole or not at all, and survives a crash."""
        content = msgspec.json.encode(event).ljust(RESERVED_BYTES)  # JSON may end in blanks
        file = os.open(self._reserved, os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            os.pwrite(file, content, 0)
            crashpoint("consumer.end.written")
            os.fsync(file)
            crashpoint("consumer.end.synced")
        finally:
            os.close(file)
        try:
            os.link(self._reserved, self._end)
        except FileExistsError:
            return False
        crashpoint("consumer.end.created")
        return True

    def give_back(self) -> None:
        """Free what was reserved; an end that was created stays."""
        with contextlib.suppress(OSError):
            self._reserved.unlink(missing_ok=True)
            crashpoint("consumer.end.given-back")


def reserve_end(layout: Layout, task_id: str, *, epoch: int) -> None:
    """Take the room that an end needs."""
    _reserved(layout, task_id, epoch=epoch).write_bytes(b" " * RESERVED_BYTES)


def _reserved(layout: Layout, task_id: str, *, epoch: int) -> Path:
    return layout.task(task_id) / f".end.{epoch}"
