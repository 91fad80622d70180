"""What there is to tell of one medium, told: every post that is due, in order, confirmed, put off, or buried."""

import asyncio
import random
from collections.abc import Iterator
from datetime import timedelta

import msgspec
import structlog

from contracts.crashpoints import crashpoint
from contracts.failures import Failure, FailureCode
from contracts.posts import WakeUp
from edge.annotations import PutOffError
from edge.clock import Clock, system_clock
from edge.post_sending import PostSender
from edge.posting_line import Delay, Line, Telling, step_of
from edge.posts import Due, Posts, Subject
from edge.settings import EdgeSettings
from edge.turns import Turn

PERMANENT = frozenset((FailureCode.ANNOTATIONS_REFUSED, FailureCode.FORBIDDEN))
"""Answers that trying again does not change; so is a 404 of a medium that the service knows."""
JITTER = 0.2
"""Share by which a delay is longer or shorter, so that what failed together is not tried together."""

_log = structlog.get_logger()


class PosterParts(msgspec.Struct, frozen=True, kw_only=True):
    """What telling is made of."""

    settings: EdgeSettings
    posts: Posts
    sender: PostSender
    edge: str
    """Our name towards other edges."""
    clock: Clock = system_clock


class Teller:
    """Tells of the media whose turn this edge has."""

    def __init__(self, parts: PosterParts) -> None:
        self._parts = parts
        self._settings = parts.settings
        self._posts = parts.posts
        self._sender = parts.sender

    async def tell_all(self, line: Line, turn: Turn[Telling]) -> bool:
        """Tell of each task in turn; True if one has to wait, and with it those behind it. Raises `TurnLostError`."""
        for place in await asyncio.to_thread(line.places):
            subject = await asyncio.to_thread(self._posts.subject, _task_id(place))
            if subject is not None and not await self._tell_of(subject, line, turn):
                return True
            if subject is None or await asyncio.to_thread(self._posts.subject, subject.task_id) is None:
                await asyncio.to_thread(line.leave, place)
        return False

    def has_due(self, line: Line) -> bool:
        """Whether a post of the medium could be made now. Blocks."""
        subjects = (self._posts.subject(_task_id(place)) for place in line.places())
        return any(subject and next(self._posts.due(subject), None) for subject in subjects)

    async def _tell_of(self, subject: Subject, line: Line, turn: Turn[Telling]) -> bool:
        """Make every post that is due; False if one has to wait. Raises `TurnLostError`."""
        while True:
            before, due_posts = subject, self._posts.due(subject)
            while (due := await asyncio.to_thread(_next, due_posts, line, turn)) is not None:
                told = await self._tell(subject, due, line, turn)
                if told is None:
                    return False
                subject = told
            if subject.cursor.is_done and subject.cursor.dead == 0:
                await self._sender.tokens.forget(subject.task_id)
            if subject.cursor.is_done or subject is before:  # else there may be more by now
                return True

    async def _tell(self, subject: Subject, due: Due, line: Line, turn: Turn[Telling]) -> Subject | None:
        """Make one post; None if it has to wait. Raises `TurnLostError`."""
        crashpoint("edge.post.begun")
        failure = await self._sender.make(subject.task_id, due.post)
        crashpoint("edge.post.made")
        await asyncio.to_thread(line.check_ours, turn)  # else whoever goes on may be far ahead: its cursor counts
        if failure is None:
            return await asyncio.to_thread(self._confirm, subject, due, line)
        now, delay = self._parts.clock(), await asyncio.to_thread(line.delay)
        first_failed_at = delay.first_failed_at if delay else now
        is_exhausted = now - first_failed_at > timedelta(seconds=self._settings.post_retry_for_s)
        is_permanent = _is_permanent(failure, subject)
        if is_exhausted or is_permanent:
            await self._sender.bury(subject.task_id, subject.media_id, due.post, failure)
            if is_permanent:  # which is an answer
                await asyncio.to_thread(line.go_on)
            return await asyncio.to_thread(self._posts.give_up, subject, due)
        tries = delay.tries + 1 if delay else 1
        await self._put_off(subject, line, failure, Delay(tries=tries, first_failed_at=first_failed_at, due_at=now))
        return None

    def _confirm(self, subject: Subject, due: Due, line: Line) -> Subject:
        line.go_on()
        moved = self._posts.move(subject, due)
        crashpoint("edge.post.moved")
        return moved

    async def _put_off(self, subject: Subject, line: Line, failure: Failure, delay: Delay) -> None:
        """Try again later; the wake-up for it waits in the broker."""
        delays, asked_s = self._settings.post_delays, failure.asked_s if isinstance(failure, PutOffError) else 0.0
        step = step_of(delays, tries=delay.tries, asked_s=asked_s)
        spread = random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - spreads load, keeps no secret
        delay_s = max(delays[step] * spread, min(asked_s, delays[step]))
        due_at = delay.due_at + timedelta(seconds=delay_s)
        _log.warning(
            "a post is put off", task_id=subject.task_id, code=failure.code, tries=delay.tries, delay_s=delay_s
        )
        await asyncio.to_thread(line.put_off, msgspec.structs.replace(delay, due_at=due_at))
        await asyncio.to_thread(self._posts.note_trouble, subject, failure.record())
        wake = WakeUp(task_id=subject.task_id, attempt=delay.tries)
        await self._sender.outbox.wake_later(wake, step=step, delay_s=delay_s)


def _next(due_posts: Iterator[Due], line: Line, turn: Turn[Telling]) -> Due | None:
    """The next post, None if nothing is due. Raises `TurnLostError`."""
    line.check_ours(turn)
    return next(due_posts, None)


def _is_permanent(failure: Failure, subject: Subject) -> bool:
    return failure.code in PERMANENT or (failure.code is FailureCode.MEDIA_NOT_FOUND and subject.cursor.is_known)


def _task_id(place: str) -> str:
    return place.partition("-")[2]
