"""`detections models check`: what a model file is, before it serves anybody."""

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from detections import models_use
from detections.model_files import find_model

if TYPE_CHECKING:
    from engine.models import ModelCard
    from engine.runtime import TensorSpec
    from engine.sources import ModelSource

RUNS = 20
_CLASSES_SHOWN_MAX = 12


def register(commands: typer.Typer) -> None:
    """Add `models` and what is below it."""
    models = typer.Typer(help="What the engine can load, and what it serves.", no_args_is_help=True)
    models.command("check")(check)
    models.command("use")(models_use.use)
    commands.add_typer(models, name="models")


def check(
    file: Annotated[
        str,
        typer.Argument(
            help="An ONNX file, a name in the models folder, or an address such as triton+grpc://host:8001/model.",
            show_default=False,
        ),
    ],
    runs: Annotated[int, typer.Option(min=1, max=1000, help="How often it is run for the timing.")] = RUNS,
    threads: Annotated[int, typer.Option(min=1, max=256, help="Threads of one run.")] = 1,
) -> None:
    """Say what a model is, what goes in and out, how it is read and how long one look takes; or why it is refused."""
    from detections.timing import looks_ms  # the engine and its native libraries: not before they are needed
    from engine.loading import load_detector

    model = find_model(file)
    detector = load_detector(model, threads=threads)
    try:
        for line in described(model, detector.model):
            typer.echo(line)
        median_ms = statistics.median(looks_ms(detector, runs=runs))
    finally:
        detector.close()
    counted = f"{threads} thread{'s' if threads > 1 else ''}"
    typer.echo(f"timing    {median_ms:.1f} ms a look, median of {runs}, {counted}; pixels in, boxes out")


def described(model: "ModelSource", card: "ModelCard") -> Iterator[str]:
    """What is known of a model, a line each."""
    if isinstance(model, Path):
        yield f"file      {model} ({model.stat().st_size / 1e6:.1f} MB, sha256 {(card.sha256 or '')[:12]})"
    else:
        yield f"server    {model}"
    yield f"runtime   {card.engine_type}"
    for spec in card.inputs:
        yield f"input     {_tensor(spec)}"
    rule = card.input
    yield (
        f"shown     {rule.width} x {rule.height} px, {rule.resize}, {rule.layout}, {rule.colour} {rule.scale}"
        f"{f', sides a multiple of {rule.multiple}' if rule.multiple > 1 else ''}"
    )
    for spec in card.outputs:
        yield f"output    {_tensor(spec)}"
    yield f"head      {card.head}{f', repeats removed above IoU {card.nms_iou:g}' if card.nms_iou is not None else ''}"
    yield f"classes   {_classes([found.name for found in card.classes.values()], card.class_count)}"
    for warning in card.warnings:
        yield f"warning   {warning}"


def _tensor(spec: "TensorSpec") -> str:
    sides = ", ".join("?" if side is None else str(side) for side in spec.shape)
    return f"{spec.name} {spec.dtype}[{sides}]"


def _classes(names: Sequence[str], count: int | None) -> str:
    shown = ", ".join(names[:_CLASSES_SHOWN_MAX])
    more = ", ..." if len(names) > _CLASSES_SHOWN_MAX else ""
    total = "unknown number" if count is None else str(count)
    return f"{total}: {shown}{more}" if names else f"{total}, without names"
