"""A request with a key is done once; one that came to nothing may be tried again."""

import asyncio
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from contracts.failures import Failure, FailureCode
from contracts.storage import Layout
from edge.idempotency import IdempotencyKeys, fingerprint, once
from edge.outcomes import AnyOutcome, Started, TaskStarted

WAIT_S = 30.0
ASKED = fingerprint("/detect/m", b"{}")


class Work:
    """Starts another task each time; fails as often as it is told first."""

    def __init__(self, *, fails: int = 0) -> None:
        self.calls = 0
        self._fails = fails

    async def __call__(self) -> TaskStarted:
        self.calls += 1
        if self.calls <= self._fails:
            raise Failure(FailureCode.MEDIA_BUSY, "busy")
        return TaskStarted(started=Started(media_id="m", task_id=str(self.calls)))


@pytest.fixture
def keys(tmp_path: Path) -> IdempotencyKeys:
    return IdempotencyKeys(Layout(tmp_path), claim_max=timedelta(minutes=10))


async def test_the_same_request_again_is_answered_as_before_and_does_nothing(keys: IdempotencyKeys) -> None:
    work = Work()
    first = await once(keys, "k", ASKED, work)

    assert await once(keys, "k", ASKED, work) == first
    assert work.calls == 1


async def test_without_a_key_every_request_is_a_new_one(keys: IdempotencyKeys) -> None:
    work = Work()

    assert await once(keys, None, ASKED, work) != await once(keys, None, ASKED, work)


@pytest.mark.parametrize("other", [("/detect/n", b"{}"), ("/detect/m", b'{"model_batch_size":1}')])
async def test_another_request_with_the_key_is_refused(keys: IdempotencyKeys, other: tuple[str, bytes]) -> None:
    await once(keys, "k", ASKED, Work())
    work = Work()

    with pytest.raises(Failure) as caught:
        await once(keys, "k", fingerprint(*other), work)
    assert caught.value.code is FailureCode.IDEMPOTENCY_KEY_REUSED
    assert work.calls == 0


async def test_what_failed_is_not_kept(keys: IdempotencyKeys) -> None:
    work = Work(fails=1)
    with pytest.raises(Failure):
        await once(keys, "k", ASKED, work)

    assert isinstance(await once(keys, "k", ASKED, work), TaskStarted)


class FullStorage(IdempotencyKeys):
    """Has room for a claim and none for an outcome."""

    def settle(self, key: str, fingerprint: str, outcome: AnyOutcome) -> None:
        raise Failure(FailureCode.STORAGE_FULL, "the storage is full")


async def test_what_was_done_is_answered_also_where_the_outcome_cannot_be_kept(tmp_path: Path) -> None:
    keys, work = FullStorage(Layout(tmp_path), claim_max=timedelta(minutes=10)), Work()
    assert isinstance(await once(keys, "k", ASKED, work), TaskStarted)

    with pytest.raises(Failure) as caught:  # and not done a second time
        await once(keys, "k", ASKED, work)
    assert (caught.value.code, work.calls) == (FailureCode.IDEMPOTENCY_KEY_IN_USE, 1)


class SlowStorage(IdempotencyKeys):
    """Claims a key once it is let."""

    def __init__(self, layout: Layout) -> None:
        super().__init__(layout, claim_max=timedelta(minutes=10))
        self.began = threading.Event()
        self.may_claim = threading.Event()
        self.ended = threading.Event()

    def claim(self, key: str, fingerprint: str) -> AnyOutcome | None:
        self.began.set()
        self.may_claim.wait(WAIT_S)
        try:
            return super().claim(key, fingerprint)
        finally:
            self.ended.set()


async def cancelled_while_it_claims(keys: SlowStorage, work: Work) -> None:
    cancelled = asyncio.create_task(once(keys, "k", ASKED, work))
    await asyncio.to_thread(keys.began.wait, WAIT_S)
    cancelled.cancel()
    keys.may_claim.set()
    with pytest.raises(asyncio.CancelledError):
        await cancelled


async def test_a_request_that_is_cancelled_while_it_claims_its_key_leaves_it_free(tmp_path: Path) -> None:
    keys, work = SlowStorage(Layout(tmp_path)), Work()
    await cancelled_while_it_claims(keys, work)
    await asyncio.to_thread(keys.ended.wait, WAIT_S)

    assert work.calls == 0
    assert isinstance(await once(keys, "k", ASKED, work), TaskStarted)


async def test_a_request_that_is_cancelled_while_another_has_its_key_leaves_it_to_that_one(tmp_path: Path) -> None:
    keys, work = SlowStorage(Layout(tmp_path)), Work()
    IdempotencyKeys(Layout(tmp_path), claim_max=timedelta(minutes=10)).claim("k", ASKED)
    await cancelled_while_it_claims(keys, work)

    with pytest.raises(Failure) as caught:
        await once(keys, "k", ASKED, work)
    assert caught.value.code is FailureCode.IDEMPOTENCY_KEY_IN_USE


class Interrupted:
    """A clock at which something happens in between, once, between finding a record and doing something about it."""

    def __init__(self, now: datetime) -> None:
        self.now = now
        self.asked_before = 0
        self.meanwhile: Callable[[], object] | None = None

    def __call__(self) -> datetime:
        if self.meanwhile is not None:
            self.asked_before -= 1
            if self.asked_before < 0:
                meanwhile, self.meanwhile = self.meanwhile, None
                meanwhile()
        return self.now


CLAIM_MAX = timedelta(minutes=10)


def of_a_dead_edge(layout: Layout) -> datetime:
    """A claim that counts no more; returns when that is."""
    now = datetime.now(UTC)
    assert IdempotencyKeys(layout, claim_max=CLAIM_MAX, clock=lambda: now - 2 * CLAIM_MAX).claim("k", ASKED) is None
    return now


def test_of_two_that_find_a_dead_edges_claim_one_takes_it_over(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    clock = Interrupted(of_a_dead_edge(layout))
    one, other = (IdempotencyKeys(layout, claim_max=CLAIM_MAX, clock=each) for each in (clock, lambda: clock.now))
    faster: list[AnyOutcome | None] = []
    clock.asked_before, clock.meanwhile = 1, lambda: faster.append(other.claim("k", ASKED))

    with pytest.raises(Failure) as caught:
        one.claim("k", ASKED)
    assert faster == [None]
    assert caught.value.code is FailureCode.IDEMPOTENCY_KEY_IN_USE


def test_a_claim_that_is_taken_over_while_it_is_swept_stays(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    clock = Interrupted(of_a_dead_edge(layout))
    sweeping, other = (IdempotencyKeys(layout, claim_max=CLAIM_MAX, clock=each) for each in (clock, lambda: clock.now))
    clock.meanwhile = lambda: other.claim("k", ASKED)

    assert list(sweeping.stale()) == []


def test_an_edge_that_dies_while_it_takes_a_claim_over_holds_the_key_no_longer_than_a_claim(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    now = of_a_dead_edge(layout)
    dying, later = (
        IdempotencyKeys(layout, claim_max=CLAIM_MAX, clock=lambda at=at: at) for at in (now, now + 2 * CLAIM_MAX)
    )
    assert len(list(dying.stale())) == 1  # and it did not come to removing it
    with pytest.raises(Failure, match="come and go"):
        later.claim("k", ASKED)

    for path in list(later.stale()):
        path.unlink()
    assert later.claim("k", ASKED) is None
