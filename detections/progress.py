"""What a person sees of a running detection on stderr, while stdout gets the results."""

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from contracts.detections import Counts
from contracts.events import AnyEvent, DetectionEvent, FrameDetected, TaskEnded, TaskProgressed, as_seen_by_clients
from contracts.failures import FailureRecord
from contracts.shots import Shot

_ERASE_LINE = "\r\x1b[2K"


class Progress:
    """A progress bar on stderr (only on a terminal), and lines that do not disturb it."""

    def __init__(self, name: str, *, is_for_shots_only: bool = False) -> None:
        self._is_for_shots_only = is_for_shots_only
        self.counts = Counts()
        self.shots: list[Shot] = []
        self.detections = 0
        self.reports = 0
        self.failure: FailureRecord | None = None
        self._end: TaskEnded | None = None
        self._started_s = time.monotonic()
        self._console = Console(stderr=True)
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:>3.0f} %  {task.fields[note]}"),
            TimeElapsedColumn(),
            console=self._console,
            auto_refresh=False,  # one thread writes, so the bar and stdout never mix in a line
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task(name, total=100, note="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bar.stop()

    def reports_of(self, events: Iterable[AnyEvent]) -> Iterator[DetectionEvent]:
        """The reports among the events, as clients see them; the bar follows all of them."""
        for event in events:
            self._follow(event)
            if isinstance(event, FrameDetected):
                yield as_seen_by_clients(event)

    def write(self, text: bytes) -> None:
        """Put results on stdout, above the bar where both are on one terminal."""
        if self._console.is_terminal and sys.stdout.isatty():
            self._console.file.write(_ERASE_LINE)
            self._console.file.flush()
        sys.stdout.buffer.write(text)
        sys.stdout.buffer.flush()
        self._bar.refresh()

    def say(self, text: str) -> None:
        """One line on stderr."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def say_ignored(self, unknown_fields: Sequence[str]) -> None:
        """What of the configuration nobody knows, if there is any."""
        if unknown_fields:
            self.say(f"unknown fields of --config are ignored: {', '.join(unknown_fields)}")

    def drew(self, percent: int) -> None:
        """The annotated video has come so far."""
        self._bar.update(self._task, completed=percent, note="drawing", refresh=True)

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
        self._bar.update(self._task, completed=event.percent, note=note, refresh=True)
