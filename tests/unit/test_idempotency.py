"""A request with a key is done once; one that came to nothing may be tried again."""

from datetime import timedelta
from pathlib import Path

import pytest

from contracts.failures import Failure, FailureCode
from contracts.storage import Layout
from edge.idempotency import IdempotencyKeys, fingerprint, once
from edge.outcomes import Started, TaskStarted

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
