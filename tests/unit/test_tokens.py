"""A token that is valid now: refreshed in time, once at a time, shared by the tasks of one login, and never on disk in clear."""

import asyncio
import secrets
from pathlib import Path

import jwt
import msgspec
import pytest
from cryptography.fernet import Fernet

from contracts.failures import Failure, FailureCode
from contracts.storage import Layout
from edge import tokens
from edge.auth import Caller
from edge.tokens import Tokens
from edge.vault import Sealer, Vault
from tests.signing import SHARED_KEY

TASK, OTHER = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"


class Answer(msgspec.Struct, frozen=True):
    access_token: str
    refresh_token: str | None = None


class Idp:
    """Refreshes tokens; each refresh token it gave replaces the one before, which is good for nothing from then on."""

    def __init__(self, root: Path) -> None:
        self.layout = Layout(root)
        self.now_s = 1_000_000.0
        self.life_s = 3600.0
        self.rotates = True
        self.away: Failure | None = None
        self.answers: list[str] = []
        self.in_flight = 0
        self.in_flight_most = 0
        self.good = {"first-refresh"}
        self.first, self.second = self.edge(), self.edge()

    def edge(self, *, seal_keys: str = "") -> Tokens:
        return Tokens(self.layout, Vault(Sealer(seal_keys, self.layout)), self.refresh, clock_s=lambda: self.now_s)

    def token(self, *, life_s: float, user_id: str = "ada") -> str:
        said = {"sub": user_id, "exp": self.now_s + life_s, "jti": secrets.token_hex(4)}
        return jwt.encode(said, SHARED_KEY)

    def caller(self, *, life_s: float = 3600.0, refresh_token: str | None = "first-refresh") -> Caller:
        return Caller(user_id="ada", bearer=self.token(life_s=life_s), refresh_token=refresh_token)

    async def refresh(self, refresh_token: str) -> Answer:
        self.in_flight += 1
        self.in_flight_most = max(self.in_flight, self.in_flight_most)
        try:
            await asyncio.sleep(0.01)
            if self.away is not None:
                raise self.away
            if refresh_token not in self.good:
                raise Failure(FailureCode.UNAUTHENTICATED, "refused")
            self.answers.append(self.token(life_s=self.life_s))
            if not self.rotates:
                return Answer(self.answers[-1])
            following = f"refresh-{len(self.answers)}"
            self.good = {following}
            return Answer(self.answers[-1], following)
        finally:
            self.in_flight -= 1


@pytest.fixture
def idp(tmp_path: Path) -> Idp:
    return Idp(tmp_path)


async def test_a_token_that_lives_long_enough_is_the_client_s_own(idp: Idp) -> None:
    caller = idp.caller(life_s=61)
    await idp.first.keep(TASK, caller)

    assert await idp.second.bearer(TASK) == caller.bearer
    assert idp.answers == []


async def test_a_token_is_refreshed_when_it_has_less_than_60_s(idp: Idp) -> None:
    await idp.first.keep(TASK, idp.caller(life_s=59))

    assert await idp.first.bearer(TASK) == idp.answers[0]
    assert await idp.second.bearer(TASK) == idp.answers[0]
    assert len(idp.answers) == 1


async def test_a_token_that_does_not_say_when_it_expires_is_used_until_it_is_rejected(idp: Idp) -> None:
    await idp.first.keep(TASK, Caller(bearer="opaque", refresh_token="first-refresh"))
    assert await idp.first.bearer(TASK) == "opaque"

    assert await idp.first.renew(TASK) == idp.answers[0]
    assert await idp.first.bearer(TASK) == idp.answers[0]


async def test_the_refresh_token_of_before_is_used_on_if_none_comes_back(idp: Idp) -> None:
    idp.rotates = False
    await idp.first.keep(TASK, idp.caller(life_s=1))
    for count in (1, 2):
        await idp.first.renew(TASK)

        assert len(idp.answers) == count


async def test_many_posts_of_many_tasks_on_two_edges_refresh_one_at_a_time(idp: Idp) -> None:
    for task_id in (TASK, OTHER):
        await idp.first.keep(task_id, idp.caller(life_s=10))
    asked = [edge.bearer(task_id) for edge in (idp.first, idp.second) for task_id in (TASK, OTHER) for _ in range(5)]
    got = await asyncio.gather(*asked)

    assert set(got) == {idp.answers[0]}
    assert len(idp.answers) == 1


async def test_a_refresh_that_was_traded_in_is_kept_by_an_edge_that_stops_meanwhile(idp: Idp) -> None:
    is_traded, is_answered = asyncio.Event(), asyncio.Event()

    async def answered_late(refresh_token: str) -> Answer:
        answer = await idp.refresh(refresh_token)
        is_traded.set()
        await is_answered.wait()
        return answer

    stopping = Tokens(idp.layout, Vault(Sealer("", idp.layout)), answered_late, clock_s=lambda: idp.now_s)
    await stopping.keep(TASK, idp.caller(life_s=-1))
    asking = asyncio.create_task(stopping.bearer(TASK))
    await is_traded.wait()
    asking.cancel()
    await asyncio.sleep(0)
    is_answered.set()
    with pytest.raises(asyncio.CancelledError):
        await asking

    assert await idp.second.bearer(TASK) == idp.answers[0]


@pytest.mark.parametrize(("user_id", "is_kept"), [("ada", True), ("otto", False)])
async def test_a_refresh_token_stays_when_its_user_comes_again_without_one(
    idp: Idp, user_id: str, *, is_kept: bool
) -> None:
    await idp.first.keep(TASK, idp.caller())
    await idp.first.keep(TASK, Caller(user_id=user_id, bearer=idp.token(life_s=90, user_id=user_id)))
    idp.now_s += 100
    if is_kept:
        assert await idp.first.bearer(TASK) == idp.answers[0]
        return
    with pytest.raises(Failure) as caught:
        await idp.first.bearer(TASK)
    assert caught.value.code is FailureCode.UNAUTHENTICATED


async def test_tokens_of_3_s_stay_valid_and_are_not_refreshed_at_every_post(idp: Idp) -> None:
    idp.life_s = 3.0
    await idp.first.keep(TASK, idp.caller(life_s=3))
    for _ in range(60):
        said = jwt.decode(await idp.first.bearer(TASK), options={"verify_signature": False})
        assert said["exp"] > idp.now_s
        idp.now_s += 0.5

    assert idp.in_flight_most == 1
    assert len(idp.answers) <= 20


async def test_a_rejected_token_is_refreshed_once_for_all_who_were_rejected(idp: Idp) -> None:
    await idp.first.keep(TASK, idp.caller())
    rejected = await idp.first.bearer(TASK)
    got = await asyncio.gather(
        *(edge.renew(TASK, rejected=rejected) for edge in (idp.first, idp.second) for _ in range(4))
    )

    assert set(got) == {idp.answers[0]}
    assert await idp.second.bearer(TASK) == idp.answers[0]


async def test_while_refreshing_fails_a_token_that_is_still_valid_is_used_and_then_none(idp: Idp) -> None:
    idp.away = Failure(FailureCode.IDENTITY_UNAVAILABLE, "away")
    caller = idp.caller(life_s=30)
    await idp.first.keep(TASK, caller)
    assert await idp.first.bearer(TASK) == caller.bearer

    idp.now_s += 31
    with pytest.raises(Failure) as caught:
        await idp.first.bearer(TASK)
    assert caught.value.code is FailureCode.IDENTITY_UNAVAILABLE
    idp.away = None
    assert await idp.first.bearer(TASK) == idp.answers[0]


@pytest.mark.parametrize("refresh_token", [None, "used up"])
async def test_without_a_good_refresh_token_an_expired_token_is_the_end(idp: Idp, refresh_token: str | None) -> None:
    await idp.first.keep(TASK, idp.caller(life_s=0, refresh_token=refresh_token))

    with pytest.raises(Failure) as caught:
        await idp.first.bearer(TASK)
    assert caught.value.code is FailureCode.UNAUTHENTICATED


async def test_a_refresh_that_is_never_answered_is_given_up(idp: Idp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "REFRESH_TIMEOUT_S", 0.001)
    await idp.first.keep(TASK, idp.caller(life_s=0))

    with pytest.raises(Failure) as caught:
        await idp.first.bearer(TASK)
    assert caught.value.code is FailureCode.IDENTITY_UNAVAILABLE


@pytest.mark.parametrize("garbage", ["", "a\r\nX-Evil: 1", "ü", "x" * 9000])
async def test_a_refresh_that_is_answered_with_no_token_changes_nothing(idp: Idp, garbage: str) -> None:
    async def refresh(_: str) -> Answer:
        return Answer(garbage, "second")

    kept = Tokens(idp.layout, Vault(Sealer("", idp.layout)), refresh, clock_s=lambda: idp.now_s)
    caller = idp.caller(life_s=30)
    await kept.keep(TASK, caller)

    assert await kept.bearer(TASK) == caller.bearer
    assert list(idp.layout.sessions.glob("*.sealed")) == []


async def test_a_newer_token_of_the_same_login_comes_before_an_older_refresh(idp: Idp) -> None:
    await idp.first.keep(TASK, idp.caller(life_s=1))
    await idp.first.bearer(TASK)
    idp.now_s += 10
    newer = idp.caller(life_s=1000)
    await idp.first.keep(OTHER, newer)

    assert await idp.first.bearer(OTHER) == newer.bearer
    idp.now_s += 950
    assert await idp.first.bearer(OTHER) == idp.answers[1], "with the rotated refresh token: the first is used up"


async def test_a_session_whose_key_is_gone_keeps_nobody_from_the_token_they_come_with(idp: Idp) -> None:
    idp.rotates = False
    await idp.first.keep(TASK, idp.caller(life_s=1))
    await idp.first.bearer(TASK)
    another_key = idp.edge(seal_keys=Fernet.generate_key().decode())
    caller = idp.caller(life_s=100)
    await another_key.keep(OTHER, caller)

    assert await another_key.bearer(OTHER) == caller.bearer
    idp.now_s += 50
    assert await another_key.bearer(OTHER) == idp.answers[1]


async def test_whoever_claims_the_same_user_gets_nothing_of_their_session(idp: Idp) -> None:
    await idp.first.keep(TASK, idp.caller(life_s=1))
    await idp.first.bearer(TASK)
    forged = Caller(user_id="ada", bearer=jwt.encode({"sub": "ada", "exp": idp.now_s}, "x" * 32), refresh_token="guess")
    await idp.first.keep(OTHER, forged)

    with pytest.raises(Failure):
        await idp.first.bearer(OTHER)
    assert await idp.first.bearer(TASK) == idp.answers[0]


async def test_nothing_on_the_disk_shows_a_token_and_all_of_it_is_private(idp: Idp) -> None:
    caller = idp.caller(life_s=1)
    await idp.first.keep(TASK, caller)
    await idp.first.bearer(TASK)
    files = [path for path in idp.layout.root.rglob("*") if path.is_file()]
    known = [caller.bearer, idp.answers[0], "first-refresh", "refresh-1"]

    assert idp.layout.credentials(TASK) in files
    assert len(list(idp.layout.sessions.glob("*.sealed"))) == 1
    for path in files:
        assert not [secret for secret in known if secret and secret.encode() in path.read_bytes()]
        assert path.name.startswith("turn-") or path.stat().st_mode & 0o777 == 0o600


async def test_forgotten_tokens_are_gone_and_forgetting_twice_is_no_fault(idp: Idp) -> None:
    await idp.first.keep(TASK, idp.caller())
    for _ in range(2):
        await idp.first.forget(TASK)

    assert not idp.layout.credentials(TASK).exists()
    with pytest.raises(Failure) as caught:
        await idp.first.bearer(TASK)
    assert caught.value.code is FailureCode.UNAUTHENTICATED


async def test_nothing_is_kept_of_a_caller_without_a_token(idp: Idp) -> None:
    await idp.first.keep(TASK, Caller())

    assert list(idp.layout.root.iterdir()) == []


async def test_sessions_go_two_days_after_their_last_refresh(idp: Idp) -> None:
    await idp.first.keep(TASK, idp.caller(life_s=1))
    await idp.first.bearer(TASK)
    (session,) = idp.layout.sessions.glob("*.sealed")
    idp.now_s = session.stat().st_mtime + tokens.SESSION_KEPT_S - 1
    assert list(idp.first.stale()) == []
    idp.now_s += 2

    assert list(idp.first.stale()) == [session]
