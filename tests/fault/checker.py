"""What a run with faults must not have done, as a pure function of what was seen: lost, duplicated, unordered, stuck.

What an at-least-once system may do is left out first: an event that is published again with the same number and the same
content, and what an older taker still says, which every reader ignores.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TypeVar

import msgspec

from contracts.events import AnyEvent, FrameDetected, TaskEnded

_Value = TypeVar("_Value", int, tuple[int, int])


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """A client was told yes (a 2xx, or the broker's confirm)."""

    task_id: str
    reports: int | None = None
    """Reports that an undisturbed run makes; None: whatever its end says."""
    shots: tuple[tuple[int, int], ...] | None = None
    """First and last frame of each shot that an undisturbed run finds, in order; None: nobody looks for any."""
    posts: tuple[str, ...] = ()
    """Keys of the posts that the Annotations service must get, in order."""


class Posted(msgspec.Struct, frozen=True, kw_only=True):
    """One post as the Annotations service received it."""

    task_id: str
    key: str
    body: bytes = b""


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """All that a run left behind."""

    accepted: Sequence[Accepted]
    events: Sequence[AnyEvent]
    """In the order of the log."""
    posts: Sequence[Posted] = ()
    """In the order in which they arrived."""
    dead_letters: Sequence[str] = ()
    """Task ids: such a task needs no end, an operator sees it."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """One line for each fault found."""

    lost: tuple[str, ...] = ()
    duplicated: tuple[str, ...] = ()
    unordered: tuple[str, ...] = ()
    stuck: tuple[str, ...] = ()

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.duplicated or self.unordered or self.stuck)


def check(seen: Seen) -> Verdict:
    """What is wrong with a run. Tasks that nobody was promised are looked at too, but need no end."""
    events: dict[str, list[AnyEvent]] = defaultdict(list)
    for event in seen.events:
        events[event.task_id].append(event)
    posts: dict[str, list[Posted]] = defaultdict(list)
    for post in seen.posts:
        posts[post.task_id].append(post)
    accepted = {promise.task_id: promise for promise in seen.accepted}
    dead = frozenset(seen.dead_letters)
    return Verdict(
        lost=tuple(_lost(accepted, events, posts)),
        duplicated=tuple(_duplicated(events, posts)),
        unordered=tuple(_unordered(accepted, events, posts)),
        stuck=tuple(f"{task}: no end" for task in accepted if not _ends(events[task]) and task not in dead),
    )


def shown(events: Iterable[AnyEvent]) -> list[FrameDetected]:
    """The reports of one task that a reader keeps who ignores older takers, and numbers that are not news."""
    kept: list[FrameDetected] = []
    epoch = 0
    for event in events:
        if event.epoch >= epoch:
            epoch = event.epoch
            if isinstance(event, FrameDetected) and (not kept or event.sequence > kept[-1].sequence):
                kept.append(event)
    return kept


def shots_shown(events: Iterable[AnyEvent]) -> list[tuple[int, int]]:
    """First and last frame of each shot that such a reader is told of."""
    return [(shot.start_frame, shot.end_frame) for report in shown(events) for shot in report.shots]


def _lost(
    accepted: Mapping[str, Accepted], events: Mapping[str, list[AnyEvent]], posts: Mapping[str, list[Posted]]
) -> Iterator[str]:
    for task, said in events.items():
        end = next(iter(_ends(said)), None)
        if end is not None:
            numbers = {report.sequence for report in shown(said)}
            yield from (f"{task}: report {n}" for n in range(1, end.sequence) if n not in numbers)
    for task, promise in accepted.items():
        end = next(iter(_ends(events.get(task, []))), None)
        if end is not None and promise.reports is not None and end.sequence - 1 < promise.reports:
            yield f"{task}: {promise.reports - end.sequence + 1} of {promise.reports} reports"
        if end is not None and promise.shots is not None:
            told = shots_shown(events.get(task, []))
            yield from (f"{task}: shot {first}..{last}" for first, last in promise.shots if (first, last) not in told)
        keys = {post.key for post in posts.get(task, ())}
        yield from (f"{task}: post {key}" for key in promise.posts if key not in keys)


def _duplicated(events: Mapping[str, list[AnyEvent]], posts: Mapping[str, list[Posted]]) -> Iterator[str]:
    """Two different contents under one number, one frame or shot under two numbers, two ends."""
    for task, said in events.items():
        contents: dict[int, set[object]] = defaultdict(set)
        for report in said:
            if isinstance(report, FrameDetected):
                content = (report.annotations, report.shots)
                contents[report.sequence].add((report.frame_index, msgspec.json.encode(content)))
        yield from (f"{task}: report {number} says two things" for number, told in contents.items() if len(told) > 1)
        # the last shots are told with the last frame, which may have been reported before for what it shows
        frames = [report.frame_index for report in shown(said) if report.annotations or not report.shots]
        yield from (f"{task}: frame {frame} twice" for frame in _repeated(frames))
        yield from (f"{task}: shot {first}..{last} twice" for first, last in _repeated(shots_shown(said)))
        if len({(end.sequence, end.failure and end.failure.code) for end in _ends(said)}) > 1:
            yield f"{task}: two ends"
    for task, made in posts.items():
        bodies: dict[str, set[bytes]] = defaultdict(set)
        for post in made:
            bodies[post.key].add(post.body)
        yield from (f"{task}: post {key} says two things" for key, told in bodies.items() if len(told) > 1)


def _unordered(
    accepted: Mapping[str, Accepted], events: Mapping[str, list[AnyEvent]], posts: Mapping[str, list[Posted]]
) -> Iterator[str]:
    for task, said in events.items():
        first_said = list(dict.fromkeys(event.sequence for event in said if isinstance(event, FrameDetected)))
        yield from (f"{task}: report {b} after {a}" for a, b in pairwise(first_said) if b < a)
        frames = [report.frame_index for report in shown(said)]
        yield from (f"{task}: frame {b} after {a}" for a, b in pairwise(frames) if b < a)
        shots = shots_shown(said)
        yield from (f"{task}: shot {b[0]}..{b[1]} after {a[0]}..{a[1]}" for a, b in pairwise(shots) if b[0] <= a[1])
        if end := next(iter(_ends(said)), None):
            before_the_end = {event.sequence for event in said[: said.index(end)] if isinstance(event, FrameDetected)}
            yield from (f"{task}: report {n} after the end" for n in first_said if n not in before_the_end)
    for task, promise in accepted.items():
        first_made = list(dict.fromkeys(post.key for post in posts.get(task, ())))
        known = [promise.posts.index(key) for key in first_made if key in promise.posts]
        yield from (f"{task}: post {promise.posts[b]} too late" for a, b in pairwise(known) if b < a)


def _repeated(values: Sequence[_Value]) -> list[_Value]:
    """What occurs more than once, each once."""
    return sorted({value for value in values if values.count(value) > 1})


def _ends(said: Iterable[AnyEvent]) -> list[TaskEnded]:
    return [event for event in said if isinstance(event, TaskEnded)]
