"""The public keys of whoever signs the tokens (RFC 7517): fetched, kept, and used on when their source is away.

A token with an unknown key id makes us look again, at most once a minute; keys of ten minutes' age are fetched anew beside
the requests, which never wait for that. While the source is away the keys that were known go on being believed.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from http import HTTPStatus
from typing import Any

import httpx
import jwt
import msgspec
import structlog
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from contracts.failures import NOT_READ, Failure, FailureCode
from contracts.settings import without_user
from edge.jwts import Key

FRESH_S = 600.0
"""Age at which the keys are fetched anew."""
AGAIN_S = 60.0
"""At the earliest so long after the last try: unknown key ids cost their senders nothing."""
FIRST_AGAIN_S = 2.0
"""As long as no keys are known at all, when nobody can be let in."""
FETCH_TIMEOUT_S = 5.0
"""Of the whole answer, however it drips."""
ANSWER_BYTES_MAX = 1_000_000
KEYS_MAX = 100
RSA_BITS_MIN = 2_048

_log = structlog.get_logger()


class _KeySet(msgspec.Struct, frozen=True):
    keys: list[dict[str, Any]]


class Jwks:
    """The keys at one address."""

    def __init__(
        self,
        url: str,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = url
        self._transport = transport
        self._clock_s = clock_s
        self._keys: dict[str | None, Key] = {}
        self._tried_s = -float("inf")
        self._fetched_s = -float("inf")
        self._fetching: asyncio.Task[None] | None = None

    async def named(self, kid: str | None) -> Key:
        """The key of this id; without an id the only one there is.

        Raises `Failure`: `unauthenticated` if there is no such key, `identity_unavailable` while none is known at all.
        """
        if self._is_stale():
            self._fetch()
        key = self._find(kid)
        if key is None and (self._fetching or self._may_try()):
            await asyncio.shield(self._fetch())
            key = self._find(kid)
        if not self._keys:
            raise Failure(FailureCode.IDENTITY_UNAVAILABLE, "the keys that tokens are signed with cannot be fetched")
        if key is None:
            raise Failure(FailureCode.UNAUTHENTICATED, "the token is signed with a key that is not known")
        return key

    def _find(self, kid: str | None) -> Key | None:
        if kid is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        return self._keys.get(kid)

    def _is_stale(self) -> bool:
        return bool(self._keys) and self._clock_s() - self._fetched_s > FRESH_S and self._may_try()

    def _may_try(self) -> bool:
        return self._clock_s() - self._tried_s >= (AGAIN_S if self._keys else FIRST_AGAIN_S)

    def _fetch(self) -> "asyncio.Task[None]":
        """The fetch under way, started if there is none: everybody waits for the same."""
        if self._fetching is None:
            self._tried_s = self._clock_s()
            self._fetching = asyncio.create_task(self._refresh())
        return self._fetching

    async def _refresh(self) -> None:
        try:
            async with asyncio.timeout(FETCH_TIMEOUT_S):
                keys = read_keys(await self._download())
            self._keys, self._fetched_s = keys, self._clock_s()
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:  # a timeout, a file of certificates
            _log.warning(
                "the keys of tokens cannot be fetched",
                url=without_user(self._url),
                reason=repr(error),
                known=len(self._keys),
            )
        finally:
            self._fetching = None

    async def _download(self) -> bytes:
        """Raises `httpx.HTTPError`, `ValueError` for an answer that is too large."""
        async with (
            httpx.AsyncClient(
                transport=self._transport,
                timeout=FETCH_TIMEOUT_S,
                follow_redirects=False,
                trust_env=False,
                verify=httpx.create_ssl_context(),  # of the environment only whom to believe: SSL_CERT_FILE
            ) as client,
            client.stream("GET", self._url, headers={"Accept": "application/json"}) as answer,
        ):
            if answer.status_code != HTTPStatus.OK:
                raise ValueError(f"the answer is {answer.status_code}")
            return await _bounded(answer.aiter_bytes())


def read_keys(document: bytes) -> dict[str | None, Key]:
    """The keys of a set that may verify signatures, by their ids; others are left out.

    Raises `ValueError` if it is no key set, or has no key that we could use.
    """
    try:
        listed = msgspec.json.decode(document, type=_KeySet).keys
    except NOT_READ as error:
        raise ValueError("the answer is no JSON Web Key Set") from error
    read = ((entry.get("kid"), _key(entry)) for entry in listed[:KEYS_MAX])
    keys = {kid: key for kid, key in read if key is not None and isinstance(kid, str | None)}
    if not keys:
        raise ValueError("the key set has no key for RS256 or ES256")
    return keys


def _key(entry: dict[str, Any]) -> Key | None:
    if entry.get("use") not in (None, "sig"):
        return None
    try:
        material = jwt.PyJWK(entry).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, NotImplementedError):
        return None
    algorithm = _algorithm(material)
    if algorithm is None or entry.get("alg") not in (None, algorithm):
        return None
    return Key(material, algorithm)


def _algorithm(material: object) -> str | None:
    """The one algorithm that this key is used with; None for private, symmetric, short and other keys."""
    match material:
        case RSAPublicKey() if material.key_size >= RSA_BITS_MIN:
            return "RS256"
        case EllipticCurvePublicKey() if isinstance(material.curve, SECP256R1):
            return "ES256"
        case _:
            return None


async def _bounded(chunks: AsyncIterator[bytes]) -> bytes:
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > ANSWER_BYTES_MAX:
            raise ValueError(f"the answer has more than {ANSWER_BYTES_MAX} bytes")
    return bytes(body)
