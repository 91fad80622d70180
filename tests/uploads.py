"""An upload on virtual time: each sleep of the reader lets the next chunk arrive, so no test waits for real."""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from contracts.storage import Extent, ExtentState, pack_extent
from engine.growing_file import MediumFile, Time


class VirtualTime:
    """A clock that only moves when somebody sleeps; `on_sleep` is what happens in the world meanwhile."""

    def __init__(self, on_sleep: Callable[[], None] = lambda: None) -> None:
        self.now_s = 1000.0
        self.sleeps_s: list[float] = []
        self.on_sleep = on_sleep
        self.sleeps_max = 1_000_000

    def passing(self) -> Time:
        return Time(now_s=lambda: self.now_s, sleep=self._sleep)

    def _sleep(self, seconds: float) -> None:
        assert len(self.sleeps_s) < self.sleeps_max, "the reader waits for ever"
        self.now_s += seconds
        self.sleeps_s.append(seconds)
        self.on_sleep()


class Upload:
    """A body and its extent in a folder, written chunk by chunk as the edge does it.

    resume_s: how long its writer may take to come back. chunks: lengths of the pieces, repeated as long as there is content.  tail_bytes: sent before everything else.
    """

    def __init__(
        self,
        folder: Path,
        content: bytes,
        *,
        chunks: Iterable[int] = (1000,),
        tail_bytes: int = 0,
        is_total_known: bool = True,
        resume_s: int = 0,
    ) -> None:
        self.medium = MediumFile(path=folder / "body", extent=folder / "extent")
        self._content = content
        self._pieces = self._cut(tuple(chunks), tail_bytes)
        self._extent = Extent(total_bytes=len(content) if is_total_known else None, resume_s=resume_s)
        self._tail_start = len(content) - tail_bytes
        self.medium.path.write_bytes(b"")
        self._write_extent()

    @property
    def sent_bytes(self) -> int:
        return self._extent.received_bytes

    def step(self) -> None:
        """Send the next chunk; after the last one, seal. Sealed uploads stay as they are."""
        if self._extent.state is not ExtentState.WRITING:
            return
        piece = next(self._pieces, None)
        if piece is None:
            self.seal()
            return
        start, end = piece
        with self.medium.path.open("r+b") as body:
            body.seek(start)
            body.write(self._content[start:end])
        if start >= self._tail_start:
            self._change(tail_bytes=self._extent.tail_bytes + end - start)
        else:
            self._change(head_bytes=end)

    def send_until(self, offset: int) -> None:
        """Send chunks until at least `offset` bytes have arrived."""
        while self.sent_bytes < min(offset, len(self._content)):
            self.step()

    def seal(self) -> None:
        self._change(state=ExtentState.SEALED, total_bytes=len(self._content))

    def abort(self) -> None:
        self._change(state=ExtentState.ABORTED)

    def beat(self) -> None:
        self._change()

    def _change(self, **fields: object) -> None:
        before = {name: getattr(self._extent, name) for name in self._extent.__struct_fields__}
        self._extent = Extent(**{**before, "heartbeat_s": self._extent.heartbeat_s + 1, **fields})  # type: ignore[arg-type]
        self._write_extent()

    def _write_extent(self) -> None:
        assert self.medium.extent is not None
        descriptor = os.open(self.medium.extent, os.O_RDWR | os.O_CREAT)
        os.pwrite(descriptor, pack_extent(self._extent), 0)
        os.close(descriptor)

    def _cut(self, chunks: tuple[int, ...], tail_bytes: int) -> Iterator[tuple[int, int]]:
        """The tail in one piece, since it counts only as a whole; then the rest."""
        end = len(self._content) - tail_bytes
        if tail_bytes:
            yield end, len(self._content)
        start, turn = 0, 0
        while start < end:
            stop = min(start + chunks[turn % len(chunks)], end)
            yield start, stop
            start, turn = stop, turn + 1
