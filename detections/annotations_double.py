"""A double of the Annotations service, for tests and for trying the flow without it: `python -m detections.annotations_double`.

It keeps the contract of the service's calls and nothing else of it: no users, no rights, no pages. What it is told is kept in
one file and survives a restart. Tokens are issued to whoever asks. `/double/…` is its own: faults are switched there, and
what was stored can be read.
"""

import argparse
import asyncio
import contextlib
import os
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import jwt
import msgspec
import uvicorn
from litestar import Litestar, Request, get, post, put
from litestar.di import NamedDependency, Provide
from litestar.exceptions import NotAuthorizedException, NotFoundException, ValidationException
from litestar.params import FromPath

from detections.annotations_faults import Faults, with_faults

KEY = "the double signs with this; it keeps nothing secret"
OWN = "/double"
"""Where the double's own calls are; they always work."""

_Request = Request[Any, Any, Any]


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """Something that the service was told and has kept, once however often it was told."""

    method: str
    path: str
    key: str | None
    user_id: str
    body: dict[str, Any]
    at_s: float


class Seen(msgspec.Struct, kw_only=True):
    """What has happened since the start, for tests."""

    calls: int = 0
    """Of the service, answered or not."""
    repeated: int = 0
    """Told again with the key of before."""
    unauthorised: int = 0
    """Without a token that is valid at that moment."""
    refreshes: int = 0
    refreshes_at_once_max: int = 0
    authorizations: list[str] = []
    """As they came, at most `AUTHORIZATIONS_MAX`."""


AUTHORIZATIONS_MAX = 1_000


class Double:
    """The service's memory."""

    def __init__(self, journal: Path) -> None:
        self.faults = Faults()
        self.seen = Seen()
        self.stored: list[Stored] = []
        self.paths: dict[str, str] = {}
        self.settings: dict[str, dict[str, Any]] = {}
        self.refreshing = 0
        self._lock = threading.Lock()
        self._keys: set[str] = set()
        journal.parent.mkdir(parents=True, exist_ok=True)
        lines = journal.read_bytes().splitlines() if journal.exists() else []
        for line in lines:
            with contextlib.suppress(msgspec.DecodeError):  # the last one may be torn
                self._remember(msgspec.json.decode(line, type=Stored))
        self._journal = journal.open("ab", buffering=0)

    def store(self, stored: Stored) -> None:
        """Keep what was told; the same key again changes nothing."""
        with self._lock:
            if stored.key is not None and stored.key in self._keys:
                self.seen.repeated += 1
                return
            self._journal.write(msgspec.json.encode(stored) + b"\n")
            self._remember(stored)

    def issue(self, user_id: str) -> str:
        """A token that lives as long as the faults say."""
        now_s = time.time()
        claims = {"sub": user_id, "iat": now_s, "exp": now_s + self.faults.token_life_s, "jti": os.urandom(8).hex()}
        return jwt.encode(claims, KEY, algorithm="HS256")

    def user_of(self, authorization: str) -> str | None:
        """The user of a token that we issued and that is valid now."""
        if len(self.seen.authorizations) < AUTHORIZATIONS_MAX:
            self.seen.authorizations.append(authorization)
        try:
            claims = jwt.decode(authorization.removeprefix("Bearer "), KEY, algorithms=["HS256"])
        except jwt.InvalidTokenError:
            self.seen.unauthorised += 1
            return None
        return str(claims["sub"])

    def fault_of(self, path: str) -> Faults:
        """What is wrong with a call."""
        if path.startswith(OWN):
            return Faults()
        self.seen.calls += 1
        return self.faults if path.startswith(self.faults.only) else Faults()

    def check_known(self, media_id: str | None) -> None:
        """Raises 404 for a medium without a record."""
        if media_id not in self.paths:
            raise NotFoundException("unknown media")

    def _remember(self, stored: Stored) -> None:
        self.stored.append(stored)
        if stored.key is not None:
            self._keys.add(stored.key)
        if (stored.method, stored.path) == ("POST", "/api/media"):
            self.paths[stored.body["id"]] = stored.body["path"]


Told = NamedDependency[Double]
User = NamedDependency[str]


def user_of(request: _Request, double: Told) -> str:
    """Who calls. Raises 401."""
    user_id = double.user_of(request.headers.get("authorization", ""))
    if user_id is None:
        raise NotAuthorizedException
    return user_id


@post("/annotations")
async def annotate(request: _Request, double: Told, user: User) -> None:
    """An annotation: of a frame, of a medium, or of both."""
    body = await request.json()
    if not body.get("mediaId") and not body.get("image"):
        raise ValidationException("neither image nor mediaId")
    if body.get("mediaId"):
        double.check_known(body["mediaId"])
    double.store(_told(request, user, body))


@post("/api/media")
async def create_media(request: _Request, double: Told, user: User) -> None:
    """A medium's record."""
    double.store(_told(request, user, await request.json()))


@get("/api/media/{media_id:str}", sync_to_thread=False)
def get_media(media_id: FromPath[str], double: Told, user: User) -> dict[str, str]:  # noqa: ARG001 - only users may ask
    """Where the medium lies."""
    double.check_known(media_id)
    return {"id": media_id, "path": double.paths[media_id]}


@put("/api/media/{media_id:str}/status", status_code=204)
async def set_status(request: _Request, media_id: FromPath[str], double: Told, user: User) -> None:
    """How far the medium has come."""
    double.check_known(media_id)
    double.store(_told(request, user, await request.json()))


@get("/api/users/{user_id:str}/ai-settings", sync_to_thread=False)
def ai_settings(user_id: FromPath[str], double: Told, user: User) -> dict[str, Any]:  # noqa: ARG001 - only users may ask
    """What the user has set for all detections."""
    return double.settings.get(user_id, {})


@post("/auth/refresh", status_code=200)
async def refresh(request: _Request, double: Told) -> dict[str, str]:
    """Another access token for a refresh token, which stays good."""
    body = await request.json()
    double.refreshing += 1
    double.seen.refreshes += 1
    double.seen.refreshes_at_once_max = max(double.seen.refreshes_at_once_max, double.refreshing)
    try:
        await asyncio.sleep(double.faults.refresh_s)
        user_id = _user_of_refresh_token(body.get("refreshToken", ""))
        if user_id is None or not double.faults.does_refresh:
            raise NotAuthorizedException
        return {"accessToken": double.issue(user_id)}
    finally:
        double.refreshing -= 1


@post(f"{OWN}/tokens", status_code=200)
async def issue_tokens(request: _Request, double: Told) -> dict[str, str]:
    """`{"userId"}` -> `{"accessToken", "refreshToken"}`: nobody is asked who they are."""
    user_id = (await request.json())["userId"]
    return {"accessToken": double.issue(user_id), "refreshToken": f"refresh-{user_id}"}


@put(f"{OWN}/faults", status_code=204)
async def switch_faults(request: _Request, double: Told) -> None:
    """Switch faults: the body is `Faults`, what is not said is as it should be."""
    double.faults = msgspec.json.decode(await request.body(), type=Faults)


@put(f"{OWN}/settings/{{user_id:str}}", status_code=204)
async def put_settings(request: _Request, user_id: FromPath[str], double: Told) -> None:
    """What a user has set for all detections."""
    double.settings[user_id] = await request.json()


@get(f"{OWN}/stored", sync_to_thread=False)
def get_stored(double: Told) -> list[Stored]:
    """Everything that was kept, in the order in which it came."""
    return double.stored


@get(f"{OWN}/seen", sync_to_thread=False)
def get_seen(double: Told) -> Seen:
    """What has happened since the start."""
    return double.seen


def build(double: Double) -> Litestar:
    """The application."""
    own = [issue_tokens, switch_faults, put_settings, get_stored, get_seen]
    return Litestar(
        [annotate, create_media, get_media, set_status, ai_settings, refresh, *own],
        dependencies={
            "double": Provide(lambda: double, sync_to_thread=False),
            "user": Provide(user_of, sync_to_thread=False),
        },
        middleware=[partial(with_faults, fault_of=double.fault_of)],
        openapi_config=None,
    )


def main() -> int:
    """Serve until SIGTERM."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("--port", type=int, default=8080)
    arguments.add_argument("--folder", type=Path, default=Path("annotations-double"))
    asked = arguments.parse_args()
    double = Double(asked.folder / "stored.jsonl")
    uvicorn.run(build(double), host="127.0.0.1", port=asked.port, log_level="warning", timeout_graceful_shutdown=1)
    return 0


def _told(request: _Request, user_id: str, body: dict[str, Any]) -> Stored:
    key = request.headers.get("idempotency-key")
    return Stored(method=request.method, path=request.url.path, key=key, user_id=user_id, body=body, at_s=time.time())


def _user_of_refresh_token(token: str) -> str | None:
    prefix, _, user_id = token.partition("-")
    return user_id if prefix == "refresh" and user_id else None


if __name__ == "__main__":
    sys.exit(main())
