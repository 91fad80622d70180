"""Folders of model files: how they come to lie whole under the names that others look for, and go again."""

import contextlib
import hashlib
import secrets
import shutil
import time
from collections.abc import Generator
from pathlib import Path

from contracts.failures import Failure, FailureCode
from engine.checksums import sha256_of
from engine.plans import is_plan, model_of, record_path
from engine.side_files import side_file_of
from engine.sources import INCOMING, SUFFIXES, file_named

CLASSES = "classes.json"
DIGEST_CHARACTERS = 8
PUT_HERE = "*-" + DIGEST_CHARACTERS * "[0-9a-f]"
"""The folders of models that were put here; others are their owner's."""
LEFTOVER_S = 24 * 3600.0
"""Nobody needs so long for the files of one model: whoever began is gone."""


@contextlib.contextmanager
def staging_in(folder: Path) -> Generator[Path]:
    """A folder for files that nobody may load yet."""
    _forget_leftovers(folder)
    staging = folder / f"{INCOMING}{secrets.token_hex(6)}"
    staging.mkdir(parents=True)
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _forget_leftovers(folder: Path) -> None:
    """Of processes that died while files arrived."""
    for staging in folder.glob(f"{INCOMING}*"):
        with contextlib.suppress(FileNotFoundError):  # its owner is done with it just now
            if time.time() - staging.stat().st_mtime > LEFTOVER_S:
                shutil.rmtree(staging, ignore_errors=True)


@contextlib.contextmanager
def disk_faults_named(name: str) -> Generator[None]:
    """Raises `Failure(engine_unavailable)` for a disk that does not take a file."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise Failure(FailureCode.ENGINE_UNAVAILABLE, f"{name} cannot be kept here: {reason}") from error


def with_suffix(path: Path) -> Path:
    """The file of a model that was named without its extension; where there is none, that of an ONNX file."""
    if path.suffix in SUFFIXES:
        return path
    return file_named(path) or path.with_name(f"{path.name}.onnx")


def files_beside(model: Path) -> list[Path]:
    """What may lie beside a model and belongs to it."""
    classes = model.with_name(CLASSES)
    if is_plan(model):
        return [record_path(model), side_file_of(model_of(model)), classes]
    side = side_file_of(model)
    return [classes] if side == model else [side, classes]


def move_into_place(staging: Path, model: Path) -> None:
    """The staged files become the folder of that model; where it is there already they take the place of their own copies."""
    try:
        staging.rename(model.parent)
    except OSError:  # not empty
        if not model.parent.is_dir():
            raise
        replace_all(staging, model)
        model.parent.touch()


def replace_all(staging: Path, model: Path) -> None:
    """The model last: until then the old one serves, also after a crash."""
    for staged in sorted(staging.iterdir(), key=lambda staged: staged.name == model.name):
        staged.replace(model.with_name(staged.name))


def digest_of_all(folder: Path) -> str:
    """Of the names and contents of all files in a folder, hex; it is the folder's name, shortened."""
    names = sorted(path.name for path in folder.iterdir())
    digest = hashlib.sha256("".join(f"{name} {sha256_of(folder / name)}\n" for name in names).encode())
    return digest.hexdigest()[:DIGEST_CHARACTERS]


def forget_oldest(folder: Path, *, but: set[str], kept_max: int) -> None:
    """Delete the oldest folders of models that were put here; those of the names in `but` stay."""
    put = {path.parent for suffix in SUFFIXES for path in folder.glob(f"{PUT_HERE}/*{suffix}")}
    ages_s: dict[Path, float] = {}
    for each in put:
        with contextlib.suppress(FileNotFoundError):  # somebody else puts a model here
            ages_s[each] = each.stat().st_mtime
    old = sorted((each for each in ages_s if each.name not in but), key=ages_s.__getitem__)
    for each in old[: max(0, len(old) + len(but) - kept_max)]:
        shutil.rmtree(each, ignore_errors=True)
