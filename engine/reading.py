"""How a decoder reads the bytes of a medium: what it asks of whoever has them, and the two shapes in which it does."""

from typing import Protocol


class Source(Protocol):
    """The bytes of a medium that may still be growing, as a decoder reads them. Used by one thread."""

    @property
    def total_bytes(self) -> int | None:
        """The length of the whole file, None while only the client knows it."""
        ...

    @property
    def is_complete(self) -> bool:
        """True once every byte has arrived and the writer has said so."""
        ...

    def raise_if_over(self) -> None:
        """Raise why no more bytes come: `StoppedError`, or a `Failure` of the upload. Returns if the file just ended."""
        ...

    def read_at(self, offset: int, count: int) -> bytes:
        """At least one byte and at most `count` at `offset`; none at the end, or when `raise_if_over` has a reason."""
        ...

    def read_whole_at(self, offset: int, count: int) -> bytes:
        """`count` bytes at `offset`; fewer only where `read_at` would give none."""
        ...

    def wait_for_total(self) -> int | None:
        """The length of the whole file, waiting until it is known; None when `raise_if_over` has a reason."""
        ...


def read_whole_at(source: Source, offset: int, count: int) -> bytes:
    """`count` bytes at `offset`; fewer only where `read_at` would give none."""
    content = b""
    while len(content) < count:
        part = source.read_at(offset + len(content), count - len(content))
        if not part:
            break
        content += part
    return content


class Progressive:
    """A file that is read once from its start. It has no `seek`: with one, FFmpeg walks to the end before the first frame."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._offset = 0

    def read(self, count: int) -> bytes:
        """Up to `count` bytes, waiting for the first of them; none at the end."""
        content = self._source.read_at(self._offset, count)
        self._offset += len(content)
        return content


class Seekable(Progressive):
    """A file whose index comes last: FFmpeg goes to its end and back, each read waits for its own bytes."""

    def tell(self) -> int:
        return self._offset

    def seek(self, offset: int, whence: int = 0) -> int:
        """The new position; a seek from the end waits until the length is known."""
        match whence:
            case 0:
                self._offset = offset
            case 1:
                self._offset += offset
            case _:
                self._offset = (self._source.wait_for_total() or 0) + offset
        return self._offset
