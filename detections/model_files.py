"""Where models are found: by path, by name in `MODELS_DIR`, or among the shipped ones."""

import os
from pathlib import Path

from contracts.failures import Failure, FailureCode

DEFAULT_MODEL = "aerial-vehicle"
SHIPPED_MODELS = Path(__file__).resolve().parent.parent / "models"
_SUFFIXES = (".onnx", ".json")


def find_model(name: str) -> Path:
    """The file of a model, given as a path or by name with or without its extension.

    Raises `Failure`: `model_missing` naming the places, `model_not_a_detector` for another kind of file.
    """
    given = Path(name)
    if given.is_file() and given.suffix not in _SUFFIXES:
        raise Failure(FailureCode.MODEL_NOT_A_DETECTOR, f"{name}: a model file ends in {' or '.join(_SUFFIXES)}")
    models_dir = os.environ.get("MODELS_DIR")
    folders = [Path(), *([Path(models_dir)] if models_dir else []), SHIPPED_MODELS]
    for folder in folders:
        for path in (folder / name, *(folder / f"{name}{suffix}" for suffix in _SUFFIXES)):
            if path.is_file() and path.suffix in _SUFFIXES:
                return path
    places = ", ".join("here" if folder == Path() else str(folder) for folder in folders)
    raise Failure(FailureCode.MODEL_MISSING, f"no model {name!r} ({places})")
