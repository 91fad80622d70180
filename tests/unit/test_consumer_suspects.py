"""A picture that is given out again is looked at alone, and at nobody else's cost."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from consumers.attempt import Running
from consumers.leases import STALE_AFTER_S, Held, Leases
from consumers.suspects import Suspects
from contracts.commands import DetectVideo
from contracts.media import Medium, MediumKind
from contracts.storage import Layout

SUSPECT, BESIDE, LATER = (f"0b8b8a2e-0000-4000-8000-00000000000{digit}" for digit in range(3))


def claimed(layout: Layout, task_id: str, *, after_s: float = 0.0) -> Held:
    """By somebody else each time, so much later."""
    at = datetime.now(UTC) + timedelta(seconds=after_s)
    command = DetectVideo(task_id=task_id, medium=Medium(root="storage", path="a", kind=MediumKind.VIDEO))
    claim = Leases(layout, owner=f"after {after_s}", now=lambda: at).claim(command, is_handed_on=after_s > 0)
    assert isinstance(claim, Held)
    return claim


def running(layout: Layout, task_id: str) -> Running:
    task = Running(task_id)
    task.held = claimed(layout, task_id)
    return task


def attempts_that_count(layout: Layout, task_id: str) -> int:
    """As whoever takes the task over sees it, when the consumer has died now."""
    return claimed(layout, task_id, after_s=STALE_AFTER_S + 1).barren_attempts


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path)


@pytest.fixture
def suspects(layout: Layout) -> Suspects:
    return Suspects(Leases(layout, owner="a"))


async def test_those_beside_a_suspect_and_those_that_come_meanwhile_bear_no_blame(
    layout: Layout, suspects: Suspects
) -> None:
    beside, later = running(layout, BESIDE), Running(LATER)
    async with suspects.alone([beside, later]):
        later.held = claimed(layout, LATER)
        await suspects.excuse(later)

        assert [attempts_that_count(layout, task_id) for task_id in (BESIDE, LATER)] == [0, 0]


async def test_when_the_suspect_has_gone_everybody_bears_blame_again(layout: Layout, suspects: Suspects) -> None:
    beside, later = running(layout, BESIDE), running(layout, LATER)
    async with suspects.alone([beside]):
        await suspects.excuse(later)
    await suspects.excuse(running(layout, SUSPECT))

    assert [attempts_that_count(layout, task_id) for task_id in (SUSPECT, BESIDE, LATER)] == [1, 1, 1]


async def test_suspects_are_looked_at_one_after_the_other(suspects: Suspects) -> None:
    steps: list[str] = []

    async def look(name: str) -> None:
        async with suspects.alone([]):
            steps.append(f"{name} begins")
            await asyncio.sleep(0)
            steps.append(f"{name} ends")

    await asyncio.gather(look("one"), look("other"))

    assert steps == ["one begins", "one ends", "other begins", "other ends"]
