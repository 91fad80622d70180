"""What has been seen of a video so far: counts that add up, the last report, and where to go on from."""

from collections.abc import Generator
from typing import Literal

import msgspec

from contracts.detections import Counts, Detection
from contracts.failures import Failure, FailureCode, FailureRecord
from contracts.options import DetectionOptions
from contracts.results import Checkpoint, LastReport
from contracts.shots import ShotPlace
from engine.decode_thread import Over
from engine.picture import Picture
from engine.reporting import report
from engine.shot_cuts import Passed
from engine.shot_finder import FoundShot
from engine.showing import Detections

CHECKPOINT_MEDIA_S = 5.0
"""Seconds of video between checkpoints where nothing is reported: what a taker does again at most."""


class FrameReport(msgspec.Struct, frozen=True, kw_only=True):
    """A frame worth telling about: for what it shows, or for the shots that became certain with it.

    `sequence` counts them from 1, across resumptions.
    """

    sequence: int
    frame_index: int
    at_s: float
    detections: list[Detection]
    percent: int
    shots: list[FoundShot] = []
    picture: Picture | None = None
    """What was looked at, if it was asked for."""


class Progressed(msgspec.Struct, frozen=True, kw_only=True):
    """How far it has come; at most one per second, and at once when `waiting_for` changes."""

    counts: Counts
    percent: int
    waiting_for: Literal["moov"] | None


class Finished(msgspec.Struct, frozen=True, kw_only=True):
    """The end, also of what failed; the counts add up."""

    counts: Counts
    percent: int
    is_partial: bool
    failure: FailureRecord | None


class Account:
    """What has been seen so far: counts, the last report, and where to go on from."""

    def __init__(
        self, options: DetectionOptions, resume: Checkpoint | None, *, is_for_shots_only: bool = False
    ) -> None:
        self._options = options
        self._is_for_shots_only = is_for_shots_only
        self._counts = resume.counts if resume else Counts()
        self._sequence = resume.sequence if resume else 0
        self._last: LastReport | None = resume.last_report if resume else None
        self._place: ShotPlace | None = resume.shots if resume else None
        self._frame_index = resume.frame_index if resume else -1
        self._at_s = self._checkpoint_s = resume.at_s if resume else 0.0
        self._percent = resume.percent if resume else 0

    def take(self, passed: Passed) -> Generator[FrameReport | Checkpoint]:
        """Count a frame; report it if the rule says so, and say where to resume if it is time.

        The rule of a video begins anew with each shot. Raises, before anything is counted: `CancelledError` if nobody looked
        at the frame and nobody will, `Failure(engine_unavailable)` if somebody may, a little later.
        """
        looked = passed.looked
        detections = self._detections(looked.detections) if looked.detections is not None else []
        self._frame_index, self._at_s, self._percent = looked.frame_index, looked.at_s, looked.percent
        self._place = passed.place
        self._count_passed(passed)
        if passed.begins_shot:
            self._last = None
        remembered = report(detections, at_s=looked.at_s, last=self._last, options=self._options, size=looked.size)
        if remembered is not None:
            self._last = remembered
            self._count(reported=1)
        is_told = remembered is not None or bool(passed.shots)
        if is_told:
            self._sequence += 1
            yield FrameReport(
                sequence=self._sequence,
                frame_index=looked.frame_index,
                at_s=looked.at_s,
                detections=detections if remembered is not None else [],
                percent=looked.percent,
                shots=passed.shots,
                picture=looked.frame if remembered is not None else None,
            )
        if is_told or looked.at_s - self._checkpoint_s >= CHECKPOINT_MEDIA_S:
            yield self._checkpoint()

    def last_checkpoint(self) -> Generator[Checkpoint]:
        """Where to go on from, if any frame is done."""
        if self._frame_index >= 0:
            yield self._checkpoint()

    def progressed(self, waiting_for: Literal["moov"] | None) -> Progressed:
        return Progressed(counts=self._counts, percent=self._percent, waiting_for=waiting_for)

    def finished(self, over: Over) -> Finished:
        """The end: 100 percent unless it failed, which it also did if no sampled frame could be looked at."""
        self._count(decoded=max(over.decoded - self._counts.decoded, 0))
        failure = over.failure
        counts = self._counts
        if failure is None and counts.failed and not counts.inferred:
            failure = Failure(FailureCode.INFERENCE_FAILED, f"all {counts.failed} sampled frames failed")
        return Finished(
            counts=counts,
            percent=100 if failure is None else self._percent,
            is_partial=over.is_partial,
            failure=failure.record() if failure else None,
        )

    def _detections(self, future: Detections) -> list[Detection]:
        try:
            detections = future.result()
        except Failure as failure:
            if failure.code is FailureCode.ENGINE_UNAVAILABLE:  # no fault of the frame
                raise
            self._count(sampled=1, failed=1)
            return []
        self._count(sampled=1, inferred=1)
        return detections

    def _count_passed(self, passed: Passed) -> None:
        decoded = passed.looked.frame_index + 1 - self._counts.decoded
        looked_at = decoded if self._is_for_shots_only else 0
        self._count(decoded=decoded, sampled=looked_at, inferred=looked_at, shots=len(passed.shots))

    def _count(self, **more: int) -> None:
        counts = self._counts
        added = {name: getattr(counts, name) + count for name, count in more.items()}
        self._counts = msgspec.structs.replace(counts, **added)

    def _checkpoint(self) -> Checkpoint:
        self._checkpoint_s = self._at_s
        return Checkpoint(
            frame_index=self._frame_index,
            at_s=self._at_s,
            counts=self._counts,
            sequence=self._sequence,
            percent=self._percent,
            last_report=self._last,
            shots=self._place,
        )
