"""Turns at something that one at a time may have, agreed on by any number of edges through the storage. All of it blocks.

A turn is a numbered file that its taker creates exclusively; the next one may be taken only when the last one is over, and
what that means its record says. The highest number always stays, so the numbers of a folder never begin again.
"""

import contextlib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from contracts.storage import create_record, read_record, replace_record
from edge.clock import Clock, system_clock

_Record = TypeVar("_Record", bound=msgspec.Struct)


class Turn(msgspec.Struct, Generic[_Record], frozen=True):
    """One turn and who has, or had, it."""

    number: int
    record: _Record


class Turns(Generic[_Record]):
    """The numbered files of one folder."""

    def __init__(self, folder: Path, record: type[_Record]) -> None:
        self._folder = folder
        self._record = record

    def last(self) -> "Turn[_Record] | None":
        """The turn that was taken last, None if none ever was."""
        while numbers := self._numbers():
            record = read_record(self._path(numbers[-1]), self._record)
            if record is not None:  # else it was removed between our two looks: a later one is there
                return Turn(numbers[-1], record)
        return None

    def take(self, record: _Record, *, after: "Turn[_Record] | None") -> "Turn[_Record] | None":
        """The turn after one that is over; None if somebody else was faster."""
        number = after.number + 1 if after else 1
        if not create_record(self._path(number), record):
            return None
        if self._numbers()[-1] != number:  # ours had been taken, given up and removed before we came
            self._path(number).unlink()
            return None
        for old in self._numbers()[:-1]:
            self._path(old).unlink(missing_ok=True)
        return Turn(number, record)

    def rewrite(self, turn: "Turn[_Record]", record: _Record) -> bool:
        """Say something else of a turn; False if it is not the last one any more."""
        if not self.is_last(turn):
            return False
        replace_record(self._path(turn.number), record)
        return True

    def is_last(self, turn: "Turn[_Record]") -> bool:
        return self._numbers()[-1:] == [turn.number]

    def _numbers(self) -> list[int]:
        with contextlib.suppress(FileNotFoundError):
            return sorted(int(path.name) for path in self._folder.iterdir() if path.name.isdigit())
        return []

    def _path(self, number: int) -> Path:
        return self._folder / str(number)


class OldTurns:
    """Folders of turns that nobody has taken for a long time; for the janitor."""

    def __init__(self, *folders: Path, kept: timedelta, clock: Clock = system_clock) -> None:
        """folders: each holds a folder of turns per medium. kept: how long after its last change."""
        self._folders = folders
        self._kept = kept
        self._clock = clock

    def stale(self) -> Iterator[Path]:
        """The files to remove. A turn that is taken meanwhile has a higher number and stays."""
        before_s = (self._clock() - self._kept).timestamp()
        for folder in (medium for media in self._folders if media.is_dir() for medium in media.iterdir()):
            with contextlib.suppress(OSError):  # somebody came back to it, or nobody can look into it
                files = [path for path in folder.rglob("*") if path.is_file()]
                if all(path.stat().st_mtime < before_s for path in (folder, *files)):
                    yield from files
                if not files and folder.stat().st_mtime < before_s:
                    for empty in (*(path for path in folder.iterdir() if path.is_dir()), folder):
                        empty.rmdir()
