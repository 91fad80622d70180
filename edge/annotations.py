"""The Annotations service as the edge calls it: within a deadline, answers bounded in size, no redirect followed.

A token goes to the configured address and nowhere else: no redirect, and no proxy of the environment. It goes alone: cookies
that the service sets for one user would be sent with the tokens of all others, so none is kept.
"""

import asyncio
import contextlib
import os
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from contracts.failures import NOT_READ, Failure, FailureCode
from contracts.posts import Post
from contracts.settings import ConfigurationError
from contracts.trace_context import trace_headers
from edge.settings import EdgeSettings

ANSWER_BYTES_MAX = 1024 * 1024
"""More than any answer needs; a longer one is read no further."""
CONNECTIONS_MAX = 64
MEDIA = "/api/media"

_Answer = TypeVar("_Answer")
_NOTHING = (b"", b"null")
_WAYS = (".", "..")
"""Through a path: quoted or not, they would make another address of it."""


class Refreshed(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a refresh token was changed for."""

    access_token: str
    refresh_token: str | None = None


class _MediaPath(msgspec.Struct, frozen=True):
    path: str


class _Answered(msgspec.Struct, frozen=True):
    status: int
    body: bytes
    retry_after: str = ""


_PUTS_OFF = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
_REFUSALS: dict[int, FailureCode] = {
    HTTPStatus.UNAUTHORIZED: FailureCode.UNAUTHENTICATED,
    HTTPStatus.FORBIDDEN: FailureCode.FORBIDDEN,
    HTTPStatus.NOT_FOUND: FailureCode.MEDIA_NOT_FOUND,
    HTTPStatus.CONFLICT: FailureCode.MEDIA_BUSY,
    HTTPStatus.BAD_REQUEST: FailureCode.ANNOTATIONS_REFUSED,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: FailureCode.ANNOTATIONS_REFUSED,
    HTTPStatus.UNPROCESSABLE_ENTITY: FailureCode.ANNOTATIONS_REFUSED,
}
"""What the service says of what it was asked; every other answer is its own trouble."""


class PutOffError(Failure):
    """The service is there, and says when it wants to be asked again."""

    def __init__(self, detail: str, *, asked_s: float) -> None:
        super().__init__(FailureCode.ANNOTATIONS_UNAVAILABLE, detail)
        self.asked_s = asked_s


class Annotations:
    """Every method raises `Failure`, `PutOffError` where the service says when it is to be asked again.

    `annotations_unavailable` (away, not configured, garbage, 5xx, a redirect), `annotations_timeout`, `unauthenticated`,
    `forbidden`, `media_not_found`, `media_busy` (409), `annotations_refused`.
    """

    def __init__(self, settings: EdgeSettings, *, transport: httpx.AsyncBaseTransport | None = None) -> None:
        """Raises `ConfigurationError` where the environment names certificates that are none."""
        self._settings = settings
        self._transport = transport
        self._verify = _trusted(settings.annotations_url)
        self._client: httpx.AsyncClient | None = None

    @property
    def is_configured(self) -> bool:
        return bool(self._settings.annotations_url)

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Connections are kept open inside."""
        async with httpx.AsyncClient(
            base_url=self._settings.annotations_url,
            timeout=self._settings.annotations_timeout_s,
            limits=httpx.Limits(max_connections=CONNECTIONS_MAX),
            follow_redirects=False,
            trust_env=False,
            verify=self._verify,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
            auth=_as_it_is,
            transport=self._transport,
        ) as self._client:
            yield

    async def media_path(self, media_id: str, bearer: str) -> str:
        """Where the service keeps the medium."""
        answer = await self._call("GET", f"/api/media/{quote(media_id, safe='')}", bearer=bearer)
        return _read(answer.body, _MediaPath).path

    async def ai_settings(self, user_id: str, bearer: str) -> dict[str, Any]:
        """What the user has set, perhaps in groups; nothing if the service knows of none."""
        if user_id in _WAYS:
            return {}
        path = f"/api/users/{quote(user_id, safe='')}/ai-settings"
        try:
            said = (await self._call("GET", path, bearer=bearer)).body.strip()
            return {} if said in _NOTHING else _read(said, dict[str, Any])
        except Failure as failure:
            if failure.code is FailureCode.MEDIA_NOT_FOUND:
                return {}
            raise

    async def send(self, post: Post, bearer: str) -> None:
        """Tell the service something; it may know by the post's key that it has been told."""
        try:
            answer = await self._call(post.method, post.path, bearer=bearer, body=bytes(post.body), key=post.key)
        except Failure as failure:
            if failure.code is FailureCode.MEDIA_BUSY and post.path == MEDIA:  # it has the record already
                return
            raise
        if answer.status == HTTPStatus.OK and answer.body.strip():
            _read(answer.body, msgspec.Raw)  # a proxy's page says 200 too; 201 and 204 are the service's own words

    async def refresh(self, refresh_token: str) -> Refreshed:
        """A new access token. Raises `Failure(unauthenticated)` if the refresh token is good no more."""
        body = msgspec.json.encode({"refreshToken": refresh_token})
        try:
            answer = await self._call("POST", self._settings.annotations_refresh_path, body=body)
            return _read(answer.body, Refreshed)
        except Failure as failure:
            match failure.code:
                case FailureCode.ANNOTATIONS_REFUSED | FailureCode.FORBIDDEN:
                    raise Failure(FailureCode.UNAUTHENTICATED, failure.detail) from failure
                case FailureCode.MEDIA_NOT_FOUND | FailureCode.MEDIA_BUSY:  # the path is wrong
                    raise Failure(FailureCode.ANNOTATIONS_UNAVAILABLE, failure.detail) from failure
                case _:
                    raise

    async def _call(
        self, method: str, path: str, *, bearer: str | None = None, body: bytes | None = None, key: str | None = None
    ) -> _Answered:
        """A 2xx answer."""
        said = {
            "accept-encoding": "identity",
            "authorization": f"Bearer {bearer}" if bearer else None,
            "content-type": "application/json" if body is not None else None,
            "idempotency-key": key,
        }
        headers = {name: value for name, value in said.items() if value is not None}
        shown = f"{method} {path}"
        try:
            # httpx's own never fires on a dripping answer
            async with asyncio.timeout(self._settings.annotations_timeout_s):
                answer = await self._answer(method, path, headers, body)
        except (TimeoutError, httpx.TimeoutException) as error:
            detail = f"{shown}: no answer within {self._settings.annotations_timeout_s:g} s"
            raise Failure(FailureCode.ANNOTATIONS_TIMEOUT, detail) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Failure(FailureCode.ANNOTATIONS_UNAVAILABLE, f"{shown}: {type(error).__name__}: {error}") from error
        if HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES:
            return answer
        detail = f"{shown}: the Annotations service answers {answer.status}"
        if answer.status in _PUTS_OFF:
            raise PutOffError(detail, asked_s=_seconds(answer.retry_after))
        raise Failure(_REFUSALS.get(answer.status, FailureCode.ANNOTATIONS_UNAVAILABLE), detail)

    async def _answer(self, method: str, path: str, headers: dict[str, str], body: bytes | None) -> _Answered:
        if self._client is None or not self.is_configured:
            raise Failure(FailureCode.ANNOTATIONS_UNAVAILABLE, "no Annotations service is configured (ANNOTATIONS_URL)")
        content = bytearray()
        headers = {**headers, **trace_headers()}
        async with self._client.stream(method, path, headers=headers, content=body) as response:
            async for part in response.aiter_raw():
                content += part
                if len(content) > ANSWER_BYTES_MAX:
                    raise Failure(
                        FailureCode.ANNOTATIONS_UNAVAILABLE, f"{method} {path}: more than {ANSWER_BYTES_MAX} bytes"
                    )
        return _Answered(response.status_code, bytes(content), response.headers.get("retry-after", ""))


def _trusted(url: str) -> ssl.SSLContext | bool:
    """Of the environment only whom to believe, and that only where it matters."""
    try:
        return httpx.create_ssl_context() if url.startswith("https:") else True
    except OSError as error:
        raise ConfigurationError(f"SSL_CERT_FILE={os.environ.get('SSL_CERT_FILE')!r}: {error}") from error


def _as_it_is(request: httpx.Request) -> httpx.Request:
    """Else a user in the address of the service would take the place of the one who is told of."""
    return request


def _seconds(retry_after: str) -> float:
    """How long that is from now: a number of seconds, or a date; 0 for anything else (RFC 9110, 10.2.3)."""
    if retry_after.isdecimal():
        return float(retry_after)
    with contextlib.suppress(ValueError, OverflowError):
        at = parsedate_to_datetime(retry_after)
        return (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return 0.0


def _read(answer: bytes, kind: type[_Answer]) -> _Answer:
    try:
        return msgspec.json.decode(answer, type=kind)
    except NOT_READ as error:
        raise Failure(FailureCode.ANNOTATIONS_UNAVAILABLE, f"the answer is not what was agreed: {error}") from error
