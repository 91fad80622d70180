"""`detections models check`: what a model file is, before it serves anybody."""

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from detections import models_quantise, models_use
from detections.exits import EXIT_FAILED, take_signals_as_ctrl_c
from detections.model_files import find_model

if TYPE_CHECKING:
    from engine.detector import Detector
    from engine.models import ModelCard
    from engine.preprocess import InputRule
    from engine.runtime import TensorSpec
    from engine.sources import ModelSource

RUNS = 20
_CLASSES_SHOWN_MAX = 12
_SEEN_SHOWN_MAX = 5


def register(commands: typer.Typer) -> None:
    """Add `models` and what is below it."""
    said = "What the engine can load, and what it serves."
    models = typer.Typer(help=said, no_args_is_help=True, callback=take_signals_as_ctrl_c)
    models.command("check")(check)
    models.command("use")(models_use.use)
    models.command("quantise")(models_quantise.quantise)
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
    from contracts.failures import Failure, FailureCode
    from detections.timing import looks_ms  # the engine and its native libraries: not before they are needed
    from engine.detector import Detector
    from engine.models import open_model

    model = find_model(file)
    try:
        detector = Detector(open_model(model, threads=threads, checks_batch=True))
    except Failure as failure:
        if failure.code is not FailureCode.MODEL_NOT_A_DETECTOR:
            raise
        for line in refused(model, failure.detail):
            typer.echo(line, err=True)
        raise typer.Exit(EXIT_FAILED) from None
    try:
        for line in described(model, detector.model):
            typer.echo(line)
        typer.echo(f"sees      {_seen(detector)}")
        median_ms = statistics.median(looks_ms(detector, runs=runs))
    finally:
        detector.close()
    counted = f"{threads} thread{'s' if threads > 1 else ''}"
    typer.echo(f"timing    {median_ms:.1f} ms a look, median of {runs}, {counted}; pixels in, boxes out")


def refused(model: "ModelSource", detail: str) -> Iterator[str]:
    """Why a model is no detector, what was seen of it, and what its user can do, a line each."""
    from engine.refusals import SEPARATOR
    from engine.sources import name_of

    why, *parts = detail.split(SEPARATOR)
    yield f"detections: model_not_a_detector: {why}"
    for part in parts:
        yield f"    {part.replace('<model>.json', f'{name_of(model)}.json')}"
    asked = model.name if isinstance(model, Path) else model
    yield f"then ask again: detections models check {asked} (every head and field: docs/models.md)"


def described(model: "ModelSource", card: "ModelCard") -> Iterator[str]:
    """What is known of a model, a line each."""
    from engine.recognition import MEANINGS

    if isinstance(model, Path):
        yield f"file      {model} ({model.stat().st_size / 1e6:.1f} MB, sha256 {(card.sha256 or '')[:12]})"
    else:
        yield f"server    {model}"
    yield f"runtime   {card.engine_type}"
    for spec in card.inputs:
        yield f"input     {_tensor(spec)}"
    yield f"shown     {_pixels(card.input)}"
    if card.usual:
        said = f"{', '.join(card.usual)}: as usual for this head, the file does not say it"
        yield f"assumed   {said} (if it is otherwise: {card.name}.json, docs/models.md)"
    yield f"batch     {'any number of pictures' if card.batch_max is None else f'{card.batch_max} at most'} in one inference"
    for spec in card.outputs:
        yield f"output    {_tensor(spec)}"
    yield f"head      {card.head}: {MEANINGS[card.head]}"
    if card.nms_iou is not None:
        yield f"repeats   removed above an IoU of {card.nms_iou:g}"
    yield f"classes   {_classes([found.name for found in card.classes.values()], card.class_count)}"
    for warning in card.warnings:
        yield f"warning   {warning}"


def _pixels(rule: "InputRule") -> str:
    """How the model is shown a picture."""
    parts = [
        f"{rule.width} x {rule.height} px, {rule.resize}, {rule.layout}, {rule.colour} {rule.scale}",
        f"mean {rule.mean}, std {rule.std}" if any(rule.mean) or rule.std != (1.0, 1.0, 1.0) else "",
        f"sides a multiple of {rule.multiple}" if rule.multiple > 1 else "",
    ]
    return ", ".join(part for part in parts if part)


def _seen(detector: "Detector") -> str:
    """What the model finds in the picture that every model is tried on."""
    from contracts.options import DetectionOptions
    from engine.known_picture import KnownPicture

    picture = KnownPicture(width=detector.size.width, height=detector.size.height)
    found = detector.detect(picture, DetectionOptions(tiling="off"))[:_SEEN_SHOWN_MAX]
    said = ", ".join(f"{entry.label} {entry.confidence:.2f}" for entry in found)
    return f"{said or 'nothing'} in the drawn picture of a stop sign and a clock"


def _tensor(spec: "TensorSpec") -> str:
    sides = ", ".join("?" if side is None else str(side) for side in spec.shape)
    return f"{spec.name} {spec.dtype}[{sides}]"


def _classes(names: Sequence[str], count: int | None) -> str:
    shown = ", ".join(names[:_CLASSES_SHOWN_MAX])
    more = ", ..." if len(names) > _CLASSES_SHOWN_MAX else ""
    total = "unknown number" if count is None else str(count)
    return (
        f"{total}: {shown}{more}"
        if names
        else f'{total}, without names (the side file may say "classes": [...] or "coco")'
    )
