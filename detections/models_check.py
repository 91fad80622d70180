"""`detections models check`: what a model file is, before it serves anybody; and where models are found by name."""

import os
from pathlib import Path
from typing import Annotated

import typer

from contracts.failures import Failure, FailureCode

DEFAULT_MODEL = "aerial-vehicle"
SHIPPED_MODELS = Path(__file__).resolve().parent.parent / "models"
_SUFFIXES = ("", ".onnx", ".json")


def register(commands: typer.Typer) -> None:
    """Add `models` and what is below it."""
    models = typer.Typer(help="What the engine can load.", no_args_is_help=True)
    models.command("check")(check)
    commands.add_typer(models, name="models")


def check(
    file: Annotated[str, typer.Argument(help="An ONNX file, or a name in the models folder.", show_default=False)],
    runs: Annotated[int, typer.Option(min=1, max=1000, help="How often it is run for the timing.")] = 20,
) -> None:
    """Say what a model is, what goes in and comes out, how it is read, and how long one run takes; or why it is refused."""


def find_model(name: str) -> Path:
    """The file of a model given as a path, or by name in `MODELS_DIR` or among the shipped ones.

    Raises `Failure`: `model_missing` naming the places.
    """
    folders = [Path(), *([Path(folder)] if (folder := os.environ.get("MODELS_DIR")) else []), SHIPPED_MODELS]
    for folder in folders:
        for suffix in _SUFFIXES:
            path = folder / f"{name}{suffix}"
            if path.is_file() and path.suffix in _SUFFIXES[1:]:
                return path
    places = ", ".join(str(folder) for folder in folders)
    raise Failure(FailureCode.MODEL_MISSING, f"no model {name!r} in {places}")
