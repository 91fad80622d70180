"""What a person sees of a running detection on stderr, while stdout gets the results."""

import time
from collections.abc import Iterable, Iterator, Sequence

from contracts.detections import Counts
from contracts.events import AnyEvent, DetectionEvent, FrameDetected, TaskEnded, TaskProgressed, as_seen_by_clients
from contracts.failures import FailureRecord
from contracts.shots import Shot
from detections.bars import Bars


class Progress(Bars):
    """A bar of its own for one detection in this process."""

    def __init__(self, name: str, *, is_for_shots_only: bool = False) -> None:
        super().__init__(auto_refresh=False)
        self._is_for_shots_only = is_for_shots_only
        self.counts = Counts()
        self.shots: list[Shot] = []
        self.detections = 0
        self.reports = 0
        self.failure: FailureRecord | None = None
        self._end: TaskEnded | None = None
        self._started_s = time.monotonic()
        self._bar = self._add(name)

    def reports_of(self, events: Iterable[AnyEvent]) -> Iterator[DetectionEvent]:
        """The reports among the events, as clients see them; the bar follows all of them."""
        for event in events:
            self._follow(event)
            if isinstance(event, FrameDetected):
                yield as_seen_by_clients(event)

    def say_ignored(self, unknown_fields: Sequence[str]) -> None:
        """What of the configuration nobody knows, if there is any."""
        if unknown_fields:
            self.say(f"unknown fields of --config are ignored: {', '.join(unknown_fields)}")

    def drew(self, percent: int) -> None:
        """The annotated video has come so far."""
        self._move(self._bar, percent, "drawing")

    def summary(self) -> str:
        """What it came to, one sentence."""
        counts = self.counts
        seconds = time.monotonic() - self._started_s
        frames = f"{counts.inferred} of {counts.decoded} frames looked at" + (
            f", {counts.failed} failed" if counts.failed else ""
        )
        cut = "; the file is cut or damaged, what could be decoded was looked at" if self._is_partial else ""
        return f"{self._found()}, {frames}, {seconds:.1f} s{cut}"

    def _found(self) -> str:
        shots = [f"{len(self.shots)} shots"] if self.shots or self._is_for_shots_only else []
        objects = [] if self._is_for_shots_only else [f"{self.detections} detections in {self.reports} reports"]
        return ", ".join(objects + shots)

    @property
    def _is_partial(self) -> bool:
        return self._end is not None and self._end.is_partial

    def _follow(self, event: AnyEvent) -> None:
        match event:
            case FrameDetected():
                self.reports += 1
                self.shots += event.shots
                self.detections += len(event.annotations)
            case TaskProgressed():
                self.counts = event.counts
            case TaskEnded():
                self.counts, self.failure, self._end = event.counts, event.failure, event
        note = f"{len(self.shots)} shots" if self._is_for_shots_only else f"{self.detections} detections"
        self._move(self._bar, event.percent, note)
