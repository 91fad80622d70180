"""A store of models without a disk of its own, for tests of the engine room."""

import asyncio
from pathlib import Path

from consumers.models import Found
from contracts.events import ActiveModel
from contracts.failures import Failure, FailureCode
from tests.scripted import write_model


class FakeModels:
    """Finds scripted models in a folder; `failures` says which fail, by file, and `default` is served while none is active."""

    def __init__(self, folder: Path, *, default: str = "default.json") -> None:
        self.folder = folder
        self.default = default
        self.chosen: ActiveModel | None = None
        self.failures: dict[str, Exception] = {}
        self.copied_since: str | None = None
        self.unreadable: Failure | None = None
        self.may_find = asyncio.Event()
        """Cleared: who looks for the default waits, as for a Loader that drips."""
        self.may_find.set()
        self.looks = 0
        self.kept: list[ActiveModel] = []
        self.is_full = False
        self.has_later = False
        """True: what is chosen here was chosen after whatever is kept."""

    def active(self) -> ActiveModel | None:
        self.looks += 1
        if self.unreadable is not None:
            raise self.unreadable
        return self.chosen

    async def find(self, active: ActiveModel | None) -> Found:
        name = active.file if active else self.default
        if name == self.default:
            await self.may_find.wait()
        if name in self.failures:
            raise self.failures[name]
        return Found(source=self.folder / name, copied_since=self.copied_since)

    def keep(self, active: ActiveModel) -> ActiveModel:
        self.kept.append(active)
        if self.is_full:
            raise Failure(FailureCode.ENGINE_UNAVAILABLE, "active.json cannot be kept here: no space")
        if not self.has_later:
            self.chosen = active
        return self.chosen or active

    def close(self) -> None:
        """Nothing is being tried."""

    def add(self, name: str, *, revision: str = "r", previous: ActiveModel | None = None) -> ActiveModel:
        """A model that can be chosen."""
        write_model(self.folder / name)
        return ActiveModel(file=name, revision=revision, previous=previous)
