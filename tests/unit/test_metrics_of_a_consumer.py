"""What a consumer counts."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from consumers import metrics
from contracts.commands import DetectImage, DetectVideo, TaskKind
from contracts.detections import Counts
from contracts.failures import FailureCode, FailureRecord
from contracts.media import Medium, MediumKind
from contracts.options import DetectionOptions
from engine.loading import load_detector
from engine.stages import STOPWATCH, Stage
from tests.events import new_task
from tests.pictures import drawn
from tests.scripted import write_model

MEDIUM = Medium(root="storage", path="a/b", kind=MediumKind.VIDEO)


class Growth:
    """How much a series has grown since the test began: the registry is the process's."""

    def __init__(self, name: str, **labels: str) -> None:
        self._read = lambda: metrics.REGISTRY.get_sample_value(name, labels) or 0.0
        self._before = self._read()

    @property
    def now(self) -> float:
        return self._read() - self._before


def test_frames_are_counted_once_however_often_a_task_says_how_far_it_is() -> None:
    decoded, inferred = Growth("detections_frames_decoded_total"), Growth("detections_frames_inferred_total")
    failed, reported = Growth("detections_frames_failed_total"), Growth("detections_reports_total")
    frames = metrics.FrameCounts(Counts(decoded=100, sampled=50, inferred=50, reported=5))

    frames.reach(Counts(decoded=110, sampled=55, inferred=54, failed=1, reported=6))
    frames.reach(Counts(decoded=110, sampled=55, inferred=54, failed=1, reported=6))
    frames.reach(Counts(decoded=120, sampled=60, inferred=59, failed=1, reported=6))

    assert (decoded.now, inferred.now, failed.now, reported.now) == (20, 9, 1, 1)


def command(*, waited_s: float, continuation: int = 0) -> DetectVideo:
    made_at = datetime.now(UTC) - timedelta(seconds=waited_s)
    return DetectVideo(task_id=new_task(), medium=MEDIUM, created_at=made_at, continuation=continuation)


def test_a_command_says_how_long_nobody_took_it() -> None:
    count, seconds = (Growth(f"detections_queue_wait_seconds_{what}", kind="video") for what in ("count", "sum"))

    metrics.command_taken(command(waited_s=30), is_redelivered=False)
    metrics.command_taken(command(waited_s=-30), is_redelivered=False)  # another clock runs ahead

    assert count.now == 2
    assert 30 <= seconds.now < 60


def test_of_a_command_that_others_had_the_wait_is_not_known() -> None:
    count, again = Growth("detections_queue_wait_seconds_count", kind="video"), Growth("detections_redeliveries_total")

    metrics.command_taken(command(waited_s=30), is_redelivered=True)
    metrics.command_taken(command(waited_s=30, continuation=1), is_redelivered=False)
    metrics.command_taken(DetectImage(task_id=new_task(), medium=MEDIUM), is_redelivered=False)  # of another service

    assert (count.now, again.now) == (0, 1)


@pytest.mark.parametrize(
    ("failure", "outcome"),
    [(None, "succeeded"), (FailureCode.CANCELLED, "cancelled"), (FailureCode.NO_FRAMES, "failed")],
)
def test_a_task_ends_in_one_of_three_ways(failure: FailureCode | None, outcome: str) -> None:
    ended = Growth("detections_tasks_ended_total", kind="shots", outcome=outcome)
    named = Growth("detections_task_failures_total", code="no_frames")

    metrics.task_ended(TaskKind.SHOTS, failure and FailureRecord(code=failure, detail=""))

    assert (ended.now, named.now) == (1, failure is FailureCode.NO_FRAMES)


def test_each_stage_of_an_inference_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Stage] = []
    detector = load_detector(write_model(tmp_path / "model.json"))
    monkeypatch.setattr(STOPWATCH, "took", lambda stage, seconds: told.append(stage) if seconds >= 0 else None)

    detector.detect(drawn(160, 128), DetectionOptions())

    assert told == [Stage.PREPROCESS, Stage.INFER, Stage.POSTPROCESS]
    detector.close()


def test_a_stage_that_was_told_is_counted_under_its_name() -> None:
    count, seconds = (Growth(f"detections_inference_seconds_{what}", stage="infer") for what in ("count", "sum"))

    metrics.stage_took(Stage.INFER, 0.25)

    assert (count.now, seconds.now) == (1, 0.25)
