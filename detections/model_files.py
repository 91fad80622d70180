"""Where models are found: by path, by name in `MODELS_DIR` or among the shipped ones, or at the address of a server."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from contracts.failures import Failure, FailureCode

if TYPE_CHECKING:
    from engine.sources import ModelSource

DEFAULT_MODEL = "aerial-vehicle"
SHIPPED_MODELS = Path(__file__).resolve().parent.parent / "models"


def find_model(name: str) -> "ModelSource":
    """A model, given as a path, by name with or without its extension, or as an address: `triton+grpc://host:8001/name`.

    Raises `Failure`: `model_missing` naming the places, `model_not_a_detector` for another kind of file.
    """
    from engine.sources import is_address, remote_model  # the engine: not before it is needed

    folders = _folders()
    return remote_model(name, folders=folders) if is_address(name) else _file([Path(), *folders], name)


def find_shot_model(name: str | None) -> "ModelSource":
    """A model for shots: the one named, as for `find_model`; None: `transnetv2.onnx` in `MODELS_DIR`, else the shipped one.

    Raises `Failure(model_missing)`.
    """
    if name is not None:
        return find_model(name)
    from engine.shot_model import shot_model_file

    return shot_model_file(_folders())


def _folders() -> list[Path]:
    models_dir = os.environ.get("MODELS_DIR")
    return [*([Path(models_dir)] if models_dir else []), SHIPPED_MODELS]


def _file(folders: list[Path], name: str) -> Path:
    from engine.sources import SUFFIXES, file_named

    given = Path(name)
    if given.is_file() and given.suffix not in SUFFIXES:
        raise Failure(FailureCode.MODEL_NOT_A_DETECTOR, f"{name}: a model file ends in {' or '.join(SUFFIXES)}")
    for folder in folders:
        if (path := file_named(folder / name)) is not None:
            return path
    places = ", ".join("here" if folder == Path() else str(folder) for folder in folders)
    raise Failure(FailureCode.MODEL_MISSING, f"no model {name!r} ({places})")
