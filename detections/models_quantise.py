"""`detections models quantise`: a model in eight bits, kept only if it still sees what it saw."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from contracts.failures import Failure, FailureCode
from contracts.media import MediumKind, kind_by_extension
from detections.model_files import find_model

if TYPE_CHECKING:
    from engine.picture import Picture


def quantise(
    file: Annotated[str, typer.Argument(help="An ONNX file, or a name in the models folder.", show_default=False)],
    *,
    calibration: Annotated[
        Path, typer.Option(help="A video, or a folder of pictures, of what the model is to see.", show_default=False)
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The ONNX file to write.", show_default=False)],
    force: Annotated[bool, typer.Option(help="Write it even if it lost its detections.")] = False,
) -> None:
    """Write a model in eight bits, about twice as fast on a CPU with VNNI; refused if it no longer sees what it saw.

    Every other picture calibrates; in the rest both models must see the same.
    """
    from engine.quantising import quantise as write_quantised

    model = find_model(file)
    if not isinstance(model, Path):
        raise typer.BadParameter(f"{model} is on a server; only a file can be rewritten")
    if output.suffix != ".onnx" or not output.absolute().parent.is_dir() or output.absolute() == model.absolute():
        raise typer.BadParameter(f"--output: {output} is to be another .onnx in a folder that exists")
    agreement = write_quantised(model, output.absolute(), pictures_of(calibration), is_forced=force)
    before, after = (path.stat().st_size / 1e6 for path in (model, output))
    typer.echo(f"written   {output} ({after:.1f} MB, before {before:.1f} MB)")
    typer.echo(f"agreement {agreement}{'' if agreement.is_enough else ': not enough, written as forced'}")


def pictures_of(source: Path) -> "list[Picture]":
    """The pictures of a folder, or frames of a video, evenly chosen. Raises `Failure` as those who read them."""
    from engine.quantising import PICTURES_MAX

    if not source.is_dir():
        return list(_frames(source, at_most=PICTURES_MAX))
    paths = sorted(path for path in source.iterdir() if kind_by_extension(path.name) is MediumKind.IMAGE)
    if not paths:
        raise Failure(FailureCode.MEDIUM_MISSING, f"no picture in {source}")
    return [_picture(path) for path in paths[:: -(-len(paths) // PICTURES_MAX)]]


def _picture(path: Path) -> "Picture":
    from engine.images import read_picture

    try:
        return read_picture(path)
    except Failure as failure:  # of many, it says which
        raise Failure(failure.code, f"{path.name}: {failure.detail}") from failure


def _frames(source: Path, *, at_most: int) -> "Iterator[Picture]":
    from detections.video_file import opened_video

    if not source.is_file():
        raise Failure(FailureCode.MEDIUM_MISSING, f"there is no file {source}")

    def every(step: int) -> "Iterator[Picture]":
        with opened_video(source) as video:
            yield from (frame for frame in video.frames() if frame.index % step == 0)

    count = sum(1 for _ in every(1))
    return every(max(1, -(-count // at_most)))
