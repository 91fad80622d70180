"""Addresses of HTTP that a person gives: whether one can be any."""

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
