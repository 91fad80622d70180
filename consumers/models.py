"""What an engine room asks of whoever keeps the models."""

from typing import Protocol

import msgspec

from contracts.events import ActiveModel
from engine.sources import ModelSource


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A model that can be loaded."""

    source: ModelSource
    copied_since: str | None = None
    """Why the Loader did not give it and the copy here is used; None: nothing was wrong."""


class Models(Protocol):
    """Where models come from (`consumers/model_store.py`)."""

    def active(self) -> ActiveModel | None:
        """What was chosen, None for the default. Raises `Failure(model_missing)`."""
        ...

    async def find(self, active: ActiveModel | None) -> Found:
        """Its file, tried. Raises `Failure`."""
        ...

    def keep(self, active: ActiveModel) -> ActiveModel:
        """Write down what was chosen elsewhere; what is chosen here then: that, or a later one. Raises `Failure`."""
        ...

    def close(self) -> None:
        """End what is being tried."""
        ...
