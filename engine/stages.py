"""How long the steps of an inference take, told to whoever wants to know; nobody does unless they say so."""

from collections.abc import Callable
from enum import StrEnum


class Stage(StrEnum):
    """A step of an inference."""

    PREPROCESS = "preprocess"
    """A view is scaled, converted and written into its row."""
    INFER = "infer"
    """The model runs on the views of a batch, which may be one."""
    POSTPROCESS = "postprocess"
    """Its outputs become boxes."""
    SHOTS = "shots"
    """The model that finds shots runs on a window of frames, or some."""


Took = Callable[[Stage, float], None]
"""Is told of a step and its seconds, by the thread that took it, so it has to be quick and thread-safe."""


def _nobody(_stage: Stage, _seconds: float) -> None: ...


class Stopwatch:
    """Whoever wants to know."""

    def __init__(self) -> None:
        self.took: Took = _nobody


STOPWATCH = Stopwatch()
"""Of this process: its engines share its cores."""
