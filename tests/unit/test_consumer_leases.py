"""Who works on a task."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from consumers.checkpoints import Journal
from consumers.leases import STALE_AFTER_S, AlreadyEnded, Busy, Held, Leases
from contracts.commands import DetectVideo
from contracts.detections import Counts
from contracts.events import TaskEnded
from contracts.media import Medium, MediumKind
from contracts.results import Checkpoint, latest_epoch
from contracts.storage import Layout, Lease, TaskRecord, create_record, read_record

TASK = "0b8b8a2e-0000-4000-8000-000000000001"
COMMAND = DetectVideo(task_id=TASK, medium=Medium(root="storage", path="a", kind=MediumKind.VIDEO))
START = datetime(2030, 1, 1, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def held(leases: Leases, *, is_handed_on: bool = False) -> Held:
    claim = leases.claim(COMMAND, is_handed_on=is_handed_on)
    assert isinstance(claim, Held)
    return claim


def bring_it_on(layout: Layout, claim: Held) -> None:
    checkpoint = Checkpoint(frame_index=1, at_s=0.1, counts=Counts(), sequence=0)
    with Journal(layout, TASK, epoch=claim.epoch, standing=claim.standing) as journal:
        journal.append(checkpoint)


def test_the_first_who_claims_a_task_holds_it(layout: Layout, clock: Clock) -> None:
    claim = held(Leases(layout, owner="a", now=clock))

    assert claim.epoch == 1
    assert read_record(layout.lease(TASK), Lease) == Lease(owner="a", epoch=1, heartbeat_at=clock.now)


def test_a_duplicate_is_dropped_while_the_holder_lives(layout: Layout, clock: Clock) -> None:
    held(Leases(layout, owner="a", now=clock))
    clock.advance(STALE_AFTER_S - 1)

    assert Leases(layout, owner="b", now=clock).claim(COMMAND, is_handed_on=False) == Busy()


def test_a_redelivered_command_takes_over_at_once(layout: Layout, clock: Clock) -> None:
    first = Leases(layout, owner="a", now=clock)
    stale = held(first)
    taken = held(Leases(layout, owner="b", now=clock), is_handed_on=True)

    assert taken.epoch == 2
    assert not first.renew(TASK, stale)
    lease = read_record(layout.lease(TASK), Lease)
    assert lease is not None
    assert lease.owner == "b"


def test_a_lease_without_a_heartbeat_belongs_to_nobody(layout: Layout, clock: Clock) -> None:
    held(Leases(layout, owner="a", now=clock))
    clock.advance(STALE_AFTER_S + 1)

    assert held(Leases(layout, owner="b", now=clock)).epoch == 2


def test_a_heartbeat_keeps_the_lease(layout: Layout, clock: Clock) -> None:
    first = Leases(layout, owner="a", now=clock)
    claim = held(first)
    clock.advance(STALE_AFTER_S - 1)
    assert first.renew(TASK, claim)
    clock.advance(STALE_AFTER_S - 1)

    assert Leases(layout, owner="b", now=clock).claim(COMMAND, is_handed_on=False) == Busy()


def test_a_released_lease_is_free(layout: Layout, clock: Clock) -> None:
    first = Leases(layout, owner="a", now=clock)
    first.release(TASK, held(first))

    assert held(Leases(layout, owner="b", now=clock)).epoch == 2


def test_a_holder_that_died_between_claim_and_lease_is_waited_for_and_then_replaced(
    layout: Layout, clock: Clock
) -> None:
    layout.task(TASK).mkdir(parents=True)
    layout.results(TASK, epoch=1).touch()
    leases = Leases(layout, owner="b", now=clock)

    assert leases.claim(COMMAND, is_handed_on=False) == Busy()
    clock.advance(STALE_AFTER_S + 1)
    assert held(leases).epoch == 2


def test_a_stale_holder_cannot_release_what_is_no_longer_its_own(layout: Layout, clock: Clock) -> None:
    first = Leases(layout, owner="a", now=clock)
    stale = held(first)
    held(Leases(layout, owner="b", now=clock), is_handed_on=True)
    first.release(TASK, stale)

    lease = read_record(layout.lease(TASK), Lease)
    assert lease is not None
    assert not lease.is_released


def test_a_storage_that_is_away_is_no_other_taker(layout: Layout, clock: Clock) -> None:
    leases = Leases(layout, owner="a", now=clock)
    claim = held(leases)
    layout.root.rename(away := layout.root.with_name(f"{layout.root.name}-away"))
    with pytest.raises(OSError, match="away"):
        leases.renew(TASK, claim)
    assert leases.release(TASK, claim), "nobody has taken it over, as far as is known"
    assert not layout.root.exists()
    away.rename(layout.root)
    assert leases.renew(TASK, claim)


def test_an_ended_task_is_not_claimed(layout: Layout, clock: Clock) -> None:
    end = TaskEnded(task_id=TASK, media_id="m", sequence=1)
    layout.task(TASK).mkdir(parents=True)
    create_record(layout.end(TASK), end)

    assert Leases(layout, owner="a", now=clock).claim(COMMAND, is_handed_on=True) == AlreadyEnded(end)
    assert latest_epoch(layout, TASK) == 0


def test_attempts_without_a_checkpoint_are_counted(layout: Layout, clock: Clock) -> None:
    attempts = [held(Leases(layout, owner=owner, now=clock), is_handed_on=True).barren_attempts for owner in "abcd"]

    assert attempts == [0, 1, 2, 3]


def test_a_checkpoint_starts_the_count_again(layout: Layout, clock: Clock) -> None:
    leases = Leases(layout, owner="a", now=clock)
    held(leases, is_handed_on=True)
    bring_it_on(layout, held(leases, is_handed_on=True))

    assert held(leases, is_handed_on=True).barren_attempts == 0


def test_handing_on_does_not_count_against_the_task(layout: Layout, clock: Clock) -> None:
    leases = Leases(layout, owner="a", now=clock)
    for _ in range(5):
        claim = held(leases, is_handed_on=True)
        leases.release(TASK, claim)

    assert claim.barren_attempts == 0


def test_attempts_of_consumers_that_live_on_are_not_counted(layout: Layout, clock: Clock) -> None:
    """A broker that restarts delivers again what is worked on; an upload may bring nothing to see for an hour."""
    leases = Leases(layout, owner="a", now=clock)
    claims = [held(leases, is_handed_on=True)]
    for _ in range(5):
        claims.append(held(leases, is_handed_on=True))
        assert not leases.renew(TASK, claims[-2]), "the one before hears of it a moment later"

    assert [claim.barren_attempts for claim in claims] == [0, 1, 1, 1, 1, 1]


def test_what_came_before_a_checkpoint_is_forgotten_however_the_next_holder_dies(layout: Layout, clock: Clock) -> None:
    leases = Leases(layout, owner="a", now=clock)
    for _ in range(2):
        held(leases, is_handed_on=True)
    claim = held(leases, is_handed_on=True)
    assert claim.barren_attempts == 2
    bring_it_on(layout, claim)
    layout.results(TASK, epoch=4).touch()  # and no more: whoever claimed it died before it said so

    assert held(leases, is_handed_on=True).barren_attempts == 1


def test_a_command_of_another_service_gets_its_record_from_its_first_holder(layout: Layout, clock: Clock) -> None:
    held(Leases(layout, owner="a", now=clock))

    record = read_record(layout.task_record(TASK), TaskRecord)
    assert record == TaskRecord(task_id=TASK, command=COMMAND, created_at=clock.now, started_at=clock.now)


def test_the_record_of_the_edge_gets_its_start_once(layout: Layout, clock: Clock) -> None:
    layout.task(TASK).mkdir(parents=True)
    create_record(layout.task_record(TASK), TaskRecord(task_id=TASK, command=COMMAND, created_at=START))
    held(Leases(layout, owner="a", now=clock))
    started_at = clock.now
    clock.advance(60)
    held(Leases(layout, owner="b", now=clock), is_handed_on=True)

    record = read_record(layout.task_record(TASK), TaskRecord)
    assert record == TaskRecord(task_id=TASK, command=COMMAND, created_at=START, started_at=started_at)


def test_a_marker_says_that_a_task_is_cancelled(layout: Layout, clock: Clock) -> None:
    leases = Leases(layout, owner="a", now=clock)
    layout.task(TASK).mkdir(parents=True)
    assert not leases.is_cancelled(TASK)
    layout.cancel(TASK).touch()

    assert leases.is_cancelled(TASK)


def test_a_consumer_that_died_while_another_task_was_suspected_costs_no_attempt(layout: Layout, clock: Clock) -> None:
    leases = Leases(layout, owner="a", now=clock)
    first = held(leases)
    leases.excuse(TASK, first)
    clock.advance(STALE_AFTER_S + 1)
    second = held(leases, is_handed_on=True)
    leases.excuse(TASK, second)
    leases.excuse_no_more(TASK, second)
    clock.advance(STALE_AFTER_S + 1)
    third = held(leases, is_handed_on=True)

    assert (second.barren_attempts, third.barren_attempts) == (0, 1)
