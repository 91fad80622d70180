"""Which tokens are believed, and that the hostile ones are not."""

import time
from typing import Any

import jwt
import pytest

from contracts.failures import Failure, FailureCode
from edge.jwts import MOMENT_MAX_S, Claims, Expected, SharedKey, Verifier, read_claims
from tests.signing import SHARED_KEY, assembled, claims, public_pem, rsa_key, token

KEY = SHARED_KEY.encode()
HS256 = {"alg": "HS256", "typ": "JWT"}


def verifier(**expected: str) -> Verifier:
    return Verifier(SharedKey(SHARED_KEY), Expected(**expected))


async def refused(text: str, **expected: str) -> Failure:
    with pytest.raises(Failure) as caught:
        await verifier(**expected).claims_of(text)
    return caught.value


async def test_a_token_signed_with_our_key_names_its_user() -> None:
    assert (await verifier().claims_of(token("ada"))).user_id == "ada"


HOSTILE = {
    "algorithm none": assembled({"alg": "none"}, claims()),
    "algorithm none in capitals": assembled({"alg": "NONE"}, claims()),
    "algorithm none with a signature": assembled({"alg": "none"}, claims(), key=KEY),
    "no algorithm": assembled({"typ": "JWT"}, claims(), key=KEY),
    "an algorithm that is a list": assembled({"alg": ["HS256"]}, claims(), key=KEY),
    "another HMAC": jwt.encode(claims(), SHARED_KEY * 2, algorithm="HS512"),
    "RS256 where a shared key is used": jwt.encode(claims(), rsa_key(), algorithm="RS256"),
    "another key": token(key="another key, which is just as long as it has to be"),
    "an empty signature": assembled(HS256, claims()),
    "a signature cut short": token()[:-4],
    "an expired one": token(exp=1e9),
    "one without an end": token(exp=None),
    "an end that is no number": assembled(HS256, {"sub": "ada", "exp": "tomorrow"}, key=KEY),
    "an end beyond all numbers": assembled(HS256, b'{"sub": "ada", "exp": 1e400}', key=KEY),
    "an end that is a list": assembled(HS256, {"sub": "ada", "exp": [9e9]}, key=KEY),
    "one that is not valid yet": token(nbf=4e9),
    "one that was issued in the future": token(iat=4e9),
    "garbage": "garbage",
    "three parts of garbage": "a.b.c",
    "five parts": "a.b.c.d.e",
    "dots": "..",
    "a header that is no JSON": assembled(b"{", claims(), key=KEY),
    "a header that is a list": assembled(b"[]", claims(), key=KEY),
    "a header that is too deep": assembled(b"[" * 4000, claims(), key=KEY),
    "a header with something too deep in it": assembled(
        b'{"alg": "HS256", "x": ' + b"[" * 2000 + b"]" * 2000 + b"}", claims(), key=KEY
    ),
    "a payload that is no JSON": assembled(HS256, b"{", key=KEY),
    "a payload that is a list": assembled(HS256, b"[]", key=KEY),
    "a payload that is too deep": assembled(HS256, b"[" * 4000, key=KEY),
    "a payload that is no text": assembled(HS256, b'{"sub": "\xff"}', key=KEY),
    "a critical extension": assembled(HS256 | {"crit": ["x"], "x": 1}, claims(), key=KEY),
    "a payload that lies elsewhere": assembled(HS256 | {"b64": False, "crit": ["b64"]}, claims(), key=KEY),
    "a key id that is a list": assembled(HS256 | {"kid": ["a"]}, claims(), key=KEY),
    "a key of its own": assembled(HS256 | {"jwk": {"kty": "oct", "k": "bWluZQ"}}, claims(), key=b"mine"),
}


@pytest.mark.parametrize("kind", HOSTILE)
async def test_a_hostile_token_is_refused_as_unauthenticated(kind: str) -> None:
    failure = await refused(HOSTILE[kind])

    assert failure.code is FailureCode.UNAUTHENTICATED
    assert not any(part in failure.detail for part in HOSTILE[kind].split(".") if len(part) > 3)


@pytest.mark.parametrize("claim", ["nbf", "iat"])
async def test_clocks_may_differ_by_a_minute(claim: str) -> None:
    assert (await verifier().claims_of(token(exp=time.time() - 45))).user_id == "ada"
    assert (await verifier().claims_of(token(**{claim: time.time() + 55}))).user_id == "ada"

    assert (await refused(token(exp=time.time() - 61))).code is FailureCode.UNAUTHENTICATED
    assert (await refused(token(**{claim: time.time() + 75}))).code is FailureCode.UNAUTHENTICATED


@pytest.mark.parametrize(
    ("expected", "said"),
    [
        ({"issuer": "https://idp"}, {"iss": "https://elsewhere"}),
        ({"issuer": "https://idp"}, {}),
        ({"issuer": "https://idp"}, {"iss": ["https://idp"]}),
        ({"issuer": "https://idp"}, {"iss": "https://idp.evil.example"}),
        ({"audience": "detections"}, {"aud": "billing"}),
        ({"audience": "detections"}, {}),
        ({"audience": "detections"}, {"aud": {"detections": 1}}),
        ({"audience": "detections"}, {"aud": []}),
    ],
)
async def test_another_issuer_or_audience_is_refused(expected: dict[str, str], said: dict[str, Any]) -> None:
    assert (await refused(token_with(said), **expected)).code is FailureCode.UNAUTHENTICATED


async def test_the_expected_issuer_and_audience_are_let_in() -> None:
    said = token(iss="https://idp", aud=["billing", "detections"])

    assert (await verifier(issuer="https://idp", audience="detections").claims_of(said)).user_id == "ada"


async def test_an_audience_that_nobody_asked_about_is_no_reason_to_refuse() -> None:
    assert (await verifier().claims_of(token(aud="whoever"))).user_id == "ada"


@pytest.mark.parametrize("said", [{}, {"scope": "detections"}, {"scope": 7}, {"scp": "detect:write"}])
async def test_a_token_without_the_scope_is_forbidden(said: dict[str, Any]) -> None:
    assert (await refused(token(**said), scope="detect:write")).code is FailureCode.FORBIDDEN


@pytest.mark.parametrize("said", [{"scope": "a detect:write"}, {"scp": ["detect:write"]}])
async def test_a_token_with_the_scope_is_let_in(said: dict[str, Any]) -> None:
    assert (await verifier(scope="detect:write").claims_of(token(**said))).user_id == "ada"


@pytest.mark.parametrize("user_id", [None, "", " \n", "a\x00b", "x" * 257, True, ["ada"], {"id": 1}, 1.5])
async def test_a_valid_token_that_names_nobody_is_forbidden(user_id: Any) -> None:
    assert (await refused(token(user_id))).code is FailureCode.FORBIDDEN


@pytest.mark.parametrize(
    ("said", "user_id"),
    [
        ({"sub": "1", "userId": "2", "user_id": "3", "nameid": "4"}, "1"),
        ({"userId": "2", "user_id": "3"}, "2"),
        ({"sub": "", "user_id": 3, "nameid": "4"}, "3"),
        ({"nameid": "4"}, "4"),
        ({"http://schemas.xmlsoap.org/ws/2005/05/identity/claims/nameidentifier": "5"}, "5"),
    ],
)
async def test_the_first_claim_that_is_there_names_the_user(said: dict[str, Any], user_id: str) -> None:
    said = {"exp": time.time() + 60} | said

    assert (await verifier().claims_of(jwt.encode(said, SHARED_KEY))).user_id == user_id
    assert read_claims(jwt.encode(said, SHARED_KEY)).user_id == user_id


async def test_a_token_without_an_end_in_sight_has_one() -> None:
    payload = b'{"sub": "ada", "exp": 1%s}' % (b"0" * 400)

    assert (await verifier().claims_of(assembled(HS256, payload, key=KEY))).expires_at_s == MOMENT_MAX_S


@pytest.mark.parametrize("half", [public_pem(rsa_key()).decode(), "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQ somebody"])
def test_half_of_a_pair_is_no_shared_key(half: str) -> None:
    with pytest.raises(ValueError, match="half of a pair"):
        SharedKey(half)


def test_a_short_key_is_no_key() -> None:
    with pytest.raises(ValueError, match="31 bytes, 32 at least"):
        SharedKey("x" * 31)


def test_claims_are_read_without_a_look_at_the_signature() -> None:
    assert read_claims(token("ada", exp=1000, key="x" * 32)) == Claims(user_id="ada", expires_at_s=1000.0)


@pytest.mark.parametrize("kind", HOSTILE)
def test_reading_the_claims_of_a_hostile_token_says_something_or_nothing(kind: str) -> None:
    said = read_claims(HOSTILE[kind])

    assert said.user_id in {None, "ada"}
    assert said.expires_at_s is None or abs(said.expires_at_s) < 1e12


def token_with(said: dict[str, Any]) -> str:
    """As `token`, with claims of types that a library refuses to sign."""
    return assembled(HS256, claims() | said, key=KEY)
