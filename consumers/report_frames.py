"""The frames of reports that will be posted: JPEGs beside the results, there before anybody is told of the report."""

import contextlib
from collections.abc import Generator

import structlog

from consumers.checkpoints import Watched
from contracts.commands import AnyCommand
from contracts.crashpoints import crashpoint
from contracts.storage import Layout
from engine.account import FrameReport
from engine.images import jpeg

SIDE_PX_MAX = 1920
"""Longest side of a frame that is posted: a message holds it, and boxes are fractions of it."""

logger = structlog.get_logger(__name__)


class ReportFrames:
    """The frames of one task."""

    def __init__(self, layout: Layout, command: AnyCommand) -> None:
        self._layout = layout
        self._task_id = command.task_id

    def kept(self, watched: Generator[Watched, None, None]) -> Generator[Watched, None, None]:
        """What is watched, each report after its frame was written."""
        with contextlib.closing(watched):
            for seen in watched:
                if isinstance(seen, FrameReport):
                    self._keep(seen)
                yield seen

    def _keep(self, seen: FrameReport) -> None:
        """Write the picture of a report, if it has one; a disk that is full costs the picture and not the report."""
        if seen.picture is None:
            return
        path = self._layout.frame(self._task_id, seen.sequence)
        try:
            path.parent.mkdir(exist_ok=True)
            temporary = path.with_suffix(".part")
            temporary.write_bytes(jpeg(seen.picture, side_px_max=SIDE_PX_MAX))
            temporary.replace(path)
            crashpoint("consumer.frame.kept")
        except OSError as error:
            logger.warning("frame not kept", task_id=self._task_id, sequence=seen.sequence, error=str(error))
