"""Tokens at rest: sealed with keys that only edges have, so that neither a message, a file nor a backup tells one.

Fernet (AES-128-CBC with HMAC-SHA256). The first key seals, all of them open: to rotate, put a new key first, and drop the
old one when nothing that it sealed is needed any more.
"""

import msgspec
import structlog
from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from contracts.failures import Failure, FailureCode
from contracts.storage import Layout
from edge.disk import create_private

_log = structlog.get_logger()


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """What it takes to act for a user."""

    bearer: str
    refresh_token: str | None = None
    obtained_at_s: float = 0.0
    """Unix time at which we got them."""
    is_refreshed: bool = False
    """True if they came of a refresh, False if a client gave them."""

    def __repr__(self) -> str:
        return "Credentials(...)"


class _Sealed(msgspec.Struct, frozen=True, array_like=True):
    """What lies under the seal: credentials copied to another place do not open there."""

    place: str
    credentials: Credentials


class Vault:
    """Seals and opens."""

    def __init__(self, fernet: MultiFernet) -> None:
        self._fernet = fernet

    def seal(self, credentials: Credentials, *, place: str) -> bytes:
        """The credentials, for this place alone: a name that no two tasks or sessions share."""
        return self._fernet.encrypt(msgspec.json.encode(_Sealed(place, credentials)))

    def open(self, sealed: bytes, *, place: str) -> Credentials:
        """What was sealed. Raises `Failure(unauthenticated)`: with another key, for another place, or not by us."""
        try:
            opened = msgspec.json.decode(self._fernet.decrypt(sealed), type=_Sealed)
        except (InvalidToken, msgspec.DecodeError) as error:
            raise Failure(FailureCode.UNAUTHENTICATED, "the kept tokens cannot be opened with these keys") from error
        if opened.place != place:
            raise Failure(FailureCode.UNAUTHENTICATED, "the kept tokens belong to something else")
        return opened.credentials


def fernet_of(keys: str) -> MultiFernet:
    """What seals and opens with these keys: Fernet's, separated by commas, the newest first. Raises `ValueError`."""
    return MultiFernet([Fernet(key.strip()) for key in keys.split(",")])


def keys_of(configured: str, layout: Layout) -> str:
    """The configured keys, else the one in the storage, made if there is none: all edges of a storage share it. Blocks."""
    if configured:
        return configured
    if create_private(layout.seal_key, Fernet.generate_key()):
        _log.warning(
            "tokens are sealed with a key that was made now and lies beside them; set EDGE_SEAL_KEYS",
            path=str(layout.seal_key),
        )
    return layout.seal_key.read_text()
