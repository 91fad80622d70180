"""What a token says, and whether it is to be believed (RFC 7519, RFC 8725).

The algorithm belongs to the key and is never chosen by the token: a shared key verifies HS256, a public RSA key RS256, a
public P-256 key ES256, and nothing else. Of a token's header only `alg` and `kid` are read; keys and addresses that it may
carry (`jwk`, `jku`, `x5u`) are not looked at.
"""

import base64
import binascii
from typing import Any, Protocol

import jwt
import msgspec
from jwt.algorithms import HMACAlgorithm

from contracts.failures import NOT_READ, Failure, FailureCode

LEEWAY_S = 60.0
"""By how much clocks may differ."""
USER_ID_CHARS_MAX = 256
"""As `contracts.commands.Owner`."""
KEY_BYTES_MIN = 32
"""Of a shared key: as long as the hash (RFC 7518, 3.2)."""
MOMENT_MAX_S = 1e12
"""Unix times beyond this are none."""
USER_ID_CLAIMS = (
    "sub",
    "userId",
    "user_id",
    "nameid",
    "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/nameidentifier",
)
"""The first that is there names the user (CONTRACT.md 4)."""

_DEFECTS: tuple[tuple[type[Exception], str], ...] = (
    (jwt.ExpiredSignatureError, "the token has expired"),
    (jwt.ImmatureSignatureError, "the token is not valid yet"),
    (jwt.InvalidAudienceError, "the token is for somebody else"),
    (jwt.InvalidIssuerError, "the token comes from somebody else"),
    (jwt.MissingRequiredClaimError, "the token lacks a claim: exp, or iss and aud where they are asked for"),
    (jwt.InvalidAlgorithmError, "the token's algorithm is not the one of its key"),
    (jwt.InvalidSignatureError, "the token's signature is wrong"),
)
"""What a refused client is told; the library's own texts may quote the token."""


class Claims(msgspec.Struct, frozen=True, kw_only=True):
    """What we ask of a token's payload."""

    user_id: str | None = None
    expires_at_s: float | None = None
    """Unix time."""


class Key(msgspec.Struct, frozen=True):
    """A key and the one algorithm it verifies."""

    material: Any
    """bytes, or a public key of `cryptography`."""
    algorithm: str

    def __repr__(self) -> str:
        return f"Key({self.algorithm})"


class Keys(Protocol):
    """Where keys come from."""

    async def named(self, kid: str | None) -> Key:
        """The key of this id. Raises `Failure`: `unauthenticated` if there is none, `identity_unavailable`."""
        ...


class SharedKey:
    """One key, known to whoever signs and to us."""

    def __init__(self, secret: str) -> None:
        """Raises `ValueError` if the key is too short, or one that others may know."""
        if len(secret.encode()) < KEY_BYTES_MIN:
            raise ValueError(f"the key has {len(secret.encode())} bytes, {KEY_BYTES_MIN} at least")
        try:
            HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(secret)
        except jwt.InvalidKeyError as error:
            raise ValueError("the key is half of a pair, public or private, and no shared one") from error
        self._key = Key(secret.encode(), "HS256")

    async def named(self, kid: str | None) -> Key:  # noqa: ARG002 - there is one key, whatever the token calls it
        return self._key


class Expected(msgspec.Struct, frozen=True, kw_only=True):
    """What a token must say beside who it is for; None: not looked at."""

    issuer: str | None = None
    audience: str | None = None
    scope: str | None = None


class Verifier:
    """Believes tokens that are signed with the right key and say what is expected."""

    def __init__(self, keys: Keys, expected: Expected) -> None:
        self._keys = keys
        self._expected = expected

    async def claims_of(self, token: str) -> Claims:
        """What the token says: the user whom it names, and its end.

        Raises `Failure`: `unauthenticated`, `forbidden` if it names nobody or lacks the scope, `identity_unavailable`.
        """
        key = await self._keys.named(_header(token).kid)
        payload = self._verified(token, key)
        if self._expected.scope is not None and self._expected.scope not in _scopes(payload):
            raise Failure(FailureCode.FORBIDDEN, f"the token lacks the scope {self._expected.scope}")
        user_id = _user_id(payload)
        if user_id is None:
            raise Failure(FailureCode.FORBIDDEN, "the token names no user")
        ends_at_s = payload["exp"]  # as a number or as its digits: the library has read it
        return Claims(user_id=user_id, expires_at_s=float(ends_at_s) if int(ends_at_s) < MOMENT_MAX_S else MOMENT_MAX_S)

    def _verified(self, token: str, key: Key) -> dict[str, Any]:
        try:
            return jwt.decode(
                token,
                key.material,
                algorithms=[key.algorithm],
                audience=self._expected.audience,
                issuer=self._expected.issuer,
                leeway=LEEWAY_S,
                options={
                    "require": ["exp"],
                    "verify_aud": self._expected.audience is not None,
                    "verify_sub": False,  # some issuers number their users
                    "verify_jti": False,
                },
            )
        except jwt.PyJWTError as error:
            raise _refusal(error) from error


class _Header(msgspec.Struct, frozen=True):
    alg: str
    kid: str | None = None


def read_claims(token: str) -> Claims:
    """What the token says, believed without a look at its signature; nothing of a token that is no JWT."""
    parts = token.split(".")
    if len(parts) != 3:  # noqa: PLR2004 - header, payload, signature
        return Claims()
    try:
        payload = msgspec.json.decode(_decoded(parts[1]), type=dict[str, Any])
    except (binascii.Error, *NOT_READ):
        return Claims()
    return Claims(user_id=_user_id(payload), expires_at_s=_moment(payload.get("exp")))


def _header(token: str) -> _Header:
    try:
        return msgspec.json.decode(_decoded(token.partition(".")[0]), type=_Header)
    except (binascii.Error, *NOT_READ) as error:
        raise Failure(FailureCode.UNAUTHENTICATED, "the token is no JWT") from error


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def _user_id(payload: dict[str, Any]) -> str | None:
    value = next((payload[claim] for claim in USER_ID_CLAIMS if payload.get(claim) not in (None, "")), None)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if isinstance(value, str) and len(value) <= USER_ID_CHARS_MAX and value.isprintable():
        return value
    return None


def _scopes(payload: dict[str, Any]) -> list[Any]:
    """`scope` is a text (RFC 8693), `scp` some issuers' list."""
    text, listed = payload.get("scope"), payload.get("scp")
    return [*(text.split() if isinstance(text, str) else []), *(listed if isinstance(listed, list) else [])]


def _moment(value: object) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < MOMENT_MAX_S:
        return float(value)
    return None


def _refusal(error: Exception) -> Failure:
    detail = next((text for kind, text in _DEFECTS if isinstance(error, kind)), "the token is not valid")
    return Failure(FailureCode.UNAUTHENTICATED, detail)
