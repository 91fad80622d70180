"""How a listener stays on the line: resuming, catching up, waiting, giving up. No socket: the clients do what it says.

A task's reports are numbered and stored, so a listener of one task misses nothing however late it comes: what lies in
`GET /tasks/{id}/results` is given first, and what the stream repeats of it is left out.
"""

import random
import time
from collections import deque
from collections.abc import Callable, Iterator
from http import HTTPStatus

import msgspec

from contracts.events import DetectionEvent, MediaStatus
from detections.answers import ServiceError, Task
from detections.sse import SseEvent, SseParser

RETRIES_MAX = 10
"""Connections in a row that brought nothing; with the delays below about 25 s, longer than an edge's restart."""
OPENING_RETRIES_MAX = 2
"""The same before the first byte ever came: a wrong address is said at once."""
SILENCE_S = 30.0
"""A task that is worked on says so once a second. One that says nothing for so long waits, or its end was lost on its way (the
log of a cluster whose leader dies), so what is stored is looked at."""
_DELAY_FIRST_S = 0.1
_DELAY_MAX_S = 5.0
_RETRIABLE = frozenset((429, 502, 503, 504))
_event = msgspec.json.Decoder(DetectionEvent)
clock_s = time.monotonic


OnGap = Callable[[], None]
"""Called when events are lost for good: the log no longer has them, and no task was named whose reports are stored."""


class Following:
    """The state of one listener over all of its connections."""

    def __init__(
        self,
        *,
        task_id: str | None = None,
        media_id: str | None = None,
        last_event_id: str = "",
        must_exist: bool = True,
        retries_max: int = RETRIES_MAX,
        on_gap: OnGap | None = None,
    ) -> None:
        self.task_id = task_id
        self._must_exist = must_exist
        self.is_over = False
        self.wants_stored = task_id is not None and not last_event_id
        self._media_id = media_id
        self._on_gap = on_gap
        self._parser = SseParser(last_event_id=last_event_id)
        self._arrived: deque[SseEvent | DetectionEvent] = deque()
        self._sequence: int | None = None if last_event_id else 0
        """Of the last event given; None while whoever resumes has not said it."""
        self._looked_before: int | None = None
        self._retries_max = retries_max
        self._has_received = False
        self._retries = 0
        self._heard_s = clock_s()
        """When an event came, or what is stored was asked for in its place."""

    def params(self) -> dict[str, str]:
        asked = {"taskId": self.task_id, "mediaId": self._media_id}
        return {name: value for name, value in asked.items() if value is not None}

    def headers(self) -> dict[str, str]:
        """Of the next connection; what an earlier one left unfinished is forgotten."""
        last_event_id = self._parser.last_event_id
        self._parser = SseParser(last_event_id=last_event_id)
        # compressed, small events would wait in somebody's buffer
        plain = {"Accept": "text/event-stream", "Accept-Encoding": "identity", "Cache-Control": "no-store"}
        return plain | {"Last-Event-ID": last_event_id} if last_event_id else plain

    def receive(self, chunk: bytes) -> None:
        """Take what the connection brought. Raises `MalformedStreamError`."""
        events = self._parser.feed(chunk)
        self._arrived.extend(events)
        self._has_received, self._retries = True, 0
        now_s = clock_s()
        if events:
            self._heard_s = now_s
        elif self.task_id is not None and now_s - self._heard_s > SILENCE_S:
            self.wants_stored, self._heard_s = True, now_s

    def restore(self, task: Task, reports: list[DetectionEvent]) -> None:
        """Take what was stored; it comes before what has arrived."""
        self.wants_stored = False
        if self._sequence is None and not task.status.is_end:
            return  # silence loses nothing: whoever resumes had what is stored, or the stream brings it
        self._arrived.extendleft(reversed([*reports, *_end(task, reports)]))

    def begin_without(self, error: ServiceError) -> None:
        """There is no such task yet. Raises `error` if it had to exist, or if it says something else."""
        if self._must_exist or error.status != HTTPStatus.NOT_FOUND:
            raise error
        self.wants_stored = False

    def take(self) -> list[DetectionEvent]:
        """What is new, in order; nothing while stored reports are wanted first."""
        return list(self._take())

    def delay_s(self, error: Exception | None) -> float:
        """How long to wait before connecting again after `error`, or after a stream that just ended.

        Raises `error` if it is not worth another try or there were too many; `ServiceError` if there is none to raise.
        """
        allowed = self._retries_max if self._has_received else min(OPENING_RETRIES_MAX, self._retries_max)
        is_final = isinstance(error, ServiceError) and error.status not in _RETRIABLE
        if is_final or self._retries >= allowed:
            raise error or ServiceError(status=0, code="stream_ended", detail="the event stream ends again and again")
        delay_s = min(_DELAY_MAX_S, _DELAY_FIRST_S * 2**self._retries)
        self._retries += 1
        asked_s = (self._parser.retry_ms or 0) / 1000
        return max(delay_s, asked_s) * random.uniform(0.5, 1.0)  # noqa: S311 - spreads clients, hides nothing

    def _take(self) -> Iterator[DetectionEvent]:
        while self._arrived and not self.wants_stored and not self.is_over:
            event = self._understood(self._arrived.popleft())
            if event is None or self._is_known(event):
                continue
            if self._is_early(event):  # reports are stored before they are told, so what is between can be read
                self._arrived.appendleft(event)
                self.wants_stored, self._looked_before = True, event.sequence
                return
            self._sequence = event.sequence or self._sequence
            self.is_over = self.task_id is not None and event.media_status is not MediaStatus.AI_PROCESSING
            yield event

    def _understood(self, arrived: SseEvent | DetectionEvent) -> DetectionEvent | None:
        match arrived:
            case DetectionEvent():
                return arrived
            case SseEvent(name="gap"):
                self.wants_stored = self.task_id is not None
                self._sequence = self._sequence or 0  # rather twice than never
                if not self.wants_stored and self._on_gap is not None:
                    self._on_gap()
                return None
            case SseEvent(name="message"):
                return _event.decode(arrived.data)
            case _:
                return None  # named events of a later version

    def _is_early(self, event: DetectionEvent) -> bool:
        """Whether reports before this one are missing: it was overtaken on its way, or lost sight of."""
        if self.task_id is None or event.sequence is None or self._sequence is None:
            return False
        return event.sequence > self._sequence + 1 and event.sequence != self._looked_before

    def _is_known(self, event: DetectionEvent) -> bool:
        return self.task_id is not None and event.sequence is not None and event.sequence <= (self._sequence or 0)


def _end(task: Task, reports: list[DetectionEvent]) -> list[DetectionEvent]:
    """The last event of a task that has ended, as the stream said it; empty before."""
    if not task.status.is_end:
        return []
    has_failed = task.error is not None
    ended = DetectionEvent(
        annotations=[],
        media_id=task.media_id or task.task_id,
        media_status=MediaStatus.ERROR if has_failed else MediaStatus.AI_PROCESSED,
        media_percent=task.percent if has_failed else 100,
        task_id=task.task_id,
        sequence=max((report.sequence or 0 for report in reports), default=0) + 1,
        counts=task.counts,
        partial=task.is_partial,
        error=task.error,
    )
    return [ended]
