"""A GPU that is lost to a process: CUDA answers every further call with the same error until the process is another one."""

import threading
from collections.abc import Callable

from contracts.failures import Failure, FailureCode


class DeviceLoss:
    """Whether the GPU of a runtime is lost, and who wants to know. Every method may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reason: str | None = None
        self._on_lost: Callable[[str], object] | None = None

    def watch(self, on_lost: Callable[[str], object]) -> None:
        """Be told once why it is lost, in the thread that met it; at once if it is lost already."""
        with self._lock:
            self._on_lost, reason = on_lost, self._reason
        if reason is not None:
            on_lost(reason)

    def failure(self, reason: str) -> Failure:
        """`engine_unavailable`: what was asked is asked again elsewhere. The first time it is told, too."""
        with self._lock:
            is_news, self._reason = self._reason is None, self._reason or reason
            on_lost = self._on_lost
        if is_news and on_lost is not None:
            on_lost(reason)
        return Failure(FailureCode.ENGINE_UNAVAILABLE, f"the GPU is lost to this process: {reason}")
