"""The recent events, encoded once, for all listeners of this edge: each listener holds a place in it and no copy."""

import msgspec

from contracts.events import AnyEvent, as_seen_by_clients

_SCANNED_MAX = 1_000
"""Events one `take` looks at: a listener whose filter matches few must not hold up the others."""
_HIDDEN_BYTES = 200
"""What an event costs in memory beside its text; it also bounds a ring of hidden ones."""

_JOINED_MAX = 16
"""Joined texts kept until the next event."""

_encoder = msgspec.json.Encoder()


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What a listener asked for; None: everything that is not quiet."""

    task_id: str | None = None
    media_id: str | None = None
    owner: str | None = None
    """Whose events alone the listener may see; None: everybody's (authentication is off)."""

    @property
    def is_everything(self) -> bool:
        return self.task_id is None and self.media_id is None and self.owner is None

    def matches(self, event: "AnyEvent | Encoded") -> bool:
        """Whether a listener with this filter is shown the event; quiet ones only if it asked for their task."""
        if self.owner is not None and self.owner != event.owner:
            return False
        if self.task_id is None:
            return not event.is_quiet and self.media_id in {None, event.media_id}
        return self.task_id == event.task_id and self.media_id in {None, event.media_id}


class Encoded(msgspec.Struct, frozen=True, gc=False):
    """An event as it goes over the wire, and what filters ask."""

    text: bytes
    """A whole server-sent event."""
    task_id: str
    media_id: str
    is_quiet: bool
    owner: str | None = None


BROKER_RECORDS = 1
"""Offsets that the broker takes for a record of its own where a segment of the log begins; a wider jump is a loss."""


class Taken(msgspec.Struct, frozen=True, gc=False):
    """What a listener gets in one send, and the offset it goes on from."""

    text: bytes
    next_offset: int


def encode_event(offset: int, event: AnyEvent) -> Encoded:
    """The event as an unnamed server-sent event whose id is its offset in the log."""
    text = b"id: %d\ndata: %b\n\n" % (offset, _encoder.encode(as_seen_by_clients(event)))
    return Encoded(text, event.task_id, event.media_id, event.is_quiet, event.owner)


class Ring:
    """Events `first` .. `next` - 1 of the log without a hole, bounded by count and by bytes: the oldest go."""

    def __init__(self, *, events_max: int, bytes_max: int) -> None:
        self._events_max = events_max
        self._bytes_max = bytes_max
        self._events: dict[int, Encoded | None] = {}
        self._bytes = 0
        self._joined: dict[int, Taken] = {}
        self.first = 0
        self.next = 0

    @property
    def bytes(self) -> int:
        """Memory the events take, about."""
        return self._bytes

    def restart(self, offset: int) -> None:
        """Forget everything; the next event is the one at `offset`."""
        self._events.clear()
        self._joined.clear()
        self._bytes = 0
        self.first = self.next = offset

    def append(self, offset: int, event: Encoded | None) -> None:
        """Add the event at `next`; None for one that nobody is shown. A loss in the log makes the ring start anew."""
        if not 0 <= offset - self.next <= BROKER_RECORDS:
            self.restart(offset)
        for skipped in range(self.next, offset):
            self._add(skipped, None)
        self._add(offset, event)
        while len(self._events) > self._events_max or self._bytes > self._bytes_max:
            self._bytes -= _size(self._events.pop(self.first))
            self.first += 1

    def _add(self, offset: int, event: Encoded | None) -> None:
        self._events[offset] = event
        self._joined.clear()
        self._bytes += _size(event)
        self.next = offset + 1

    def take(self, offset: int, wanted: Wanted, *, bytes_max: int) -> Taken:
        """The waiting events from `offset` on (which lies in the ring) joined into about `bytes_max`, at least one."""
        if not wanted.is_everything:
            return self._join(offset, wanted, bytes_max)
        taken = self._joined.get(offset)
        if taken is None:  # listeners that keep up all stand at the same place: joined once for all of them
            if len(self._joined) >= _JOINED_MAX:
                self._joined.clear()
            taken = self._joined[offset] = self._join(offset, wanted, bytes_max)
        return taken

    def _join(self, offset: int, wanted: Wanted, bytes_max: int) -> Taken:
        texts: list[bytes] = []
        size = 0
        for here in range(offset, min(self.next, offset + _SCANNED_MAX)):
            event = self._events[here]
            if event is not None and wanted.matches(event):
                if texts and size + len(event.text) > bytes_max:
                    return Taken(b"".join(texts), here)
                texts.append(event.text)
                size += len(event.text)
        return Taken(b"".join(texts), min(self.next, offset + _SCANNED_MAX))


def _size(event: Encoded | None) -> int:
    return _HIDDEN_BYTES + (len(event.text) if event else 0)
