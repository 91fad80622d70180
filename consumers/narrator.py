"""What was seen, in the words of the events of one attempt at a task."""

from datetime import UTC, datetime

import msgspec

from contracts.commands import AnyCommand, DetectImage
from contracts.detections import Counts, Detection, video_time
from contracts.events import FrameDetected, TaskEnded, TaskProgressed
from contracts.failures import FailureRecord
from engine.account import FrameReport, Progressed

READ_PERCENT = 99
"""Read whole, but not ended."""
DONE_PERCENT = 100


class Narrator(msgspec.Struct, frozen=True, kw_only=True):
    """Speaks for one attempt at one task."""

    task_id: str
    media_id: str
    """The task id while the content hash is not known."""
    epoch: int = 1
    is_quiet: bool = False
    owner: str | None = None
    is_video: bool = True

    def report(self, seen: FrameReport) -> FrameDetected:
        """A report under its number."""
        return FrameDetected(
            task_id=self.task_id,
            media_id=self.media_id,
            epoch=self.epoch,
            percent=seen.percent,
            is_quiet=self.is_quiet,
            owner=self.owner,
            at=datetime.now(UTC),
            sequence=seen.sequence,
            frame_index=seen.frame_index,
            video_time=video_time(seen.at_s) if self.is_video else None,
            annotations=seen.detections,
            shots=[shot.told() for shot in seen.shots],
        )

    def picture(self, detections: list[Detection]) -> FrameDetected:
        """The one report of a picture."""
        seen = FrameReport(sequence=1, frame_index=0, at_s=0.0, detections=detections, percent=READ_PERCENT)
        return self.report(seen)

    def progress(self, seen: Progressed) -> TaskProgressed:
        """A sign of life."""
        return TaskProgressed(
            task_id=self.task_id,
            media_id=self.media_id,
            epoch=self.epoch,
            percent=seen.percent,
            is_quiet=self.is_quiet,
            owner=self.owner,
            at=datetime.now(UTC),
            counts=seen.counts,
            waiting_for=seen.waiting_for,
        )

    def end(
        self,
        *,
        sequence: int,
        counts: Counts,
        percent: int = DONE_PERCENT,
        is_partial: bool = False,
        failure: FailureRecord | None = None,
    ) -> TaskEnded:
        """The last word."""
        return TaskEnded(
            task_id=self.task_id,
            media_id=self.media_id,
            epoch=self.epoch,
            percent=DONE_PERCENT if failure is None else percent,
            is_quiet=self.is_quiet,
            owner=self.owner,
            at=datetime.now(UTC),
            sequence=sequence,
            counts=counts,
            is_partial=is_partial,
            failure=failure,
        )


def narrator_of(command: AnyCommand, *, epoch: int = 1) -> Narrator:
    """Who speaks for an attempt at a command."""
    return Narrator(
        task_id=command.task_id,
        media_id=command.medium.media_id or command.task_id,
        epoch=epoch,
        is_quiet=command.is_quiet,
        owner=command.owner,
        is_video=not isinstance(command, DetectImage),
    )
