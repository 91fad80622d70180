"""How a consumer learns of a choice."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from consumers import follower
from consumers.engine_room import EngineRoom
from consumers.follower import Follower
from contracts.events import ActiveModel, EngineStatus
from contracts.failures import Failure, FailureCode
from engine.batching import Workers
from tests.unit.model_fakes import FakeModels

CORRUPT = Failure(FailureCode.MODEL_CORRUPT, "no model")
AWAY = Failure(FailureCode.ENGINE_UNAVAILABLE, "away")


class Following:
    """A room and its follower, looking without a pause."""

    def __init__(self, folder: Path) -> None:
        self.models = FakeModels(folder)
        self.models.add("default.json")
        self.tries = 0
        self.room = EngineRoom(models=self.models, workers=partial(Workers, count=1))
        self.follower = Follower(self.room, self.models)

    async def looks(self, count: int = 3) -> None:
        """Wait for so many more looks into the store, and what follows from them."""
        until = self.models.looks + count
        async with asyncio.timeout(60):
            while self.models.looks < until:
                await asyncio.sleep(0.001)

    @property
    def serving(self) -> str | None:
        return self.room.model.name if self.room.model else None


@pytest.fixture
async def following(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Following]:
    monkeypatch.setattr(follower, "LOOK_PERIOD_S", 0.001)
    monkeypatch.setattr(follower, "REFRESH_PERIOD_S", 0.05)
    made = Following(tmp_path)
    await made.follower.begin()
    running = asyncio.create_task(made.follower.run())
    yield made
    running.cancel()
    await asyncio.wait((running,))
    made.room.close()


async def test_what_is_active_at_the_start_is_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower, "LOOK_PERIOD_S", 0.001)
    made = Following(tmp_path)
    made.models.chosen = made.models.add("chosen.json")
    await made.follower.begin()
    running = asyncio.create_task(made.follower.run())
    await made.looks()
    running.cancel()

    assert made.room.state.status is EngineStatus.NONE


async def begun_with(following: Following, failure: Failure) -> None:
    """A consumer that begins with a choice that fails, and serves the one before."""
    following.models.chosen = following.models.add("chosen.json", previous=following.models.add("before.json"))
    following.models.failures["chosen.json"] = failure
    await following.follower.begin()
    await following.room.workers()
    assert (following.serving, following.room.state.status) == ("before", EngineStatus.WARNING)


async def test_a_start_whose_choice_failed_of_what_may_pass_serves_it_once_that_has_passed(
    following: Following,
) -> None:
    await begun_with(following, AWAY)
    await following.looks()
    following.models.failures.clear()
    await following.looks()

    assert (following.serving, following.room.state.status) == ("chosen", EngineStatus.ENABLED)


async def test_a_start_whose_choice_is_corrupt_goes_on_with_the_one_before(following: Following) -> None:
    await begun_with(following, CORRUPT)
    await following.looks()
    following.models.failures.clear()
    await following.looks()

    assert following.serving == "before"
    assert following.room.outcome is not None
    assert following.room.outcome.failure is not None


async def test_a_choice_that_was_not_heard_is_found(following: Following) -> None:
    following.models.chosen = following.models.add("other.json")
    await following.looks()

    assert following.serving == "other"


async def test_a_choice_that_was_heard_is_not_undone_by_an_older_one_in_the_store(following: Following) -> None:
    following.follower.hear(following.models.add("heard.json"))
    await following.looks()

    assert following.serving == "heard"


async def test_a_choice_that_was_heard_is_kept_for_the_next_start_once_it_serves(following: Following) -> None:
    following.models.failures["other.json"] = AWAY
    heard = following.models.add("other.json")
    following.follower.hear(heard)
    await following.looks()
    assert following.models.kept == [], "the one before serves at the next start, too"
    following.models.failures.clear()
    await following.looks()

    assert following.models.kept == [heard]


async def test_a_choice_right_after_another_is_not_undone_by_what_was_kept_of_that(following: Following) -> None:
    for name in ("first.json", "second.json", "first.json"):
        heard = following.models.add(name)
        following.follower.hear(heard)
        async with asyncio.timeout(60):
            while heard not in following.models.kept[-1:]:
                await asyncio.sleep(0)

    await following.looks()
    assert following.serving == "first"


async def test_a_choice_that_is_announced_after_a_later_one_gives_way_to_it(following: Following) -> None:
    """Of two commands at the same time: who comes late finds the later one in the store, and all serve the same."""
    following.models.chosen = following.models.add("later.json", revision="2")
    await following.looks()
    following.models.has_later = True
    following.follower.hear(following.models.add("earlier.json", revision="1"))
    await following.looks(5)

    assert following.serving == "later"


async def test_a_choice_that_cannot_be_kept_serves_all_the_same(following: Following) -> None:
    following.models.is_full = True
    following.follower.hear(following.models.add("other.json"))
    await following.looks()

    assert following.serving == "other"


async def test_a_choice_that_was_found_in_the_store_is_not_written_there(following: Following) -> None:
    following.models.chosen = following.models.add("other.json")
    await following.looks()

    assert following.serving == "other"
    assert following.models.kept == []


async def test_a_choice_heard_again_is_answered_again(following: Following) -> None:
    active = following.models.add("other.json", revision="r1")
    following.models.chosen = active
    await following.follower.begin()
    following.follower.hear(active)
    await following.looks()

    assert following.room.outcome is not None
    assert following.room.outcome.revision == "r1"


async def test_no_choice_any_more_is_the_default_again(following: Following) -> None:
    following.follower.hear(following.models.add("other.json"))
    following.models.chosen = following.models.add("other.json")
    await following.looks()
    following.models.chosen = None
    await following.looks()

    assert following.serving == "default"


async def test_what_may_pass_is_tried_until_it_does(following: Following) -> None:
    await following.room.workers()
    following.models.failures["other.json"] = AWAY
    following.models.chosen = following.models.add("other.json")
    await following.looks()
    assert (following.serving, following.room.state.status) == ("default", EngineStatus.WARNING)
    following.models.failures.clear()
    await following.looks()

    assert (following.serving, following.room.state.status) == ("other", EngineStatus.ENABLED)


async def test_what_does_not_pass_is_given_up_at_last(following: Following, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower, "TRIES_MAX", 2)
    await following.room.workers()
    following.models.failures["other.json"] = AWAY
    following.models.chosen = following.models.add("other.json")
    await following.looks(5)
    following.models.failures.clear()
    await following.looks()

    assert following.serving == "default"


async def test_a_corrupt_file_is_tried_once(following: Following) -> None:
    await following.room.workers()
    following.models.failures["other.json"] = CORRUPT
    following.follower.hear(ActiveModel(file="other.json"))
    await following.looks()
    following.models.add("other.json")
    following.models.failures.clear()
    await following.looks()

    assert following.serving == "default"


async def test_a_store_that_cannot_be_read_changes_nothing(following: Following) -> None:
    await following.room.workers()
    following.models.unreadable = Failure(FailureCode.MODEL_MISSING, "active.json is unreadable")
    await following.looks()

    assert following.room.state.status is EngineStatus.ENABLED


async def test_a_loader_that_is_back_is_noticed(following: Following) -> None:
    following.models.copied_since = "the Loader is away"
    await following.room.workers()
    await following.looks()
    assert following.room.state.status is EngineStatus.WARNING
    following.models.copied_since = None
    async with asyncio.timeout(10):
        while following.room.state.status is not EngineStatus.ENABLED:
            await asyncio.sleep(0.01)


async def test_a_choice_is_followed_while_a_loader_is_asked_for_the_model_that_serves(following: Following) -> None:
    following.models.copied_since = "the Loader is away"
    await following.room.workers()
    following.models.may_find.clear()
    await asyncio.sleep(0.1)  # by now it is asked
    following.models.copied_since = None
    following.follower.hear(following.models.add("other.json"))
    async with asyncio.timeout(10):
        while following.serving != "other":
            await asyncio.sleep(0.01)
