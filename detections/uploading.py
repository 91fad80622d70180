"""One upload: which bytes go in which order, how fast, and what its headers say. The client only sends what this reads."""

import contextlib
import errno
import os
import stat
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Self
from urllib.parse import quote

import msgspec

from contracts.options import DetectionOptions
from detections.boxes import tail_bytes

CHUNK_BYTES_MAX = 256 * 1024
_CHUNK_BYTES_MIN = 1024
_CHUNKS_PER_S = 50
"""Of a throttled upload: small enough steps that it looks like a slow line."""

_REST = {"Upload-Complete": "?1", "Upload-Draft-Interop-Version": "8"}
"""This request ends the upload, which another one may go on with (draft-ietf-httpbis-resumable-upload)."""

_LINE_ENDS = {ord("\n"): " ", ord("\r"): " "}
"""JSON has them only between its values; a header can't have them."""

Config = DetectionOptions | dict[str, object] | str
"""The configuration of a task: a struct, the fields of CONTRACT section 2, or their JSON text."""


class UploadStoppedError(Exception):
    """The upload was broken off on purpose."""


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How much of an upload has left the client."""

    sent_bytes: int
    total_bytes: int | None
    """None for a source of unknown length."""


OnProgress = Callable[[Progress], None]


class Upload:
    """A file on its way. As a context manager it closes what it opened itself."""

    def __init__(
        self,
        file: Path | str | BinaryIO,
        *,
        name: str | None = None,
        task_id: str | None = None,
        config: Config | None = None,
        bytes_per_s_max: float | None = None,
        is_for_shots: bool = False,
    ) -> None:
        """A path is sent with its length and, where its boxes ask for it, tail first; an open file is sent as it is read.

        is_for_shots: its shots are looked for and not its objects.
        Raises `OSError` if the path cannot be read, `ValueError` if an open file comes without a name.
        """
        self._closing = contextlib.ExitStack()
        self.task_id = task_id or str(uuid.uuid4())
        self.is_for_shots = is_for_shots
        self.sent_bytes = 0
        """Of the body, in the order in which it is sent; after a broken connection what the edge has of it."""
        self.has_begun = False
        """Whether somebody has ever been there to take it, also if the edge has nothing of it."""
        self.total_bytes: int | None = None
        self.tail_bytes: int | None = None
        self._config = config
        self._bytes_per_s_max = bytes_per_s_max
        self._started_s: float | None = None
        self._started_bytes = 0
        self._stopped = threading.Event()
        if isinstance(file, (str, Path)):
            self.name = sendable_name(name or Path(file).name)
            check_regular(Path(file))
            self._file = self._closing.enter_context(Path(file).open("rb"))  # noqa: SIM115 - it is entered right here
            self.tail_bytes = tail_bytes(self._file)
            self.total_bytes = self._file.seek(0, os.SEEK_END)
            self._begin_bytes = 0
        else:
            if name is None:
                raise ValueError("an open file needs a name: its extension says what it is")
            self.name = sendable_name(name)
            self._file = file
            self._begin_bytes = file.tell() if file.seekable() else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    @property
    def progress(self) -> Progress:
        return Progress(sent_bytes=self.sent_bytes, total_bytes=self.total_bytes)

    @property
    def is_resumable(self) -> bool:
        """Whether its bytes can be sent a second time, which a broken connection may need."""
        return self._begin_bytes is not None

    def headers(self) -> dict[str, str]:
        """What goes before the body (CONTRACT 1, `POST /detect/video`)."""
        headers = {
            "Content-Type": "application/octet-stream",
            "X-Filename": quote(self.name),
            "X-Task-Id": self.task_id,
        }
        if self._config is not None:
            headers["X-Config"] = config_text(self._config).translate(_LINE_ENDS).strip()
        if self.total_bytes is not None:
            headers["Content-Length"] = str(self.total_bytes)
        if self.tail_bytes is not None:
            headers["X-Tail-Bytes"] = str(self.tail_bytes)
        return headers | (_REST if self.is_resumable else {})

    def append_headers(self) -> dict[str, str]:
        """What goes before the rest of the body, from `sent_bytes` on."""
        headers = {"Content-Type": "application/partial-upload", "Upload-Offset": str(self.sent_bytes)}
        if self.total_bytes is not None:
            headers["Content-Length"] = str(self.total_bytes - self.sent_bytes)
        return headers | _REST

    def go_on_at(self, offset_bytes: int) -> None:
        """Send from there on: so much of the body has the edge. Raises `OSError` if it has more than the file."""
        if self.total_bytes is not None and offset_bytes > self.total_bytes:
            raise OSError(f"the edge has {offset_bytes} bytes of {self.name}, which has {self.total_bytes}")
        self.sent_bytes = self._started_bytes = offset_bytes
        self._started_s = None

    def chunks(self) -> Iterator[bytes]:
        """The body from `sent_bytes` on, in the order in which it is sent. Raises `OSError` if the file got shorter."""
        if self.total_bytes is None:
            if self._begin_bytes is not None:
                self._file.seek(self._begin_bytes + self.sent_bytes)
            yield from iter(lambda: self._file.read(self._chunk_bytes), b"")
            return
        tail_bytes = self.tail_bytes or 0
        sent_bytes, head_bytes = self.sent_bytes, self.total_bytes - tail_bytes
        yield from self._span(head_bytes + min(sent_bytes, tail_bytes), self.total_bytes)
        yield from self._span(max(0, sent_bytes - tail_bytes), head_bytes)

    def wait_s(self) -> float:
        """How long the next chunk waits, so that no more than the allowed bytes a second leave."""
        now_s = time.monotonic()
        if self._started_s is None:
            self._started_s = now_s
        if self._bytes_per_s_max is None:
            return 0.0
        sent_bytes = self.sent_bytes - self._started_bytes
        return max(0.0, self._started_s + sent_bytes / self._bytes_per_s_max - now_s)

    def wait(self) -> None:
        """Wait until the next chunk may go. Raises `UploadStoppedError` once `stop` was called."""
        self.pause(self.wait_s())

    def pause(self, seconds: float) -> None:
        """Wait. Raises `UploadStoppedError` once `stop` was called."""
        if self._stopped.wait(seconds):
            raise UploadStoppedError(self.name)

    def stop(self) -> None:
        """Send no more; called from another thread."""
        self._stopped.set()

    def count(self, chunk: bytes, on_progress: OnProgress | None) -> None:
        """The transport has taken `chunk`."""
        self.sent_bytes += len(chunk)
        if on_progress is not None:
            on_progress(self.progress)

    @property
    def _chunk_bytes(self) -> int:
        if self._bytes_per_s_max is None:
            return CHUNK_BYTES_MAX
        return int(min(CHUNK_BYTES_MAX, max(_CHUNK_BYTES_MIN, self._bytes_per_s_max / _CHUNKS_PER_S)))

    def _span(self, start_bytes: int, end_bytes: int) -> Iterator[bytes]:
        self._file.seek(start_bytes)
        remaining_bytes = end_bytes - start_bytes
        while remaining_bytes:
            chunk = self._file.read(min(self._chunk_bytes, remaining_bytes))
            if not chunk:
                raise OSError(f"{self.name} got shorter while it was sent")
            remaining_bytes -= len(chunk)
            yield chunk


def check_regular(file: Path) -> None:
    """Raises `OSError` for what is no file: a pipe waits for a writer when it is opened, and has no size."""
    if not stat.S_ISREG(file.stat().st_mode):
        raise OSError(errno.EINVAL, "Not a regular file", str(file))


def sendable_name(name: str) -> str:
    """The name as Unicode has it: what of a file's name is no UTF-8 becomes question marks."""
    return name.encode(errors="replace").decode()


def config_text(config: Config) -> str:
    """JSON of a configuration; of a struct only what differs from the defaults, for a user's own settings lie between."""
    if isinstance(config, str):
        return config
    if isinstance(config, DetectionOptions):
        config = {
            name: value
            for name, value in msgspec.structs.asdict(config).items()
            if value != getattr(DetectionOptions(), name)
        }
    return msgspec.json.encode(config).decode()
