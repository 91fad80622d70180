"""An unknown model file is tried in a process of its own before it is loaded here.

An ONNX file of 200 bytes can ask for 32 GB, loop for ever or crash whoever runs it. The process that tries it has limits of
address space and time; ours only hears how it ended. A file that passed is remembered by its checksum, so that the price
(the start of a process and of the native libraries) is paid once.
"""

import contextlib
import hashlib
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from contracts.failures import Failure, FailureCode, FailureRecord
from engine.external_data import digest_of_model
from engine.opening import is_script
from engine.plans import is_plan, read_plan
from engine.side_files import side_file_of

FAILURE_KEPT_S = 60.0
"""A file that failed is not tried again for so long: every command that waits for a model would ask."""
_REASON_CHARACTERS_MAX = 8_000
_ANSWER_BYTES_MAX = 60_000
"""Fewer than a pipe holds, so that the process ends without being read; a reason in JSON needs at most 6 bytes a character."""
_CPU_GRACE_S = 2
"""From the signal that names the reason to the kill."""
_SOURCE = Path(__file__).resolve().parent.parent


class TrialLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What a model may need to be loaded and to look twice; far above what detectors need (0.3 GB and 1 s)."""

    memory_bytes: int = 4 << 30
    """Of address space."""
    cpu_s: int = 60
    wall_s: float = 90.0


class Trials:
    """Tries files, each content once. Thread-safe, one trial at a time."""

    def __init__(self, folder: Path, *, limits: TrialLimits | None = None) -> None:
        """folder: where checksums of files that passed are kept, one empty file each; it may be read-only."""
        self._folder = folder
        self._limits = limits or TrialLimits()
        self._passed: set[str] = set()
        self._failed: dict[str, tuple[float, FailureRecord]] = {}
        self._one_at_a_time = threading.Lock()
        self._starting_or_closing = threading.Lock()
        self._child: Child | None = None
        self._is_closed = False

    def check(self, path: Path) -> None:
        """Return if the model is a detector that can be loaded here. Raises `Failure` as `Child.wait`."""
        if is_script(path):  # a text that no native library reads
            from engine.loading import load_detector

            load_detector(path).close()
            return
        if is_plan(path):  # runs on a GPU, which a trial is without; somebody vouches for its checksum
            read_plan(path)
            return
        with self._one_at_a_time:
            digest = _digest(path)
            if digest in self._passed or (self._folder / digest).exists():
                return
            self._raise_for_recent_failure(digest)
            try:
                self._try(path)
            except Failure as failure:
                self._failed = {digest: (time.monotonic(), failure.record())}
                raise
            self._remember(digest)

    def close(self) -> None:
        """End a trial that runs; it fails."""
        with self._starting_or_closing:  # a child that is being started is seen
            self._is_closed = True
            if self._child is not None:
                self._child.kill()

    def _try(self, path: Path) -> None:
        with self._starting_or_closing:
            if self._is_closed:
                raise Failure(FailureCode.ENGINE_UNAVAILABLE, "closed")
            child = self._child = Child(path, self._limits)
        try:
            child.wait()
        finally:
            self._child = None

    def _raise_for_recent_failure(self, digest: str) -> None:
        failed_s, failure = self._failed.get(digest, (0.0, None))
        if failure is not None and time.monotonic() - failed_s < FAILURE_KEPT_S:
            raise Failure(failure.code, failure.detail)

    def _remember(self, digest: str) -> None:
        self._passed.add(digest)
        with contextlib.suppress(OSError):  # remembered here alone
            self._folder.mkdir(parents=True, exist_ok=True)
            (self._folder / digest).touch()


class Child:
    """The process that tries one file: it loads the model and lets it look at two pictures."""

    def __init__(self, path: Path, limits: TrialLimits, *, command: Sequence[str] | None = None) -> None:
        self._path = path
        self._limits = limits
        self._process = subprocess.Popen(  # noqa: S603 - our own module
            command or (sys.executable, "-P", "-m", "engine.trial", str(path.absolute()), _packed(limits)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={
                **os.environ,
                "PYTHONPATH": str(_SOURCE),
                "OPENBLAS_NUM_THREADS": "1",  # each thread reserves address space
                "CUDA_VISIBLE_DEVICES": "",  # CUDA reserves more of it than any limit
            },
        )

    def kill(self) -> None:
        """End it now."""
        self._process.kill()

    def wait(self) -> None:
        """Return when the model passed.

        Raises `Failure`: what `engine.loading.load_detector` raises there; `model_corrupt` if it needs more than the limits
        or ends that process.
        """
        with self._process as process:
            try:
                status = process.wait(self._limits.wall_s)
            except subprocess.TimeoutExpired:
                process.kill()
                raise self._refused(f"its trial took more than {self._limits.wall_s:g} s") from None
            except BaseException:
                process.kill()
                raise
            answer = b"" if process.stdout is None else process.stdout.read(_ANSWER_BYTES_MAX)
        self._raise_for(status, answer)

    def _raise_for(self, status: int, answer: bytes) -> None:
        if status == -signal.SIGXCPU:
            raise self._refused(f"its trial took more than {self._limits.cpu_s} s of CPU time")
        if status < 0:
            gigabytes = self._limits.memory_bytes / (1 << 30)
            name = signal.Signals(-status).name
            raise self._refused(f"it crashed the process that tried it ({name}), which had {gigabytes:g} GiB of memory")
        try:
            failure = msgspec.json.decode(answer, type=FailureRecord | None)
        except msgspec.DecodeError:
            raise self._refused(f"the process that tried it ended with status {status}") from None
        if failure is not None:
            raise Failure(failure.code, failure.detail)

    def _refused(self, why: str) -> Failure:
        return Failure(FailureCode.MODEL_CORRUPT, f"{self._path.name}: {why}")


def _digest(path: Path) -> str:
    """Of the file, its weights, and what says how it is fed: its side file decides how large its input is.

    Raises `Failure`: `model_missing`, also for weights, `forbidden_path`.
    """
    try:
        digest = hashlib.sha256(digest_of_model(path).encode())
        with contextlib.suppress(FileNotFoundError):
            digest.update(side_file_of(path).read_bytes())
    except OSError as error:
        raise Failure(FailureCode.MODEL_MISSING, f"{path.name}: {error.strerror}") from error
    return digest.hexdigest()


def _packed(limits: TrialLimits) -> str:
    return msgspec.json.encode(limits).decode()


# In the process that tries


def _limit(limits: TrialLimits) -> None:
    """From here on this process is bounded, also if whoever started it is gone."""
    resource.setrlimit(resource.RLIMIT_AS, (limits.memory_bytes, limits.memory_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (limits.cpu_s, limits.cpu_s + _CPU_GRACE_S))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.setitimer(signal.ITIMER_REAL, limits.wall_s)


def _tried(path: Path) -> FailureRecord | None:
    """Why the model cannot be used, None if it can."""
    from engine.loading import load_detector, look_at_noise

    try:
        look_at_noise(load_detector(path, provider="cpu"))  # onnxruntime-gpu raises where it finds CUDA but no GPU
    except Failure as failure:
        return FailureRecord(code=failure.code, detail=failure.detail[:_REASON_CHARACTERS_MAX])
    except MemoryError:
        return FailureRecord(code=FailureCode.MODEL_CORRUPT, detail=f"{path.name}: it needs too much memory")
    return None


def main() -> None:
    """Try the model that the command line names, and say on stdout how it went: null or a failure, JSON."""
    path, packed = sys.argv[1:]
    _limit(msgspec.json.decode(packed, type=TrialLimits))
    sys.stdout.buffer.write(msgspec.json.encode(_tried(Path(path))))


if __name__ == "__main__":
    main()
