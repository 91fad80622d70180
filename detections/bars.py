"""Bars on stderr while something runs, and what is written beside them."""

import sys
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

_ERASE_LINE = "\r\x1b[2K"


class Bars:
    """Bars on stderr (only on a terminal), lines that do not disturb them, and results on stdout."""

    def __init__(self, *, auto_refresh: bool) -> None:
        """auto_refresh: by a thread of their own; False: by whoever moves one or writes, so stdout is never mixed with them."""
        self._console = Console(stderr=True)
        self._auto_refresh = auto_refresh
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:>3.0f} %  {task.fields[note]}"),
            TimeElapsedColumn(),
            console=self._console,
            auto_refresh=auto_refresh,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            disable=not self._console.is_terminal,
        )

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def say(self, text: str) -> None:
        """One line on stderr."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def write(self, text: bytes) -> None:
        """Put results on stdout, above the bars where both are on one terminal."""
        if self._console.is_terminal and sys.stdout.isatty():
            self._console.file.write(_ERASE_LINE)
            self._console.file.flush()
        sys.stdout.buffer.write(text)
        sys.stdout.buffer.flush()
        self._bars.refresh()

    def _add(self, name: str) -> TaskID:
        return self._bars.add_task(name, total=100, note="")

    def _move(self, bar: TaskID, percent: float, note: str) -> None:
        self._bars.update(bar, completed=percent, note=note, refresh=not self._auto_refresh)
