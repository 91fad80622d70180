"""Who is let in, from the settings: what does not go together is said at the start, before anybody can come in."""

import ipaddress
import socket

from contracts.settings import ConfigurationError, is_address
from edge.auth import Auth
from edge.jwks import Jwks
from edge.jwts import Expected, Keys, SharedKey, Verifier
from edge.settings import EdgeSettings
from edge.vault import fernet_of


def check_admission(settings: EdgeSettings) -> None:
    """Raises `ConfigurationError` for an edge that would be open to a network, or could let nobody in."""
    if settings.auth == "off":
        _check_loopback(settings.host)
    else:
        _check_keys(settings)
    if settings.seal_keys:
        try:
            fernet_of(settings.seal_keys)
        except ValueError as error:
            raise ConfigurationError(
                "EDGE_SEAL_KEYS: a key is 32 bytes in URL-safe base64, several by commas"
            ) from error


def auth_of(settings: EdgeSettings) -> Auth:
    """What tells who calls. Raises `ValueError` for a key that `check_admission` refuses."""
    if settings.auth == "off":
        return Auth(None)
    keys: Keys = SharedKey(settings.jwt_key) if settings.jwt_key else Jwks(settings.jwt_jwks_url)
    expected = Expected(
        issuer=settings.jwt_issuer or None, audience=settings.jwt_audience or None, scope=settings.jwt_scope or None
    )
    return Auth(Verifier(keys, expected))


def _check_loopback(host: str) -> None:
    try:
        addresses = {str(address[0]) for *_, address in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except OSError as error:
        raise ConfigurationError(f"EDGE_HOST={host!r}: {error}") from error
    outside = sorted(address for address in addresses if not ipaddress.ip_address(address).is_loopback)
    if outside:
        raise ConfigurationError(
            f"EDGE_HOST={host!r} would let everybody in at {', '.join(outside)}: EDGE_AUTH=off is for loopback addresses. "
            "Set EDGE_AUTH=jwt and EDGE_JWT_KEY or EDGE_JWT_JWKS_URL, or EDGE_HOST=127.0.0.1"
        )


def _check_keys(settings: EdgeSettings) -> None:
    if bool(settings.jwt_key) == bool(settings.jwt_jwks_url):
        raise ConfigurationError("EDGE_AUTH=jwt needs EDGE_JWT_KEY or EDGE_JWT_JWKS_URL, one of them")
    if settings.jwt_key:
        try:
            SharedKey(settings.jwt_key)
        except ValueError as error:
            raise ConfigurationError(f"EDGE_JWT_KEY: {error}") from error
    elif not is_address(settings.jwt_jwks_url, "http", "https"):
        raise ConfigurationError(  # without it: a password may be in there
            "EDGE_JWT_JWKS_URL is not an http or https address (in a password / ? # @ : % are written as %2F, ...)"
        )
