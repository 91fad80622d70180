"""Where models come from: the models folder, the Loader, or what is shipped; nothing leaves here untried.

The folder holds the files of the contract (`<model>.onnx`, `<model>.json`, `classes.json`), one folder for each model that
`detections models use` put there with its side files (`<model>-<digest>/`, so that no choice overwrites another), and
`active.json`, which names the one that serves.
"""

import asyncio
import contextlib
import secrets
import shutil
from pathlib import Path, PurePosixPath

import msgspec

from consumers.loader import Loader, LoaderLimits, Refused, confined
from consumers.model_folder import (
    digest_of_all,
    disk_faults_named,
    files_beside,
    forget_oldest,
    move_into_place,
    replace_all,
    staging_in,
    with_suffix,
)
from consumers.models import Found
from consumers.settings import ConsumerSettings
from contracts.events import ActiveModel
from contracts.failures import Failure, FailureCode
from contracts.storage import read_record, replace_record
from contracts.whole_files import NO_ROOM
from engine.checksums import sha256_of
from engine.external_data import external_files, external_names
from engine.models import describe
from engine.side_files import SIDE_FILE_BYTES_MAX
from engine.sources import ModelSource, is_address, remote_model
from engine.trial import TrialLimits, Trials

SHIPPED_MODEL = Path(__file__).resolve().parent.parent / "models" / "aerial-vehicle.onnx"
ACTIVE = "active.json"
KEPT_MAX = 8
"""Folders of models that were put here; the oldest go first."""


class ModelStore:
    """The models of one consumer."""

    def __init__(
        self, folder: Path, *, trials: Trials, default: str | None = None, loader: Loader | None = None
    ) -> None:
        """default: a file, a name here or at the Loader, or an address, served while none is active; None: the shipped one."""
        self._folder = folder
        self._trials = trials
        self._default = default
        self.loader = loader
        """None: this folder is all there is."""

    def active(self) -> ActiveModel | None:
        """What was chosen last, None if nothing was. Raises `Failure(model_missing)` if that is unreadable."""
        try:
            return read_record(self._folder / ACTIVE, ActiveModel)
        except (OSError, msgspec.DecodeError) as error:
            raise Failure(FailureCode.MODEL_MISSING, f"{ACTIVE} is unreadable: {error}") from error

    async def find(self, active: ActiveModel | None) -> Found:
        """The file of a model, tried; None is the default.

        Raises `Failure`: `model_missing`, `model_corrupt`, `model_not_a_detector`, `forbidden_path`, and
        `engine_unavailable` if it can only come from a Loader that is away.
        """
        if active is not None:
            return await self._chosen(active)
        if self._default is None:
            return await self._tried(SHIPPED_MODEL)
        if is_address(self._default):
            return self._remote(self._default)
        given = Path(self._default)
        if given.name != self._default or await asyncio.to_thread(given.is_file):  # a path, not a name
            return await self._tried(given)
        return await self._named(self._default, sha256=None)

    def put(self, source: ModelSource) -> ActiveModel:
        """Copy a model with its side files into a folder of its own; it is tried there, and not active yet.

        A server's model stays where it is. Raises `Failure`: `model_corrupt`, `model_not_a_detector`, `model_missing`, and
        `engine_unavailable` if its server is away or the folder does not take it.
        """
        return self._put_file(source) if isinstance(source, Path) else self._put_address(str(source))

    def _put_address(self, address: str) -> ActiveModel:
        describe(self._remote(address).source)
        return ActiveModel(file=address, revision=secrets.token_hex(8), previous=self._current())

    def _put_file(self, path: Path) -> ActiveModel:
        with disk_faults_named(path.name), staging_in(self._folder) as staging:
            staged = staging / confined(path.name)
            try:
                for source in (path, *files_beside(path), *external_files(path)):
                    if source.is_file():
                        shutil.copyfile(source, staging / source.name)
                self._trials.check(staged)
            except OSError as error:
                if error.errno in NO_ROOM:
                    raise
                raise Failure(FailureCode.MODEL_MISSING, f"{path}: {error}") from error
            model = self._folder / f"{path.stem}-{digest_of_all(staging)}" / path.name
            sha256 = sha256_of(staged)
            move_into_place(staging, model)
        current = self._current()
        kept = {model.parent.name, current.file.partition("/")[0] if current else ""}
        forget_oldest(self._folder, but=kept, kept_max=KEPT_MAX)
        return ActiveModel(
            file=f"{model.parent.name}/{path.name}",
            sha256=sha256,
            beside=tuple(beside.name for beside in files_beside(model) if beside.is_file()),
            data=external_names(model),
            revision=secrets.token_hex(8),
            previous=current,
        )

    def activate(self, active: ActiveModel) -> None:
        """From now on every consumer that looks serves this one. Raises `Failure(engine_unavailable)`."""
        with disk_faults_named(ACTIVE):
            replace_record(self._folder / ACTIVE, active)

    def keep(self, active: ActiveModel) -> ActiveModel:
        """Write down a choice that was made in another folder; where a later one was made in this folder, that is returned.

        Raises `Failure`: `engine_unavailable`, and `model_missing` as `active`.
        """
        here = self.active()
        if here is not None and here.previous is not None and here.previous.revision == active.revision:
            return here
        if here != active:
            self.activate(active)
        return active

    async def share(self, active: ActiveModel) -> None:
        """Send what was put here to the Loader, if there is one: consumers with a folder of their own get it there."""
        if self.loader is not None:
            for file in self._files_of(active):
                await self.loader.upload(file)

    def _files_of(self, active: ActiveModel) -> list[Path]:
        """The model, its weights and what lies beside it; nothing of a model that a server has."""
        if is_address(active.file):
            return []
        path = self._folder / active.file
        return [*(path.with_name(name) for name in (*active.beside, *active.data)), path]

    def close(self) -> None:
        """End a trial that runs."""
        self._trials.close()

    def _remote(self, address: str) -> Found:
        """A server's model runs there: nothing is tried here before it is loaded."""
        return Found(source=remote_model(address, folders=[self._folder, SHIPPED_MODEL.parent]))

    async def _chosen(self, active: ActiveModel) -> Found:
        if is_address(active.file):
            return self._remote(active.file)
        parts = PurePosixPath(active.file).parts
        if not parts or ".." in parts or parts[0].startswith("/"):
            raise Failure(FailureCode.FORBIDDEN_PATH, f"{active.file!r} leaves the models folder")
        path = self._folder.joinpath(*parts)
        if len(parts) == 1:
            return await self._named(active.file, sha256=active.sha256)
        if self.loader is None:
            return await self._tried(path, sha256=active.sha256)
        if not await asyncio.to_thread(self._is_here, active, path):
            await self._fetch_chosen(self.loader, active, path)
        return await self._tried(path)  # its checksum has been looked at

    def _is_here(self, active: ActiveModel, path: Path) -> bool:
        """Whether a choice lies here whole."""
        are_there = all(file.is_file() for file in self._files_of(active))
        return are_there and active.sha256 in (None, sha256_of(path))

    async def _fetch_chosen(self, loader: Loader, active: ActiveModel, path: Path) -> None:
        """What was put into a folder of its own elsewhere; the Loader may hold other files by now."""
        with staging_in(self._folder) as staging:
            for name in active.beside:
                await loader.fetch(name, into=staging, bytes_max=SIDE_FILE_BYTES_MAX)
            for name in active.data:
                await loader.fetch(name, into=staging)
            await self._tried(await loader.fetch(path.name, into=staging, sha256=active.sha256))
            if not path.parent.name.endswith(f"-{digest_of_all(staging)}"):
                raise Failure(
                    FailureCode.MODEL_CORRUPT, f"the Loader has other side files of {path.name} than were chosen"
                )
            await asyncio.to_thread(move_into_place, staging, path)

    async def _named(self, name: str, *, sha256: str | None) -> Found:
        """A file of the folder itself, fresh from the Loader if there is one."""
        path = with_suffix(self._folder / confined(name))
        if self.loader is None:
            return await self._tried(path, sha256=sha256)
        try:
            with disk_faults_named(path.name), staging_in(self._folder) as staging:
                await self._fetch_named(self.loader, path.name, into=staging, sha256=sha256)
                await asyncio.to_thread(replace_all, staging, path)
        except Failure as failure:
            if not path.exists():
                raise
            return await self._copy(path, sha256=sha256, since=failure)
        return await self._tried(path)

    async def _copy(self, path: Path, *, sha256: str | None, since: Failure) -> Found:
        """What lies here since the Loader did not give it. A copy that is no good changes nothing about that failure."""
        try:
            copy = await self._tried(path, sha256=sha256)
        except Failure as failure:
            raise Failure(since.code, f"{since.detail}; the copy here does not serve: {failure.detail}") from failure
        return Found(source=copy.source, copied_since=since.detail)

    async def _fetch_named(self, loader: Loader, filename: str, *, into: Path, sha256: str | None) -> None:
        """The model and what belongs beside it, tried."""
        for beside in files_beside(into / filename):
            try:
                await loader.fetch(beside.name, into=into, bytes_max=SIDE_FILE_BYTES_MAX)
            except Refused:  # it does not have one: the one that lies here is used, if any
                with contextlib.suppress(FileNotFoundError):
                    shutil.copyfile(self._folder / beside.name, beside)
        model = await loader.fetch(filename, into=into, sha256=sha256)
        for name in external_names(model):
            await loader.fetch(name, into=into)
        await self._tried(model)

    async def _tried(self, path: Path, *, sha256: str | None = None) -> Found:
        if not await asyncio.to_thread(path.is_file):
            raise Failure(FailureCode.MODEL_MISSING, f"no file {path.name} in {path.parent}")
        if sha256 is not None and sha256 != (digest := await asyncio.to_thread(sha256_of, path)):
            raise Failure(FailureCode.MODEL_CORRUPT, f"{path.name}: sha256 {digest}, expected {sha256}")
        if path == SHIPPED_MODEL:  # known: its side file states its checksum, which is looked at when it is loaded
            return Found(source=path)
        await asyncio.to_thread(self._trials.check, path)
        return Found(source=path)

    def _current(self) -> ActiveModel | None:
        with contextlib.suppress(Failure):
            active = self.active()
            return None if active is None else msgspec.structs.replace(active, previous=None)
        return None


def store_of(settings: ConsumerSettings) -> ModelStore:
    """The store that the settings describe."""
    limits = LoaderLimits(total_s=settings.loader_s, bytes_max=settings.model_bytes_max)
    trial = TrialLimits(memory_bytes=settings.trial_memory_bytes, cpu_s=settings.trial_s, wall_s=settings.trial_s * 1.5)
    return ModelStore(
        settings.models,
        trials=Trials(settings.models / "tried", limits=trial),
        default=settings.model,
        loader=Loader(settings.loader_url, folder=settings.models, limits=limits) if settings.loader_url else None,
    )
