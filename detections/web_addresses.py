"""Addresses of HTTP that a person gives: whether one can be any, and how it is shown."""

from urllib.parse import urlsplit

import httpx

_PORT_MAX = 65_535


def is_web_address(url: str) -> bool:
    """True for `http://` or `https://` with a host, and a port if any that there can be."""
    try:
        urlsplit(url)  # it refuses what httpx takes, and the other way round
        parts = httpx.URL(url)
        return parts.scheme in ("http", "https") and bool(parts.host) and 0 < (parts.port or 1) <= _PORT_MAX
    except (httpx.InvalidURL, ValueError):  # its subclasses: of a host that is no name
        return False


def shown(url: str) -> str:
    """The address without user and password, also one that is written wrongly."""
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}" if separator else url.rpartition("@")[2]
