"""Public keys: which are used, when they are fetched, and what happens while their source is away."""

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
import structlog
from cryptography.hazmat.primitives.asymmetric import ec

from contracts.failures import Failure, FailureCode
from edge import jwks
from edge.jwks import Jwks, read_keys
from edge.jwts import Expected, Verifier
from tests.signing import assembled, claims, jwk, key_set, p256_key, public_pem, rsa_key
from tests.tls_service import tls_service

URL = "https://idp.example/jwks"


class Idp:
    """The source of the keys: answers with a set, or fails; counts how often it is asked."""

    def __init__(self, *entries: dict[str, Any]) -> None:
        self.entries = entries
        self.status = 200
        self.body: bytes | None = None
        self.asked = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.now_s = 1000.0
        self.keys = Jwks(URL, transport=httpx.MockTransport(self.answer), clock_s=lambda: self.now_s)

    async def answer(self, request: httpx.Request) -> httpx.Response:
        assert str(request.url) == URL
        assert "authorization" not in request.headers
        self.asked += 1
        await self.gate.wait()
        if self.status == 0:
            raise httpx.ConnectError("away")
        body = key_set(*self.entries) if self.body is None else self.body
        return httpx.Response(self.status, content=body, headers={"location": "https://elsewhere.example/"})

    async def user_of(self, token: str) -> str:
        return (await Verifier(self.keys, Expected()).claims_of(token)).user_id

    async def refusal_of(self, token: str) -> FailureCode:
        with pytest.raises(Failure) as caught:
            await self.user_of(token)
        return caught.value.code

    async def settle(self) -> None:
        """Let a fetch in the background come to its end."""
        for _ in range(20):
            await asyncio.sleep(0)


def rs256(kid: str | None = "rsa", key: str = "first") -> str:
    return jwt.encode(claims(), rsa_key(key), algorithm="RS256", headers={"kid": kid} if kid else None)


def es256() -> str:
    return jwt.encode(claims(), p256_key(), algorithm="ES256", headers={"kid": "ec"})


@pytest.fixture
def idp() -> Idp:
    return Idp(jwk(rsa_key(), "rsa"), jwk(p256_key(), "ec"))


async def test_rs256_and_es256_tokens_are_believed(idp: Idp) -> None:
    assert await idp.user_of(rs256()) == "ada"
    assert await idp.user_of(es256()) == "ada"
    assert idp.asked == 1


async def test_the_public_key_is_no_shared_secret(idp: Idp) -> None:
    """The attack on verifiers that let the token choose: HS256 with the public key, which everybody knows, as its key."""
    for known in (public_pem(rsa_key()), base64.urlsafe_b64decode(jwk(rsa_key(), "rsa")["n"] + "==")):
        forged = assembled({"alg": "HS256", "kid": "rsa"}, claims(), key=known)

        assert await idp.refusal_of(forged) is FailureCode.UNAUTHENTICATED


@pytest.mark.parametrize(
    "forged",
    [
        jwt.encode(claims(), rsa_key("other"), algorithm="RS256", headers={"kid": "rsa"}),
        jwt.encode(claims(), rsa_key(), algorithm="RS512", headers={"kid": "rsa"}),
        jwt.encode(claims(), rsa_key(), algorithm="PS256", headers={"kid": "rsa"}),
        jwt.encode(claims(), rsa_key(), algorithm="RS256", headers={"kid": "ec"}),
        jwt.encode(claims(), p256_key("other"), algorithm="ES256", headers={"kid": "ec"}),
        assembled({"alg": "none", "kid": "rsa"}, claims()),
        jwt.encode(
            claims(),
            rsa_key("other"),
            algorithm="RS256",
            headers={"kid": "unknown", "jwk": jwk(rsa_key("other"), "unknown"), "jku": "https://evil.example/jwks"},
        ),
    ],
    ids=["another key", "RS512", "PS256", "a key of another kind", "another P-256 key", "none", "keys of its own"],
)
async def test_a_forged_token_is_refused(idp: Idp, forged: str) -> None:
    assert await idp.refusal_of(forged) is FailureCode.UNAUTHENTICATED


@pytest.mark.parametrize(
    "kid", ["../../../../dev/null", "rsa' OR '1'='1", "rsa\x00", "https://evil.example/key", "x" * 4000]
)
async def test_a_key_id_is_a_name_and_nothing_else(idp: Idp, kid: str) -> None:
    forged = assembled({"alg": "HS256", "kid": kid}, claims(), key=b"")

    assert await idp.refusal_of(forged) is FailureCode.UNAUTHENTICATED


async def test_without_a_key_id_the_only_key_counts_and_of_several_none() -> None:
    assert await Idp(jwk(rsa_key(), "rsa")).user_of(rs256(kid=None)) == "ada"
    two = Idp(jwk(rsa_key(), "rsa"), jwk(p256_key(), "ec"))
    assert await two.refusal_of(rs256(kid=None)) is FailureCode.UNAUTHENTICATED


async def test_an_unknown_key_id_makes_us_look_again_at_most_once_a_minute(idp: Idp) -> None:
    await idp.user_of(rs256())
    idp.entries = (jwk(rsa_key("second"), "new"),)

    assert await idp.refusal_of(rs256("new", "second")) is FailureCode.UNAUTHENTICATED
    assert idp.asked == 1
    idp.now_s += jwks.AGAIN_S
    assert await idp.user_of(rs256("new", "second")) == "ada"
    for number in range(50):
        await idp.refusal_of(rs256(f"made up {number}"))
    assert idp.asked == 2


async def test_requests_that_come_together_share_one_fetch(idp: Idp) -> None:
    assert await asyncio.gather(*(idp.user_of(rs256()) for _ in range(20))) == ["ada"] * 20
    assert idp.asked == 1


async def test_keys_are_believed_while_their_source_is_away(idp: Idp) -> None:
    await idp.user_of(rs256())
    idp.status = 0
    for _ in range(5):
        idp.now_s += jwks.FRESH_S + 1
        assert await idp.user_of(rs256()) == "ada"
        await idp.settle()
    assert idp.asked == 6


async def test_old_keys_are_fetched_anew_and_no_request_waits_for_it(idp: Idp) -> None:
    await idp.user_of(rs256())
    idp.now_s += jwks.FRESH_S + 1
    idp.gate.clear()
    assert await idp.user_of(rs256()) == "ada"
    idp.entries = (jwk(p256_key(), "ec"),)
    idp.gate.set()
    await idp.settle()

    assert await idp.refusal_of(rs256()) is FailureCode.UNAUTHENTICATED


async def test_nobody_is_refused_as_a_stranger_before_the_keys_were_ever_there(idp: Idp) -> None:
    idp.status = 503
    assert await idp.refusal_of(rs256()) is FailureCode.IDENTITY_UNAVAILABLE
    assert await idp.refusal_of(rs256()) is FailureCode.IDENTITY_UNAVAILABLE
    assert idp.asked == 1
    idp.status, idp.now_s = 200, idp.now_s + jwks.FIRST_AGAIN_S
    assert await idp.user_of(rs256()) == "ada"


@pytest.mark.parametrize("status", [302, 404, 500])
async def test_only_an_answer_of_200_is_read_and_no_redirect_followed(idp: Idp, status: int) -> None:
    idp.status = status

    assert await idp.refusal_of(rs256()) is FailureCode.IDENTITY_UNAVAILABLE
    assert idp.asked == 1


async def test_an_answer_that_is_too_large_is_read_no_further(idp: Idp) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            sent.append(1)
            yield b" " * 100_000

    sent: list[int] = []
    keys = Jwks(URL, transport=httpx.MockTransport(lambda _: httpx.Response(200, content=endless())))

    with pytest.raises(Failure):
        await keys.named("rsa")
    assert len(sent) < 20


async def test_a_source_that_does_not_answer_is_given_up(idp: Idp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jwks, "FETCH_TIMEOUT_S", 0.02)
    idp.gate.clear()

    assert await idp.refusal_of(rs256()) is FailureCode.IDENTITY_UNAVAILABLE


@pytest.mark.parametrize(
    "body",
    [b"", b"garbage", b"[]", b"{}", b'{"keys": 1}', b'{"keys": [1]}', b'{"keys": []}', b'{"keys": [{}]}', b"[" * 9999],
)
async def test_garbage_in_place_of_keys_leaves_the_known_ones(idp: Idp, body: bytes) -> None:
    await idp.user_of(rs256())
    idp.body, idp.now_s = body, idp.now_s + jwks.FRESH_S + 1
    await idp.user_of(rs256())
    await idp.settle()

    assert idp.asked == 2
    assert await idp.user_of(rs256()) == "ada"


def test_keys_for_other_ends_are_left_out() -> None:
    entries = [
        jwk(rsa_key(), "good"),
        jwk(rsa_key(), "for encryption", use="enc"),
        jwk(rsa_key(), "for another algorithm", alg="RS512"),
        jwk(rsa_key("short", bits=1024), "too short"),
        jwk(ec.generate_private_key(ec.SECP384R1()), "another curve"),
        {"kty": "oct", "k": base64.urlsafe_b64encode(b"x" * 32).decode(), "kid": "symmetric", "alg": "HS256"},
        {"kty": "RSA", "kid": "broken", "n": "!", "e": "AQAB"},
        {"kty": "unheard of", "kid": "strange"},
        {"kty": "oct", "kid": "none", "alg": "none"},
        jwk(rsa_key(), "named by a number") | {"kid": 7},
        jwt.algorithms.RSAAlgorithm.to_jwk(rsa_key(), as_dict=True) | {"kid": "private"},
    ]

    assert set(read_keys(key_set(*entries))) == {"good"}


async def test_a_source_inside_a_company_is_believed_by_the_certificate_that_the_environment_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with tls_service(tmp_path, key_set(jwk(rsa_key(), "rsa"))) as source:
        monkeypatch.setenv("SSL_CERT_FILE", str(source.certificate))

        assert (await Jwks(source.url).named("rsa")).algorithm == "RS256"


@pytest.mark.parametrize("named", ["", "no-such-file.pem"])
async def test_a_source_that_nobody_vouches_for_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    async with tls_service(tmp_path, key_set(jwk(rsa_key(), "rsa"))) as source:
        monkeypatch.setenv("SSL_CERT_FILE", named)
        with pytest.raises(Failure) as caught:
            await Jwks(source.url).named("rsa")

        assert caught.value.code is FailureCode.IDENTITY_UNAVAILABLE


async def test_a_password_in_the_address_of_the_keys_is_not_logged() -> None:
    with structlog.testing.capture_logs() as lines, pytest.raises(Failure):
        await Jwks("https://operator:s3cret@127.0.0.1:1/keys").named("rsa")

    (line,) = lines
    assert line["url"] == "https://127.0.0.1:1/keys"
    assert "s3cret" not in str(line)
