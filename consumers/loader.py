"""The Loader, a service that keeps model files: one file is fetched or sent, within deadlines and bounds.

A server that drips, answers garbage or never ends costs time up to a deadline and disk up to a cap, never memory; what did
not arrive whole never gets its name.
"""

import asyncio
import contextlib
import hashlib
import os
import secrets
from collections.abc import AsyncGenerator
from http import HTTPStatus
from pathlib import Path
from urllib.parse import quote

import httpx
import msgspec

from contracts.failures import NOT_READ, Failure, FailureCode

FOLDER = "models"
"""The Loader's name of where models lie."""
CONNECT_TIMEOUT_S = 5.0
SILENCE_TIMEOUT_S = 30.0
"""Without a byte in either direction."""
TOTAL_TIMEOUT_S = 300.0
BYTES_MAX = 4 << 30
_BUSY = frozenset({429, 502, 503, 504})
"""Of a proxy before the Loader, or of one that is asked too much: whether it has the file nobody knows."""
_REASON_BYTES_MAX = 4_000
_CHUNK_BYTES = 1 << 20


class LoaderLimits(msgspec.Struct, frozen=True, kw_only=True):
    total_s: float = TOTAL_TIMEOUT_S
    """For one file, from the request to its last byte: a timeout between two bytes never ends a server that drips."""
    bytes_max: int = BYTES_MAX


class Refused(Failure):
    """The Loader is there and does not give the file; it has no other word for one that it does not have."""


class Loader:
    """A client of one Loader."""

    def __init__(self, url: str, *, folder: Path, limits: LoaderLimits | None = None) -> None:
        """folder: where fetched files go unless said otherwise."""
        self._url = url.rstrip("/")
        self._folder = folder
        self._limits = limits or LoaderLimits()

    async def fetch(
        self, filename: str, *, into: Path | None = None, sha256: str | None = None, bytes_max: int | None = None
    ) -> Path:
        """Where the file lies now, whole and in place of the one before.

        Raises `Refused` if the Loader answers that it can't, `Failure`: `engine_unavailable` if it is away, too slow or
        answers nonsense; `model_corrupt` for more than `bytes_max` or another checksum; `forbidden_path`.
        """
        path = (into or self._folder) / confined(filename)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")
        try:
            async with self._asked(filename) as client:
                digest = await self._receive(client, filename, temporary, bytes_max or self._limits.bytes_max)
            if sha256 not in (None, digest):
                raise Failure(
                    FailureCode.MODEL_CORRUPT, f"{filename} of the Loader: sha256 {digest}, expected {sha256}"
                )
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        return path

    async def upload(self, path: Path) -> None:
        """Return when the Loader has the file. Raises `Refused`, `Failure(engine_unavailable)`."""
        async with self._asked(path.name) as client:
            with await asyncio.to_thread(path.open, "rb") as file:
                parts, fields = {"data": (path.name, file)}, {"folder": FOLDER}
                url = f"{self._url}/upload/{quote(confined(path.name))}"
                async with client.stream("POST", url, files=parts, data=fields) as response:
                    if not response.is_success:
                        raise _refusal(path.name, response.status_code, await _beginning(response))

    async def _receive(self, client: httpx.AsyncClient, filename: str, temporary: Path, bytes_max: int) -> str:
        """Write the file; returns its sha256."""
        digest, received = hashlib.sha256(), 0
        asked = {"filename": filename, "folder": FOLDER}
        async with client.stream("POST", f"{self._url}/load/{quote(filename)}", json=asked) as response:
            if response.status_code != HTTPStatus.OK:
                raise _refusal(filename, response.status_code, await _beginning(response))
            with temporary.open("xb") as file:
                async for chunk in response.aiter_raw(_CHUNK_BYTES):
                    received += len(chunk)
                    if received > bytes_max:
                        detail = f"{filename} of the Loader has more than {bytes_max} bytes"
                        raise Failure(FailureCode.MODEL_CORRUPT, detail)
                    await asyncio.to_thread(file.write, chunk)
                    digest.update(chunk)
                await asyncio.to_thread(os.fsync, file.fileno())
        return digest.hexdigest()

    @contextlib.asynccontextmanager
    async def _asked(self, filename: str) -> AsyncGenerator[httpx.AsyncClient]:
        """A client for one question; what is wrong with the connection is a `Failure`."""
        waits = httpx.Timeout(SILENCE_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
        plain = {"Accept-Encoding": "identity"}  # what is unpacked may be larger than any cap
        try:
            verify = httpx.create_ssl_context() if self._url.startswith("https:") else True
        except OSError as error:
            raise self._away(filename, f"the certificates of the environment (SSL_CERT_FILE): {error}") from error
        client = httpx.AsyncClient(
            timeout=waits,
            headers=plain,
            follow_redirects=False,
            trust_env=False,  # but for whom to believe
            verify=verify,
        )
        try:
            async with client, asyncio.timeout(self._limits.total_s):
                yield client
        except TimeoutError:
            raise self._away(filename, f"not done within {self._limits.total_s:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            raise self._away(filename, str(error) or type(error).__name__) from error

    def _away(self, filename: str, why: str) -> Failure:
        return Failure(FailureCode.ENGINE_UNAVAILABLE, f"the Loader did not answer with {filename}: {why}")


def confined(filename: str) -> str:
    """The name, if it can only be a file in its folder. Raises `Failure(forbidden_path)`."""
    if not filename or filename in {".", ".."} or not filename.isprintable() or "/" in filename or "\\" in filename:
        raise Failure(FailureCode.FORBIDDEN_PATH, f"{filename!r} is no name of a model file")
    return filename


async def _beginning(response: httpx.Response) -> bytes:
    """The first bytes of an answer that says why."""
    body = b""
    async for chunk in response.aiter_raw(_REASON_BYTES_MAX):
        body += chunk
        if len(body) >= _REASON_BYTES_MAX:
            break
    return body[:_REASON_BYTES_MAX]


class _Reason(msgspec.Struct, frozen=True):
    detail: str


def _refusal(filename: str, status: int, body: bytes) -> Failure:
    """`Refused`, or that it is away for now."""
    try:
        reason = msgspec.json.decode(body, type=_Reason).detail
    except NOT_READ:
        reason = "no reason given"
    detail = f"the Loader does not give {filename}: {status} {reason}"
    return (
        Failure(FailureCode.ENGINE_UNAVAILABLE, detail)
        if status in _BUSY
        else Refused(FailureCode.MODEL_MISSING, detail)
    )
