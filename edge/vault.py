"""Tokens at rest: sealed with keys that only edges have, so that neither a message, a file nor a backup tells one.

Fernet (AES-128-CBC with HMAC-SHA256). The first key seals, all of them open: to rotate, put a new key first, and drop the
old one when nothing that it sealed is needed any more.
"""

from functools import cached_property

import msgspec
import structlog
from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from contracts.failures import Failure, FailureCode
from contracts.storage import Layout
from contracts.whole_files import create_file
from edge.disk import PRIVATE

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


class Sealer:
    """Encrypts with the newest key, decrypts with any. Its first use reads, or makes, the key in the storage, and blocks."""

    def __init__(self, configured: str, layout: Layout) -> None:
        """configured: Fernet keys separated by commas, the newest first; empty: one that all edges of the storage share."""
        self._configured = configured
        self._layout = layout

    @cached_property
    def _fernet(self) -> MultiFernet:
        return fernet_of(self._configured or _shared_key(self._layout))

    def encrypt(self, clear: bytes) -> bytes:
        return self._fernet.encrypt(clear)

    def decrypt(self, sealed: bytes) -> bytes | None:
        """What was encrypted, None if it was not with one of our keys."""
        try:
            return self._fernet.decrypt(sealed)
        except InvalidToken:
            return None


class Vault:
    """Seals credentials and opens them."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer

    def seal(self, credentials: Credentials, *, place: str) -> bytes:
        """The credentials, for this place alone: a name that no two tasks or sessions share."""
        return self._sealer.encrypt(msgspec.json.encode(_Sealed(place, credentials)))

    def open(self, sealed: bytes, *, place: str) -> Credentials:
        """What was sealed. Raises `Failure(unauthenticated)`: with another key, for another place, or not by us."""
        clear = self._sealer.decrypt(sealed)
        if clear is None:
            raise Failure(FailureCode.UNAUTHENTICATED, "the kept tokens cannot be opened with these keys")
        try:
            opened = msgspec.json.decode(clear, type=_Sealed)
        except msgspec.DecodeError as error:
            raise Failure(FailureCode.UNAUTHENTICATED, "the kept tokens are something else") from error
        if opened.place != place:
            raise Failure(FailureCode.UNAUTHENTICATED, "the kept tokens belong to something else")
        return opened.credentials


def fernet_of(keys: str) -> MultiFernet:
    """Fernet keys, separated by commas. Raises `ValueError` if one of them is none."""
    return MultiFernet([Fernet(key.strip()) for key in keys.split(",")])


def _shared_key(layout: Layout) -> str:
    if create_file(layout.seal_key, Fernet.generate_key(), mode=PRIVATE):
        _log.warning(
            "tokens are sealed with a key that lies beside them: set EDGE_SEAL_KEYS", path=str(layout.seal_key)
        )
    return layout.seal_key.read_text()
