"""A token that is valid now, for as long as a task has something to post: kept sealed, refreshed in time.

What a client gave lies with its task. What came of a refresh lies in a session, named by the refresh token that the client
gave: the tasks of one login share it, since a refresh token may be good for one use only. A session is never found by a
user's name alone: with authentication off anybody can claim one.
"""

import asyncio
import hashlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import IO, Protocol

import msgspec
import structlog

from contracts.failures import Failure, FailureCode
from contracts.storage import Layout
from contracts.threads import to_its_end
from contracts.whole_files import replace_file
from edge.auth import Caller, is_token
from edge.disk import PRIVATE, lock, storage_failures
from edge.jwts import read_claims
from edge.vault import Credentials, Vault

REFRESH_BEFORE_S = 60.0
"""Before its expiry that a token is refreshed; one that came of a refresh and lives shorter, at half of its life."""
REFRESH_TIMEOUT_S = 15.0
TURN_WAIT_S = 30.0
"""How long a refresh waits for others of the same user, on whatever edge."""
TURN_POLL_S = 0.02
SESSION_KEPT_S = 2 * 86_400.0
"""After its last refresh: longer than a post is retried."""

_log = structlog.get_logger()


class Refreshed(Protocol):
    """What the Annotations service answers to a refresh."""

    @property
    def access_token(self) -> str: ...
    @property
    def refresh_token(self) -> str | None: ...


Refresh = Callable[[str], Awaitable[Refreshed]]
"""Trades a refresh token in. Raises `Failure`: `unauthenticated` if it is good for nothing any more, others may pass."""


class Tokens:
    """The tokens of every task."""

    def __init__(
        self, layout: Layout, vault: Vault, refresh: Refresh, *, clock_s: Callable[[], float] = time.time
    ) -> None:
        self._layout = layout
        self._vault = vault
        self._refresh = refresh
        self._clock_s = clock_s

    async def keep(self, task_id: str, caller: Caller) -> None:
        """Keep what it takes to act for the caller, if they gave a token. Raises `Failure(storage_full)`.

        A refresh token of theirs that was kept before stays if no other one comes.
        """
        if caller.bearer is not None:
            await asyncio.to_thread(self._keep, self._layout.credentials(task_id), caller.bearer, caller)

    async def bearer(self, task_id: str) -> str:
        """A token that is valid for a minute or longer, refreshed if need be; a shorter one if that fails.

        Raises `Failure`: `unauthenticated` if there is no valid one to be had, what refreshing fails with.
        """
        held = await asyncio.to_thread(self._held, task_id)
        if self._is_fresh(held):
            return held.bearer
        try:
            return await self._renewed(task_id, is_good=self._is_fresh)
        except Failure as failure:
            if self._remaining_s(held) <= 0:
                raise
            _log.warning("a token could not be refreshed in time", task_id=task_id, code=failure.code)
            return held.bearer

    async def renew(self, task_id: str, *, rejected: str | None = None) -> str:
        """Another token than the one that was just rejected (401), refreshed once. Raises `Failure` as `bearer`.

        rejected: that token, if known; one that came of somebody else's refresh meanwhile is returned as it is.
        """
        if rejected is None:
            rejected = (await asyncio.to_thread(self._held, task_id)).bearer
        return await self._renewed(task_id, is_good=lambda held: held.bearer != rejected)

    async def forget(self, task_id: str) -> None:
        """Remove the task's tokens: it has nothing to post any more."""
        await asyncio.to_thread(self._layout.credentials(task_id).unlink, missing_ok=True)

    def stale(self) -> Iterator[Path]:
        """The sessions that no task needs any more."""
        for path in self._layout.sessions.glob("*.sealed"):
            with suppress(OSError):
                if self._clock_s() - path.stat().st_mtime > SESSION_KEPT_S:
                    yield path

    async def _renewed(self, task_id: str, *, is_good: Callable[[Credentials], bool]) -> str:
        """The bearer of credentials that are good: somebody else's refresh may have made them so, else ours does."""
        given = await asyncio.to_thread(self._given, task_id)
        if given.refresh_token is None:
            raise Failure(FailureCode.UNAUTHENTICATED, "the token is used up and came without a refresh token")
        user_id = read_claims(given.bearer).user_id
        async with self._turn(user_id or given.refresh_token):
            held = await asyncio.to_thread(self._held, task_id)
            if is_good(held):
                return held.bearer
            session = self._session(given.refresh_token)
            trading = asyncio.create_task(self._trade(held.refresh_token or given.refresh_token, session))
            return await to_its_end(trading)  # what was traded in is good no more: its answer must not be lost

    async def _trade(self, refresh_token: str, session: Path) -> str:
        refreshed = await self._refreshed(refresh_token)
        await asyncio.to_thread(self._write, session, refreshed)
        return refreshed.bearer

    async def _refreshed(self, refresh_token: str) -> Credentials:
        try:
            async with asyncio.timeout(REFRESH_TIMEOUT_S):
                refreshed = await self._refresh(refresh_token)
        except TimeoutError as error:
            raise Failure(FailureCode.IDENTITY_UNAVAILABLE, "a refresh was not answered in time") from error
        if not is_token(refreshed.access_token):
            raise Failure(FailureCode.IDENTITY_UNAVAILABLE, "a refresh was answered with something that is no token")
        return Credentials(
            bearer=refreshed.access_token,
            refresh_token=refreshed.refresh_token or refresh_token,
            obtained_at_s=self._clock_s(),
            is_refreshed=True,
        )

    def _keep(self, path: Path, bearer: str, caller: Caller) -> None:
        refresh_token = caller.refresh_token
        with suppress(Failure):  # of keys that are gone
            before = self._read(path)
            if refresh_token is None and before and read_claims(before.bearer).user_id == caller.user_id:
                refresh_token = before.refresh_token
        credentials = Credentials(bearer=bearer, refresh_token=refresh_token, obtained_at_s=self._clock_s())
        self._write(path, credentials)

    def _given(self, task_id: str) -> Credentials:
        given = self._read(self._layout.credentials(task_id))
        if given is None:
            raise Failure(FailureCode.UNAUTHENTICATED, f"no tokens are kept for task {task_id}")
        return given

    def _held(self, task_id: str) -> Credentials:
        """The credentials to use now: the client's, or what came of a refresh after it gave them."""
        given = self._given(task_id)
        session: Credentials | None = None
        if given.refresh_token:
            with suppress(Failure):  # sealed with a key that is gone: as good as none
                session = self._read(self._session(given.refresh_token))
        if session is None:
            return given
        if session.obtained_at_s >= given.obtained_at_s:
            return session
        return msgspec.structs.replace(given, refresh_token=session.refresh_token)

    def _is_fresh(self, held: Credentials) -> bool:
        remaining_s = self._remaining_s(held)
        if not held.is_refreshed:
            return remaining_s >= REFRESH_BEFORE_S
        life_s = remaining_s + self._clock_s() - held.obtained_at_s
        return remaining_s >= min(REFRESH_BEFORE_S, life_s / 2)

    def _remaining_s(self, held: Credentials) -> float:
        """Until the token expires; infinite for one that does not say, which is used until it is rejected."""
        expires_at_s = read_claims(held.bearer).expires_at_s
        return float("inf") if expires_at_s is None else expires_at_s - self._clock_s()

    def _session(self, refresh_token: str) -> Path:
        return self._layout.sessions / f"{_hash(refresh_token)}.sealed"

    def _read(self, path: Path) -> Credentials | None:
        try:
            return self._vault.open(path.read_bytes(), place=self._place(path))
        except FileNotFoundError:
            return None

    def _write(self, path: Path, credentials: Credentials) -> None:
        with storage_failures():
            replace_file(path, self._vault.seal(credentials, place=self._place(path)), mode=PRIVATE)

    def _place(self, path: Path) -> str:
        return path.relative_to(self._layout.root).as_posix()

    @asynccontextmanager
    async def _turn(self, whose: str) -> AsyncGenerator[None]:
        """One at a time over all edges. The kernel frees what a dead edge held; users that share a file wait for each other.

        Raises `Failure(identity_unavailable)` if those before us do not come to an end.
        """
        with await asyncio.to_thread(_opened, self._layout.sessions / f"turn-{_hash(whose)[:2]}") as file:
            try:
                async with asyncio.timeout(TURN_WAIT_S):
                    while True:
                        if await asyncio.to_thread(lock, file):
                            break
                        await asyncio.sleep(TURN_POLL_S)
            except TimeoutError as error:
                raise Failure(FailureCode.IDENTITY_UNAVAILABLE, "other refreshes do not come to an end") from error
            yield


def _opened(path: Path) -> IO[bytes]:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("ab")


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
