"""The tasks of one medium that the Annotations service is still to be told of, and which edge tells. All of it blocks.

One edge at a time, one task after the other: the posts of a medium keep their order. Who tells says so with a heartbeat; one
that falls silent is taken over from.
"""

import contextlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import msgspec

from contracts.storage import Layout, read_record, replace_record
from edge.clock import Clock
from edge.turns import Turn, Turns


class TurnLostError(Exception):
    """Another edge tells of the medium now."""


class Telling(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`posting/<media id>/<n>`: the edge that tells of the medium; over when released or silent."""

    edge: str
    heartbeat_at: datetime
    is_released: bool = False


class Delay(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`posting/<media id>/delay.json`: the next post has failed so often, and is tried again at `due_at`."""

    tries: int
    first_failed_at: datetime
    due_at: datetime


def step_of(delays: Sequence[float], *, tries: int, asked_s: float = 0.0) -> int:
    """Which of the delays, in seconds, is due after so many tries: a longer one where the service asked for that."""
    own = min(tries, len(delays)) - 1
    return next((step for step in range(own, len(delays)) if delays[step] >= asked_s), len(delays) - 1)


class Backlog(msgspec.Struct, frozen=True, kw_only=True):
    """What the service has not been told yet, of all media."""

    tasks: int
    failing_s: float
    """Since the first try of the post that has been failing for longest; 0 while none fails."""


def backlog_in(posting: Path, *, now: datetime) -> Backlog:
    """What lies in the lines of all media; of one whose delay cannot be read nothing is known of that."""
    places = list(posting.glob("*/waiting/*"))
    delays = (_delay(line) for line in {place.parent.parent for place in places})
    failing_s = ((now - delay.first_failed_at).total_seconds() for delay in delays if delay is not None)
    return Backlog(tasks=len(places), failing_s=max(failing_s, default=0.0))


def _delay(line: Path) -> Delay | None:
    with contextlib.suppress(msgspec.DecodeError):
        return read_record(line / "delay.json", Delay)
    return None


class Line:
    """The folder of one medium."""

    def __init__(self, layout: Layout, media_id: str, *, edge: str, stale_after: timedelta, clock: Clock) -> None:
        self.media_id = media_id
        self._folder = layout.posting / media_id
        self._turns = Turns(self._folder, Telling)
        self._edge = edge
        self._stale_after = stale_after
        self._clock = clock

    def enlist(self, place: str) -> None:
        """Wait in the line, at one's own place: `Subject.place`."""
        path = self._waiting / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    def leave(self, place: str) -> None:
        """Whose trouble it was goes with the last one: who comes later has all of their tries."""
        (self._waiting / place).unlink(missing_ok=True)
        if not any(self._waiting.iterdir()):
            self.go_on()

    def places(self) -> list[str]:
        """Everybody's place, the first to be told of first."""
        return sorted(path.name for path in self._waiting.iterdir())

    def claim(self) -> Turn[Telling] | None:
        """The turn to tell, None while another edge has it."""
        last = self._turns.last()
        if last is not None and not self._is_over(last.record):
            return None
        return self._turns.take(Telling(edge=self._edge, heartbeat_at=self._clock()), after=last)

    def renew(self, turn: Turn[Telling]) -> bool:
        """Say that we still tell; False if somebody took over."""
        return self._turns.rewrite(turn, Telling(edge=self._edge, heartbeat_at=self._clock()))

    def check_ours(self, turn: Turn[Telling]) -> None:
        """Raises `TurnLostError` if somebody took over."""
        if not self._turns.is_last(turn):
            raise TurnLostError(self.media_id)

    def release(self, turn: Turn[Telling]) -> None:
        self._turns.rewrite(turn, Telling(edge=self._edge, heartbeat_at=self._clock(), is_released=True))

    def delay(self) -> Delay | None:
        """None while nothing is wrong."""
        return read_record(self._folder / "delay.json", Delay)

    def put_off(self, delay: Delay) -> None:
        replace_record(self._folder / "delay.json", delay)

    def go_on(self) -> None:
        """The service has answered: nothing is wrong any more."""
        (self._folder / "delay.json").unlink(missing_ok=True)

    @property
    def _waiting(self) -> Path:
        return self._folder / "waiting"

    def _is_over(self, telling: Telling) -> bool:
        """Also with a heartbeat that is still to come: a clock was put back."""
        return telling.is_released or abs(self._clock() - telling.heartbeat_at) > self._stale_after
