"""A request that is sent again with the same `Idempotency-Key` gets the first answer again, from any edge.

A key is claimed by creating its record, which holds no outcome until there is one. A record that counts no more is taken
over, or removed, by the one who creates a mark for it. All of it blocks, except `once`.

A raw stream has no key: whether it is the same request could be told only when all of it had come once more, and it is looked
at while it comes. Its `X-Task-Id` plays that part: sent again, it is refused at once (`task_id_in_use`), and the task tells
the rest.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import Awaitable, Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import structlog

from contracts.failures import Failure, FailureCode
from contracts.storage import Layout, create_record, read_record, replace_record
from contracts.threads import to_its_end
from edge.clock import Clock, system_clock
from edge.disk import storage_failures
from edge.outcomes import AnyOutcome

KEY_CHARS_MAX = 255
KEPT_FOR = timedelta(hours=24)
CLAIM_TRIES_MAX = 3
"""Claims of a key whose record others remove at the same moment."""

_log = structlog.get_logger()


class KeyRecord(msgspec.Struct, frozen=True, kw_only=True):
    """`idempotency/<hash of the key>.json`."""

    fingerprint: str
    claimed_at: datetime
    outcome: AnyOutcome | None = None


class IdempotencyKeys:
    """The folder `idempotency`."""

    def __init__(
        self, layout: Layout, *, claim_max: timedelta, kept_for: timedelta = KEPT_FOR, clock: Clock = system_clock
    ) -> None:
        """claim_max: how long a request may take; an older claim without an outcome is that of an edge that died.

        kept_for: no longer than the tasks that outcomes speak of.
        """
        self.folder = layout.root / "idempotency"
        self._claim_max = claim_max
        self._kept_for = kept_for
        self._clock = clock

    def claim(self, key: str, fingerprint: str) -> AnyOutcome | None:
        """The outcome of the request that had this key before, or None: then the key is ours until `settle` or `release`.

        Raises `Failure`: `idempotency_key_in_use` while that request runs, `idempotency_key_reused` if it was another one.
        """
        path = self._path(key)
        with storage_failures():
            for _ in range(CLAIM_TRIES_MAX):
                ours = KeyRecord(fingerprint=fingerprint, claimed_at=self._clock())
                if create_record(path, ours):
                    return None
                there = read_record(path, KeyRecord)
                if there is None:
                    continue
                if not self.is_stale(there):
                    return _outcome(there, fingerprint)
                if self._is_ours_to_end(path, there):
                    replace_record(path, ours)
                    return None
        raise Failure(FailureCode.IDEMPOTENCY_KEY_IN_USE, "other requests with this key come and go")

    def settle(self, key: str, fingerprint: str, outcome: AnyOutcome) -> None:
        """Keep what the claimed request was answered."""
        with storage_failures():
            replace_record(
                self._path(key), KeyRecord(fingerprint=fingerprint, claimed_at=self._clock(), outcome=outcome)
            )

    def release(self, key: str) -> None:
        """The claimed request came to nothing: the next one with this key is a new one."""
        self._path(key).unlink(missing_ok=True)

    def is_stale(self, record: KeyRecord) -> bool:
        return self._clock() - record.claimed_at > (self._claim_max if record.outcome is None else self._kept_for)

    def stale(self) -> Iterator[Path]:
        """The records that count no more, and the marks of those that went."""
        for path in self.folder.glob("*.json"):
            with contextlib.suppress(OSError):  # of one that cannot be read, or no room for its mark
                if self._is_over(path):
                    yield path
        for mark in self.folder.glob("*.over"):  # also of an edge that died before it ended the record: others may now
            with contextlib.suppress(OSError, msgspec.DecodeError):
                made_at = read_record(mark, datetime)
                if made_at is not None and self._clock() - made_at > self._claim_max:
                    yield mark

    def _is_over(self, path: Path) -> bool:
        """Whether the record is ours to remove."""
        try:
            record = read_record(path, KeyRecord)
        except msgspec.DecodeError:  # written by another version: it answers nobody
            return True
        return record is not None and self.is_stale(record) and self._is_ours_to_end(path, record)

    def _is_ours_to_end(self, path: Path, stale: KeyRecord) -> bool:
        """True for one alone of all who find this record stale; a later record of the key has another mark."""
        return create_record(path.with_suffix(f".{stale.claimed_at.timestamp():.6f}.over"), self._clock())

    def _path(self, key: str) -> Path:
        return self.folder / f"{hashlib.sha256(key.encode()).hexdigest()}.json"


async def once(
    keys: IdempotencyKeys, key: str | None, fingerprint: str, work: Callable[[], Awaitable[AnyOutcome]]
) -> AnyOutcome:
    """The outcome of `work`, or of the same request before; without a key of `work`.

    Raises `Failure` as `IdempotencyKeys.claim`, and what `work` raises: then the key is free again.
    """
    if key is None:
        return await work()
    if before := await _claimed(keys, key, fingerprint):
        return before
    try:
        outcome = await work()
    except BaseException:
        await asyncio.shield(asyncio.to_thread(keys.release, key))
        raise
    try:
        await asyncio.to_thread(keys.settle, key, fingerprint, outcome)
    except Failure as failure:  # a full disk: what was done is not undone by refusing it, and the key stays claimed
        _log.warning("an outcome could not be kept for its key", reason=str(failure))
    return outcome


async def _claimed(keys: IdempotencyKeys, key: str, fingerprint: str) -> AnyOutcome | None:
    """`IdempotencyKeys.claim`; a request that is cancelled meanwhile has no claim afterwards."""
    claiming = asyncio.create_task(asyncio.to_thread(keys.claim, key, fingerprint))
    try:
        return await to_its_end(claiming)
    except asyncio.CancelledError:
        with contextlib.suppress(Failure):
            if await claiming is None:
                await asyncio.to_thread(keys.release, key)
        raise


def fingerprint(*asked: object) -> str:
    """Equal for requests that ask for the same; of what can be written as JSON."""
    return hashlib.sha256(msgspec.json.encode(asked)).hexdigest()


def checked_key(header: str | None, *, user_id: str | None = None) -> str | None:
    """The key of a request, each user's its own: nobody gets another's answer. Raises `Failure(malformed_request)`."""
    if header is not None and not (0 < len(header) <= KEY_CHARS_MAX and header.isprintable()):
        raise Failure(FailureCode.MALFORMED_REQUEST, f"Idempotency-Key has not 1..{KEY_CHARS_MAX} printable characters")
    return header if header is None or user_id is None else f"{user_id}\n{header}"


def _outcome(there: KeyRecord, fingerprint: str) -> AnyOutcome:
    if there.fingerprint != fingerprint:
        raise Failure(FailureCode.IDEMPOTENCY_KEY_REUSED, "this Idempotency-Key came with another request before")
    if there.outcome is None:
        raise Failure(FailureCode.IDEMPOTENCY_KEY_IN_USE, "the first request with this Idempotency-Key still runs")
    return there.outcome
