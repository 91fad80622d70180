"""Server-sent events from bytes, however they were cut (WHATWG HTML, 9.2.6): no socket, no clock.

A library is not needed for it: what is particular here, that an id counts only once its event is whole (a reconnect must
ask for the event that a broken connection cut in half), is exactly what a client cannot delegate.
"""

import codecs
import re

import msgspec

EVENT_CHARACTERS_MAX = 8_000_000
"""Of one event or line; beyond it the stream is refused: 300 detections are about 60,000."""
RETRY_MS_MAX = 30_000
_LINE_END = re.compile(r"\r\n|\n|\r")


class MalformedStreamError(ValueError):
    """The stream has an event that is longer than allowed."""


class SseEvent(msgspec.Struct, frozen=True):
    """One dispatched event."""

    data: str
    name: str
    """`message` if the stream names none."""
    last_event_id: str


class SseParser:
    """Bytes in, events out. `last_event_id` is that of the last whole event, also of one without data."""

    def __init__(self, *, last_event_id: str = "", characters_max: int = EVENT_CHARACTERS_MAX) -> None:
        self._characters_max = characters_max
        self.last_event_id = last_event_id
        self.retry_ms: int | None = None
        """What the server asked for, at most `RETRY_MS_MAX`."""
        self._decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
        self._is_first_text = True
        self._ends_with_cr = False
        self._unfinished_line = ""
        self._data: list[str] = []
        self._data_characters = 0
        self._name = ""
        self._id = last_event_id

    def feed(self, chunk: bytes) -> list[SseEvent]:
        """The events that `chunk` completes. Raises `MalformedStreamError`."""
        text = self._without_mark(self._decode(chunk))
        if not text:
            return []
        if self._ends_with_cr and text[0] == "\n":
            text = text[1:]  # the second half of a line end that the last chunk was cut in
            self._ends_with_cr = False
        if text:
            self._ends_with_cr = text[-1] == "\r"
        *lines, self._unfinished_line = _LINE_END.split(self._unfinished_line + text)
        self._bounded(len(self._unfinished_line))
        return [event for line in lines if (event := self._take(line)) is not None]

    def _without_mark(self, text: str) -> str:
        if not self._is_first_text or not text:
            return text
        self._is_first_text = False
        return text.removeprefix("\ufeff")

    def _take(self, line: str) -> SseEvent | None:
        if not line:
            return self._dispatched()
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match field:
            case "data":
                self._data_characters += len(value) + 1
                self._bounded(self._data_characters)
                self._data.append(value)
            case "event":
                self._name = value
            case "id" if "\0" not in value:
                self._id = value
            case "retry" if value.isascii() and value.isdigit():
                self.retry_ms = min(int(value[:9]), RETRY_MS_MAX)
            case _:
                pass  # a comment (the heartbeat) or a field that is not known
        return None

    def _dispatched(self) -> SseEvent | None:
        self.last_event_id = self._id
        data, name = self._data, self._name
        self._data, self._data_characters, self._name = [], 0, ""
        if not data:
            return None
        return SseEvent("\n".join(data), name or "message", self._id)

    def _bounded(self, characters: int) -> None:
        if characters > self._characters_max:
            raise MalformedStreamError(f"an event of more than {self._characters_max} characters")
