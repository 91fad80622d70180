"""Whose view is next: images first, since somebody waits for them, but a flood of them cannot stop the videos.

A turn is one view, of whatever size its picture is: a video whose frames are looked at in tiles gets as much of the engine
as one whose frames are not, and a small image is not behind all the tiles of a large one.
"""

from collections import deque

from engine.showing import Showing

IMAGES_IN_A_ROW_MAX = 8
"""Views of images before a waiting video has its turn."""


class Turns:
    """Pictures with views that wait. Not thread-safe: its owner has a lock."""

    def __init__(self) -> None:
        self._images: deque[Showing] = deque()
        self._images_in_a_row = 0
        self._streams: dict[str, deque[Showing]] = {}
        """In the order of their turns; a stream that waits for nothing has no entry."""

    def __bool__(self) -> bool:
        return bool(self._images or self._streams)

    def add(self, showing: Showing, *, stream: str | None) -> None:
        """A picture that waits. stream: the video whose frame it is; None: an image."""
        (self._images if stream is None else self._streams.setdefault(stream, deque())).append(showing)

    def first(self) -> Showing | None:
        """Whose turn it is; the same until `pass_on`."""
        if self._is_image_next():
            return self._images[0]
        return next(iter(self._streams.values()))[0] if self._streams else None

    def pass_on(self) -> None:
        """The first has had its turn: it goes to the end if it has more views and is not stopped, else it leaves."""
        if self._is_image_next():
            self._images_in_a_row += 1
            showing = self._images.popleft()
            if _waits_on(showing):
                self._images.append(showing)
            return
        self._images_in_a_row = 0
        stream = next(iter(self._streams))
        waiting = self._streams.pop(stream)
        if not _waits_on(waiting[0]):
            waiting.popleft()
        if waiting:
            self._streams[stream] = waiting

    def forget(self, stream: str) -> list[Showing]:
        """What waited of a video; it waits no more."""
        return list(self._streams.pop(stream, ()))

    def clear(self) -> list[Showing]:
        """Everything that waited; nothing waits now."""
        waiting = [*self._images, *(showing for frames in self._streams.values() for showing in frames)]
        self._images.clear()
        self._streams.clear()
        return waiting

    def _is_image_next(self) -> bool:
        return bool(self._images) and (not self._streams or self._images_in_a_row < IMAGES_IN_A_ROW_MAX)


def _waits_on(showing: Showing) -> bool:
    return showing.has_views and not showing.is_stopped
