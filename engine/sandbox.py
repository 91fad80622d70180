"""Videos are decoded in processes that can do nothing else, one for each file.

What reads untrusted bytes natively may crash, hang, ask for all memory, or be taken over. Here that happens to a process
that has the one file open for reading, a line to us and the memory for frames, and the limits of `engine.confinement`. We
hear how it ended and say so as a `Failure` of that one file.
"""

import contextlib
import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.reduction import send_handle
from pathlib import Path

import msgspec
import structlog

from contracts.failures import Failure, FailureCode
from contracts.settings import DecodeIn
from engine.confinement import Confinement, ProcessLimits
from engine.decode import open_video
from engine.frame_arena import new_arena
from engine.growing_file import GrowingFile
from engine.sandbox_messages import FromDecoder, Line
from engine.sandboxed_video import SandboxedVideo
from engine.video import EVERYTHING, OpenVideo, VideoLimits, Wanted

MEMORY_BYTES = 3 << 30
"""Address space of a decoder: Python and the libraries have 0.3 GB of it, the arena 0.25 GB, 17 frames of 8K 10 bit 1.8 GB."""
CPU_S = 60
"""CPU seconds of a decoder from each frame that it hands over, or sign of life, to the next."""
SILENT_S = 30.0
"""A decoder that is waited for and says nothing for so long is ended."""
START_S = 30.0
"""For the process that forks decoders to be there; it takes 0.4 s of CPU time."""
END_S = 5.0
"""For it to end, which it does as soon as the line to it is closed."""
_SOURCE = Path(__file__).resolve().parent.parent
_KEPT_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TZ")
"""Of our environment, which may hold passwords."""

logger = structlog.get_logger(__name__)


class Sandbox:
    """Decodes each video in a process of its own. Thread-safe."""

    def __init__(self, *, memory_bytes: int = MEMORY_BYTES, silent_s: float = SILENT_S) -> None:
        """Start the process that forks decoders; it will be there when the first video comes."""
        self._limits = ProcessLimits(memory_bytes=memory_bytes, cpu_s=CPU_S)
        self._silent_s = silent_s
        self._lock = threading.Lock()
        self._nursery: _Nursery | None = _Nursery()
        self._is_closed = False

    @contextmanager
    def open_video(
        self, source: GrowingFile, *, limits: VideoLimits, wanted: Wanted = EVERYTHING
    ) -> Generator[SandboxedVideo]:
        """The video in `source`, as soon as enough of it has arrived, as `engine.decode.open_video`.

        Raises `Failure`, here and while frames are read, as that does, and `decoder_crashed`, `decoder_hung`.
        """
        arena = new_arena()
        try:
            line = self._born(source.descriptor, arena)
            video = SandboxedVideo(source, Line(line, FromDecoder), arena, wanted=wanted, silent_s=self._silent_s)
            with contextlib.closing(video):
                video.open(limits, self._limits)
                yield video
        finally:
            os.close(arena)

    def confinement(self) -> Confinement:
        """What is in force in each decoder. Raises `Failure(engine_unavailable)` if none can be started."""
        with self._lock:
            return self._living().confinement()

    def close(self) -> None:
        """End every decoder; their videos fail."""
        with self._lock:
            self._is_closed = True
            if self._nursery is not None:
                self._nursery.close()
            self._nursery = None

    def _born(self, file: int, arena: int) -> int:
        """Our end of the line to a new decoder of that file."""
        ours, theirs = multiprocessing.Pipe()
        with ours, theirs, self._lock:
            for _ in range(2):  # it may have been killed since the last file
                nursery = self._living()
                try:
                    nursery.bear(theirs.fileno(), file, arena)
                except OSError:
                    nursery.close()
                    self._nursery = None
                else:
                    line = os.dup(ours.fileno())
                    os.set_blocking(line, False)  # a decoder that does not listen holds up nobody
                    return line
        raise Failure(FailureCode.ENGINE_UNAVAILABLE, "no process to decode in can be started")

    def _living(self) -> "_Nursery":
        if self._is_closed:
            raise Failure(FailureCode.ENGINE_UNAVAILABLE, "closed")
        if self._nursery is None or self._nursery.is_gone:
            self._nursery = _Nursery()
        self._nursery.confinement()
        return self._nursery


class _Nursery:
    """The process that forks decoders, and the line to it."""

    def __init__(self) -> None:
        self._control, theirs = multiprocessing.Pipe()
        self._confinement: Confinement | None = None
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                (sys.executable, "-P", "-m", "engine.sandbox_nursery", str(theirs.fileno())),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,  # Ctrl-C is for us
                env=_environment(),
            )

    @property
    def is_gone(self) -> bool:
        return self._process.poll() is not None

    def confinement(self) -> Confinement:
        """What it says is in force, as soon as it is there."""
        if self._confinement is None:
            self._confinement = _told(self._control)
            _report(self._confinement)
        return self._confinement

    def bear(self, *descriptors: int) -> None:
        """Fork a decoder that has these. Raises `OSError` if it is gone."""
        self._control.send_bytes(b"+")
        for descriptor in descriptors:
            send_handle(self._control, descriptor, self._process.pid)

    def close(self) -> None:
        """End it; with it end its children."""
        self._control.close()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def sandbox_of(decode_in: DecodeIn) -> Sandbox | None:
    """Where videos are decoded; None: in threads of this process, which is all there is elsewhere than on Linux."""
    if decode_in == "thread":
        return None
    if sys.platform != "linux":
        logger.warning("decoders are not confined: they are threads of this process", platform=sys.platform)
        return None
    return Sandbox()


def open_video_in(sandbox: Sandbox | None) -> OpenVideo:
    """How videos are opened there."""
    return open_video if sandbox is None else sandbox.open_video


def _told(control: Connection) -> Confinement:
    try:
        if control.poll(START_S):
            return msgspec.json.decode(control.recv_bytes(), type=Confinement)
    except (EOFError, OSError, msgspec.DecodeError):
        pass
    raise Failure(FailureCode.ENGINE_UNAVAILABLE, "the process that forks decoders did not start")


def _report(confinement: Confinement) -> None:
    say = logger.info if confinement.landlock and confinement.seccomp else logger.warning
    say("decoders are confined", landlock=confinement.landlock, seccomp=confinement.seccomp, memory_bytes=MEMORY_BYTES)


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    return {**kept, "PYTHONPATH": str(_SOURCE), "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
