"""A file whose rest is not to be had before a test says so."""

import io
import threading

WAIT_S = 60.0


class Gated(io.BytesIO):
    """Reads up to `open_bytes`, and on once `gate` is set."""

    def __init__(self, content: bytes, *, open_bytes: int) -> None:
        super().__init__(content)
        self._open_bytes = open_bytes
        self.gate = threading.Event()

    def read(self, size: int | None = -1) -> bytes:
        """As any file. Raises `AssertionError` if nobody opens the gate."""
        wanted = -1 if size is None else size
        left = self._open_bytes - self.tell()
        if left > 0 and not self.gate.is_set():
            return super().read(left if wanted < 0 else min(wanted, left))
        assert self.gate.wait(WAIT_S)
        return super().read(wanted)
