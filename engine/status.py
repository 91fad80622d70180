"""Where the engine of a consumer stands: a table of transitions, and the one object that holds the current state."""

import threading
from collections.abc import Callable, Mapping
from enum import Enum

import msgspec

from contracts.events import EngineStatus


class Step(Enum):
    """What happens to an engine."""

    LOAD_STARTED = "load started"
    LOADED = "loaded"
    LOADED_WITH_WARNING = "loaded with a warning"
    LOAD_FAILED = "load failed"
    CONVERSION_STARTED = "conversion started"
    CONVERSION_GOES_ON = "conversion goes on"
    CONVERTED = "converted"
    CONVERSION_FAILED = "conversion failed"
    UPLOADED = "uploaded"
    UPLOAD_FAILED = "upload failed"
    RECOVERED = "recovered"
    LOST = "lost"
    UNLOADED = "unloaded"


_SERVING = (EngineStatus.ENABLED, EngineStatus.WARNING, EngineStatus.CONVERTING, EngineStatus.UPLOADING)

TRANSITIONS: Mapping[tuple[EngineStatus, Step], EngineStatus] = {
    # A model comes: lazily, with the first command; after a failure the next command tries again.
    (EngineStatus.NONE, Step.LOAD_STARTED): EngineStatus.DOWNLOADING,
    (EngineStatus.ERROR, Step.LOAD_STARTED): EngineStatus.DOWNLOADING,
    (EngineStatus.DOWNLOADING, Step.LOADED): EngineStatus.ENABLED,
    (EngineStatus.DOWNLOADING, Step.LOADED_WITH_WARNING): EngineStatus.WARNING,
    (EngineStatus.DOWNLOADING, Step.LOAD_FAILED): EngineStatus.ERROR,
    # A faster engine is built behind the one that serves; whatever becomes of it, that one goes on.
    (EngineStatus.ENABLED, Step.CONVERSION_STARTED): EngineStatus.CONVERTING,
    (EngineStatus.WARNING, Step.CONVERSION_STARTED): EngineStatus.CONVERTING,
    # Meanwhile another model may have failed to take its place, which is a warning, and may have been given up.
    **{(status, Step.CONVERSION_GOES_ON): EngineStatus.CONVERTING for status in _SERVING},
    **{(status, Step.CONVERTED): EngineStatus.UPLOADING for status in _SERVING},
    **{(status, Step.CONVERSION_FAILED): EngineStatus.WARNING for status in _SERVING},
    **{(status, Step.UPLOADED): EngineStatus.ENABLED for status in _SERVING},
    **{(status, Step.UPLOAD_FAILED): EngineStatus.WARNING for status in _SERVING},
    # Another model is loaded beside the one that serves and takes its place, or leaves it.
    **{(status, Step.LOADED): EngineStatus.ENABLED for status in (*_SERVING, EngineStatus.ERROR)},
    **{(status, Step.LOADED_WITH_WARNING): EngineStatus.WARNING for status in (*_SERVING, EngineStatus.ERROR)},
    **{(status, Step.LOAD_FAILED): EngineStatus.WARNING for status in _SERVING},
    (EngineStatus.ERROR, Step.LOAD_FAILED): EngineStatus.ERROR,
    # What serves can get better, or be gone.
    (EngineStatus.WARNING, Step.RECOVERED): EngineStatus.ENABLED,
    (EngineStatus.ERROR, Step.RECOVERED): EngineStatus.ENABLED,
    **{(status, Step.LOST): EngineStatus.ERROR for status in _SERVING},
    **{(status, Step.UNLOADED): EngineStatus.NONE for status in (*_SERVING, EngineStatus.ERROR)},
}
"""Every step that can happen in a status, and where it leads; any other is a fault of the program."""


class IllegalStepError(Exception):
    """A step that cannot happen in the current status; the message names both."""


class EngineState(msgspec.Struct, frozen=True, kw_only=True):
    """A status and why it is so; the reason is None where there is nothing to say."""

    status: EngineStatus = EngineStatus.NONE
    reason: str | None = None

    @property
    def is_serving(self) -> bool:
        """True while commands can be worked on."""
        return self.status in _SERVING

    def after(self, step: Step, reason: str | None = None) -> "EngineState":
        """The state that the step leads to. Raises `IllegalStepError`."""
        following = TRANSITIONS.get((self.status, step))
        if following is None:
            raise IllegalStepError(f"{step.value} while {self.status.api_name}")
        return EngineState(status=following, reason=reason)


class StatusBoard:
    """Holds the current state of one engine and tells every change. Thread-safe."""

    def __init__(self, tell: Callable[[EngineState], None] | None = None) -> None:
        """tell: called after each change, in the thread that made it and in the order of the changes; must not block."""
        self._tell = tell
        self._changing = threading.Lock()
        self._state = EngineState()

    @property
    def state(self) -> EngineState:
        return self._state

    def step(self, step: Step, reason: str | None = None) -> EngineState:
        """The new state, after everybody was told. Raises `IllegalStepError`, and then nothing has changed."""
        with self._changing:
            self._state = self._state.after(step, reason)
            if self._tell is not None:
                self._tell(self._state)
            return self._state
