"""Who calls, from the headers of a request."""

import time
from typing import Any

import pytest
from litestar import Request

from contracts.failures import Failure, FailureCode
from edge.auth import BEARER_CHARS_MAX, Auth, Caller
from edge.jwts import LEEWAY_S, Expected, SharedKey, Verifier
from tests.signing import SHARED_KEY, token

OFF, JWT = Auth(None), Auth(Verifier(SharedKey(SHARED_KEY), Expected()))


def request(*headers: tuple[str, str]) -> Request[Any, Any, Any]:
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
    return Request({"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": raw})  # type: ignore[arg-type]


async def refused(auth: Auth, *headers: tuple[str, str]) -> FailureCode:
    with pytest.raises(Failure) as caught:
        await auth.caller_of(request(*headers))
    assert not [value for _, value in headers if value and value in caught.value.detail]
    return caught.value.code


async def test_nobody_in_particular_sees_everything_while_authentication_is_off() -> None:
    caller = await OFF.caller_of(request())

    assert caller == Caller()
    assert caller.may_see(None)
    assert caller.may_see("ada")


async def test_while_authentication_is_off_a_token_is_believed_unseen_and_kept_as_it_came() -> None:
    text = token("ada", key="a key that we do not know, 32 bytes long", exp=1)
    caller = await OFF.caller_of(request(("Authorization", f"Bearer {text}"), ("X-Refresh-Token", "r 1")))

    assert caller == Caller(user_id="ada", bearer=text, refresh_token="r 1")
    assert caller.may_see("somebody else")


@pytest.mark.parametrize("text", ["opaque", "a.b.c", "abc=="])
async def test_a_token_that_tells_no_user_is_kept_too(text: str) -> None:
    assert await OFF.caller_of(request(("Authorization", f"Bearer {text}"))) == Caller(bearer=text)


async def test_with_authentication_a_caller_sees_what_is_theirs_and_nothing_else() -> None:
    caller = await JWT.caller_of(request(("Authorization", f"Bearer {token('ada')}")))

    assert caller.user_id == "ada"
    assert caller.may_see("ada")
    assert not caller.may_see("bob")
    assert not caller.may_see(None)


async def test_a_caller_is_let_in_until_their_token_ends_and_clocks_may_differ() -> None:
    until_s = float(int(time.time())) + 100

    caller = await JWT.caller_of(request(("Authorization", f"Bearer {token(exp=until_s)}")))
    unasked = await OFF.caller_of(request(("Authorization", f"Bearer {token(exp=until_s)}")))

    assert caller.let_in_until_s == until_s + LEEWAY_S
    assert unasked.let_in_until_s is None


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "Bearer "])
async def test_the_scheme_is_known_in_any_case(scheme: str) -> None:
    assert (await JWT.caller_of(request(("Authorization", f"{scheme} {token()}")))).user_id == "ada"


@pytest.mark.parametrize("value", ["", "Bearer", "Basic YWRhOnB3", "Token abc", token()])
async def test_without_a_bearer_token_nobody_is_let_in(value: str) -> None:
    assert await refused(JWT, ("Authorization", value)) is FailureCode.UNAUTHENTICATED


@pytest.mark.parametrize("auth", [OFF, JWT], ids=["off", "jwt"])
@pytest.mark.parametrize(
    "value",
    [
        "Bearer a b",
        "Bearer a\tb",
        "Bearer \xe4",
        "Bearer a\x00",
        "Bearer a,b",
        "Bearer " + "x" * (BEARER_CHARS_MAX + 1),
    ],
    ids=["two words", "a tab", "no ASCII", "a zero", "a comma", "too long"],
)
async def test_what_can_be_no_token_is_refused_unread(auth: Auth, value: str) -> None:
    assert await refused(auth, ("Authorization", value)) is FailureCode.UNAUTHENTICATED


@pytest.mark.parametrize("auth", [OFF, JWT], ids=["off", "jwt"])
async def test_two_tokens_are_one_too_many(auth: Auth) -> None:
    headers = [("Authorization", f"Bearer {token(name)}") for name in ("ada", "bob")]

    assert await refused(auth, *headers) is FailureCode.UNAUTHENTICATED


@pytest.mark.parametrize("value", ["\xe4", "a\tb", "a\x7f", "x" * (BEARER_CHARS_MAX + 1)])
async def test_a_refresh_token_that_can_be_none_is_refused_without_naming_it(value: str) -> None:
    assert await refused(OFF, ("X-Refresh-Token", value)) is FailureCode.MALFORMED_REQUEST


def test_a_caller_does_not_show_their_tokens() -> None:
    caller = Caller(user_id="ada", bearer="canary-1", refresh_token="canary-2")

    assert "canary" not in f"{caller} {caller!r} {[caller]}"
