"""Who calls: nobody in particular, or the user whom a token names."""

import re
from typing import Any

import msgspec
from litestar import Request

from contracts.failures import Failure, FailureCode
from edge.jwts import LEEWAY_S, Claims, Verifier, read_claims

BEARER_CHARS_MAX = 8_192
"""Of a token; a longer one is refused unread."""

_TOKEN = re.compile(r"[A-Za-z0-9\-._~+/]+=*")  # RFC 6750, b64token: nothing in it can break a header
_READING = ("GET", "HEAD", "OPTIONS")
_Request = Request[Any, Any, Any]


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who sent a request, and the tokens to act for them."""

    user_id: str | None = None
    """None: nobody in particular."""
    bearer: str | None = None
    refresh_token: str | None = None
    sees_only: str | None = None
    """The owner whose tasks and events they see; None: everybody's (authentication is off)."""
    let_in_until_s: float | None = None
    """Unix time at which their token lets nobody in any more; None: no token was asked for."""
    address: str | None = None
    """Where the request came from."""

    @property
    def client(self) -> str:
        """Whom limits are counted for: a user who is known for certain, else an address."""
        return f"user {self.sees_only}" if self.sees_only is not None else f"address {self.address}"

    def may_see(self, owner: str | None) -> bool:
        """Whether what this owner has is theirs to see."""
        return self.sees_only is None or self.sees_only == owner

    def __repr__(self) -> str:
        return f"Caller(user_id={self.user_id!r}, bearer={'...' if self.bearer else None})"


class Auth:
    """Tells who calls. Without a verifier every request is let in, and a token is believed what it says."""

    def __init__(self, verifier: Verifier | None) -> None:
        self._verifier = verifier

    async def caller_of(self, request: _Request) -> Caller:
        """Who sent the request.

        Raises `Failure`: `unauthenticated` (401), `forbidden` (403), `identity_unavailable` (503), `malformed_request`.
        """
        bearer = _bearer(request)
        refresh_token = _refresh_token(request)
        address = request.client.host if request.client else None
        if self._verifier is None:
            _check_site(request)
            claims = read_claims(bearer) if bearer else Claims()
            return Caller(user_id=claims.user_id, bearer=bearer, refresh_token=refresh_token, address=address)
        if bearer is None:
            raise Failure(FailureCode.UNAUTHENTICATED, "a bearer token is needed")
        claims = await self._verifier.claims_of(bearer)
        return Caller(
            user_id=claims.user_id,
            bearer=bearer,
            refresh_token=refresh_token,
            sees_only=claims.user_id,
            let_in_until_s=None if claims.expires_at_s is None else claims.expires_at_s + LEEWAY_S,
            address=address,
        )


def is_token(text: str) -> bool:
    """Whether a text could be a token: it can stand in a header, and is no longer than one."""
    return len(text) <= BEARER_CHARS_MAX and _TOKEN.fullmatch(text) is not None


def _check_site(request: _Request) -> None:
    """Raises `Failure(forbidden)` where a browser does something for a page of another site: it needs no token here.

    Every browser of today says so of itself (Fetch Metadata, W3C); what such a page reads the browser keeps from it.
    """
    if request.method not in _READING and request.headers.get("sec-fetch-site") == "cross-site":
        raise Failure(
            FailureCode.FORBIDDEN, "a page of another site asks for it, and everybody is let in (EDGE_AUTH=off)"
        )


def _bearer(request: _Request) -> str | None:
    """The token as it was sent, None if the request has none. Raises `Failure(unauthenticated)`; never names the token."""
    sent = request.headers.getall("authorization", [])
    if len(sent) > 1:
        raise Failure(FailureCode.UNAUTHENTICATED, "there is more than one Authorization")
    scheme, _, token = (sent[0] if sent else "").partition(" ")
    if scheme.lower() != "bearer":
        return None
    token = token.strip(" ")
    if not is_token(token):
        detail = f"the token has more than {BEARER_CHARS_MAX} characters, or such that no token has"
        raise Failure(FailureCode.UNAUTHENTICATED, detail)
    return token


def _refresh_token(request: _Request) -> str | None:
    token = request.headers.get("x-refresh-token")
    if not token:
        return None
    if len(token) > BEARER_CHARS_MAX or not (token.isascii() and token.isprintable()):
        detail = f"X-Refresh-Token has not 1..{BEARER_CHARS_MAX} printable ASCII characters"
        raise Failure(FailureCode.MALFORMED_REQUEST, detail)
    return token
