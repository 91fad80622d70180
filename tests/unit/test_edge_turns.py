"""One at a time, agreed on through the storage: turns, and the duplicate guard that is made of them."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import msgspec
import pytest

from contracts.commands import DetectVideo
from contracts.failures import Failure, FailureCode, FailureRecord
from contracts.media import Medium, MediumKind
from contracts.storage import Layout
from edge.auth import Caller
from edge.failures import RequestFailed
from edge.guard import UNBORN_FOR, Guard, checked_media_id
from edge.task_store import TaskStore
from edge.turns import OldTurns, Turns

NOW = datetime(2026, 3, 1, tzinfo=UTC)
CANCELLED = FailureRecord(code=FailureCode.CANCELLED, detail="")


class Who(msgspec.Struct, frozen=True):
    name: str


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


def task(tasks: TaskStore, task_id: str) -> None:
    medium = Medium(root="videos", path="a.mp4", kind=MediumKind.VIDEO, media_id="m")
    tasks.create(DetectVideo(task_id=task_id, medium=medium))


@pytest.fixture
def tasks(tmp_path: Path) -> TaskStore:
    return TaskStore(Layout(tmp_path))


def test_turns_follow_each_other_and_only_the_last_one_stays(tmp_path: Path) -> None:
    turns = Turns(tmp_path, Who)
    first = turns.take(Who("a"), after=None)
    second = turns.take(Who("b"), after=first)

    assert first is not None
    assert second is not None
    assert turns.last() == second
    assert not turns.is_last(first)
    assert [path.name for path in tmp_path.iterdir()] == ["2"]


def test_of_those_who_want_the_same_turn_one_gets_it(tmp_path: Path) -> None:
    turns = Turns(tmp_path, Who)
    last = turns.take(Who("before"), after=None)
    with ThreadPoolExecutor(16) as pool:
        taken = list(pool.map(lambda n: turns.take(Who(str(n)), after=last), range(64)))

    (winner,) = [turn for turn in taken if turn]
    assert turns.last() == winner


def test_who_looked_long_ago_gets_no_turn_that_was_over_since(tmp_path: Path) -> None:
    turns = Turns(tmp_path, Who)
    long_ago = turns.take(Who("a"), after=None)
    second = turns.take(Who("b"), after=long_ago)
    third = turns.take(Who("c"), after=second)

    assert turns.take(Who("late"), after=long_ago) is None
    assert turns.last() == third
    assert [path.name for path in tmp_path.iterdir()] == ["3"]


def test_a_turn_that_is_over_cannot_be_rewritten(tmp_path: Path) -> None:
    turns = Turns(tmp_path, Who)
    first = turns.take(Who("a"), after=None)
    assert first is not None
    assert turns.rewrite(first, Who("a, still"))
    second = turns.take(Who("b"), after=first)

    assert not turns.rewrite(first, Who("a, again"))
    assert turns.last() == second


def test_a_medium_is_taken_until_its_task_has_ended(tasks: TaskStore) -> None:
    guard = Guard(tasks)
    first, second, third = (str(uuid4()) for _ in range(3))
    guard.enter("m", first)
    task(tasks, first)

    with pytest.raises(RequestFailed) as caught:
        guard.enter("m", second)
    assert (caught.value.failure.code, caught.value.task_id) == (FailureCode.MEDIA_BUSY, first)

    tasks.end(first, CANCELLED)
    guard.enter("m", third)


def test_another_medium_is_free(tasks: TaskStore) -> None:
    guard = Guard(tasks)
    guard.enter("m", str(uuid4()))
    guard.enter("n", str(uuid4()))


def test_an_edge_that_died_before_its_task_was_born_gives_way_after_a_while(tasks: TaskStore) -> None:
    clock = Clock()
    guard = Guard(tasks, clock=clock)
    guard.enter("m", str(uuid4()))
    with pytest.raises(RequestFailed):
        guard.enter("m", str(uuid4()))

    clock.now += UNBORN_FOR + timedelta(seconds=1)
    guard.enter("m", str(uuid4()))


def test_of_many_at_once_one_enters(tasks: TaskStore) -> None:
    ids = [str(uuid4()) for _ in range(32)]

    def enter(task_id: str) -> str | None:
        try:
            Guard(tasks).enter("m", task_id)
        except RequestFailed as refused:
            return refused.task_id
        return None

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(enter, ids))

    winner = ids[answers.index(None)]
    assert sorted(map(str, answers)) == sorted(["None", *[winner] * 31])


@pytest.mark.parametrize(("asking", "is_named"), [("anna", True), ("otto", False), (None, True)])
def test_the_task_that_works_on_a_medium_is_named_to_who_may_see_it(
    tasks: TaskStore, asking: str | None, *, is_named: bool
) -> None:
    Guard(tasks).enter("m", "a", caller=Caller(user_id="anna", sees_only="anna"))
    with pytest.raises(RequestFailed) as refused:
        Guard(tasks).enter("m", "b", caller=Caller(user_id=asking, sees_only=asking))

    assert refused.value.failure.code is FailureCode.MEDIA_BUSY
    assert refused.value.task_id == ("a" if is_named else None)
    assert ("task a " in refused.value.failure.detail) == is_named


@pytest.mark.parametrize("media_id", ["", ".", "..", ".hidden", "a/b", "a\0b", "a b", "x" * 129, "-", "é"])
def test_what_names_no_folder_is_no_medium(media_id: str) -> None:
    with pytest.raises(Failure) as caught:
        checked_media_id(media_id)

    assert caught.value.code is FailureCode.MEDIA_NOT_FOUND


@pytest.mark.parametrize("media_id", ["01583bd9b6b11aba", "V01583bd9b6b11aba-01234567", "A_b.c"])
def test_ids_of_media_pass(media_id: str) -> None:
    assert checked_media_id(media_id) == media_id


def test_turns_that_nobody_takes_any_more_go_and_their_folder_after_them(tmp_path: Path) -> None:
    turns = Turns(tmp_path / "posting" / "m", Who)
    turns.take(Who("a"), after=None)
    (tmp_path / "posting/m/waiting").mkdir()
    clock = Clock()
    clock.now = datetime.now(UTC)
    old = OldTurns(tmp_path / "posting", tmp_path / "absent", kept=timedelta(days=1), clock=clock)
    assert list(old.stale()) == []

    clock.now += timedelta(days=2)
    for path in old.stale():
        path.unlink()
    assert list(old.stale()) == []
    assert list((tmp_path / "posting").iterdir()) == []
