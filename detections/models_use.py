"""`detections models use`: another model for every consumer, without a restart."""

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from detections.choosing import LISTEN_S, WAIT_S, Answer
from detections.exits import EXIT_FAILED
from detections.model_files import find_model

if TYPE_CHECKING:
    from contracts.events import ActiveModel
    from engine.sources import ModelSource

OR_ELSE = "a name in the models folder, or triton+grpc://host:port/model"


def use(
    file: Annotated[str, typer.Argument(help=f"An ONNX file, {OR_ELSE}.", show_default=False)],
    storage: Annotated[
        Path,
        typer.Option(help="Folder of the service; the models lie in MODELS_DIR or below it.", envvar="STORAGE_DIR"),
    ] = Path("storage"),
    amqp_url: Annotated[
        str | None,
        typer.Option(
            help="The broker; else that of `detections up` on the folder.", envvar="AMQP_URL", show_default=False
        ),
    ] = None,
    wait_s: Annotated[float, typer.Option(help="How long consumers are waited for, s.", min=LISTEN_S)] = WAIT_S,
) -> None:
    """Let every consumer serve another model; nothing that is in flight fails.

    The file is tried first, then copied into the models folder with its side files (`<model>.json`, `classes.json`). A
    consumer that can't load it keeps its model; each says what it did.
    """
    from consumers.model_store import store_of
    from consumers.settings import from_environment
    from detections.choosing import announced
    from detections.local import amqp_url_of

    settings = from_environment({**os.environ, "STORAGE_DIR": str(storage)})
    source, store = named(file, models=settings.models), store_of(settings)

    async def choose() -> "ActiveModel":
        active = await asyncio.to_thread(store.put, source)
        await store.share(active)
        return active

    broker = amqp_url or amqp_url_of(storage) or settings.amqp_url
    answers = asyncio.run(announced(choose, activate=store.activate, amqp_url=broker, wait_s=wait_s, tell=_say))
    if not answers:
        typer.echo("no consumer is there; those that start will use it")
    if not all(answer.is_serving for answer in answers):
        raise typer.Exit(EXIT_FAILED)


def named(file: str, *, models: Path) -> "ModelSource":
    """The model that a user names: a path, else a name in that folder, else what is known by that name.

    Raises `Failure` as `find_model`.
    """
    from consumers.model_folder import with_suffix

    inside = with_suffix(models / file)
    return inside if inside.is_file() and not Path(file).is_file() else find_model(file)


def _say(answer: Answer) -> None:
    typer.echo(str(answer))
