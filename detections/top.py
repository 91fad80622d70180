"""`detections top`: the service at a glance in a terminal, for those without Grafana."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, RenderableType
from rich.live import Live

from contracts.broker_nodes import without_users
from contracts.storage import read_record
from detections.broker_setup import AMQP_URL_DEFAULT, virtual_host
from detections.exits import EXIT_INTERRUPTED, take_signals_as_ctrl_c

DRAWN_EVERY_S = 0.5
LISTEN_S = 3.0
"""Heartbeats and signs of life come about once a second."""
PIPE_COLUMNS = 160
"""Of a snapshot that goes into a pipe: ids stay whole."""

Draw = Callable[[], RenderableType]


def register(commands: typer.Typer) -> None:
    """Add the command."""
    commands.command("top")(top)


def top(
    storage: Annotated[
        Path, typer.Option(help="Folder of a service that `detections up` runs.", envvar="STORAGE_DIR")
    ] = Path("storage"),
    *,
    amqp_url: Annotated[
        str | None,
        typer.Option(
            help="The broker; else that of `detections up` on the folder.", envvar="AMQP_URL", show_default=False
        ),
    ] = None,
    management_url: Annotated[
        str | None,
        typer.Option(
            help="Its management, `http://user:password@host:15672`; else on the broker's host, as the same user.",
            envvar="MANAGEMENT_URL",
            show_default=False,
        ),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Listen for a moment, print one picture, and end.")] = False,
    listen_s: Annotated[float, typer.Option(help="That moment, s.", min=0.1, max=60.0)] = LISTEN_S,
) -> None:
    """Show queues, consumers, tasks in progress and event rates, live; Ctrl-C ends it. Into a pipe it goes once."""
    from detections.local import RUNNING, RunningStack
    from detections.management import address_of

    running = read_record(storage / RUNNING, RunningStack) if amqp_url is None else None
    if running is not None:
        amqp_url, management_url = running.amqp_url, management_url or running.management_url
    broker = amqp_url or AMQP_URL_DEFAULT
    console = Console()
    show = partial(_show_once, console, listen_s) if once or not console.is_terminal else partial(_show_live, console)
    take_signals_as_ctrl_c()  # also they leave the terminal as it was
    try:
        asyncio.run(_fed(broker, address_of(broker, management_url), show))
    except KeyboardInterrupt:
        raise typer.Exit(EXIT_INTERRUPTED) from None


async def _fed(amqp_url: str, management_url: str, show: Callable[[Draw], Coroutine[Any, Any, None]]) -> None:
    """Show a board while it is fed. Raises `Failure(broker_unavailable)`."""
    from detections.management import Management
    from detections.top_board import Board
    from detections.top_listening import listen
    from detections.top_tables import drawn

    board = Board()
    management = Management(management_url, virtual_host=virtual_host(amqp_url))
    broker = without_users(amqp_url)
    tasks = (
        asyncio.create_task(listen(board, amqp_url, management)),
        asyncio.create_task(show(lambda: drawn(board, broker=broker))),
    )
    try:
        over, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in over:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await management.close()


async def _show_once(console: Console, listen_s: float, draw: Draw) -> None:
    await asyncio.sleep(listen_s)
    if not console.is_terminal:
        console.width = PIPE_COLUMNS
    console.print(draw())


async def _show_live(console: Console, draw: Draw) -> None:
    """Until it is cancelled; then the terminal is as it was."""
    with Live(console=console, screen=True, auto_refresh=False) as screen:
        while True:
            screen.update(draw(), refresh=True)
            await asyncio.sleep(DRAWN_EVERY_S)
