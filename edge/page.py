"""`GET /`: the page for people. Its files are read once; what is not among them does not exist."""

import re
from functools import cache
from hashlib import sha256
from http import HTTPStatus
from pathlib import Path
from typing import Any

import msgspec
from litestar import Request, Response, get
from litestar.params import FromPath

from contracts.failures import Failure, FailureCode
from edge.failures import RequestFailed

FOLDER = Path(__file__).parent / "ui"
CONTENT_TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
POLICIES = (
    "default-src 'self'",
    "img-src 'self' blob:",  # the person's own files are shown from where they are, never sent back
    "media-src 'self' blob:",
    "object-src 'none'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
)
_HEADERS = {
    "content-security-policy": "; ".join(POLICIES),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-cache",  # asked for each time and answered 304: a page never mixes two versions
}

_ETAG = re.compile(r'"[^"]*"')
"""Of a list, without what marks it as weak: a proxy that compresses weakens the one that we gave (RFC 9110, 13.1.2)."""
_Request = Request[Any, Any, Any]


class PageFile(msgspec.Struct, frozen=True):
    """One file of the page, as it is sent."""

    content: bytes
    content_type: str
    etag: str


@cache
def page_files() -> dict[str, PageFile]:
    """The files of the page by name."""
    return {path.name: _read(path) for path in FOLDER.iterdir() if path.suffix in CONTENT_TYPES}


def _read(path: Path) -> PageFile:
    content = path.read_bytes()
    return PageFile(content, CONTENT_TYPES[path.suffix], f'"{sha256(content).hexdigest()[:32]}"')


@get("/", include_in_schema=False, sync_to_thread=False)
def page(request: _Request) -> Response[bytes]:
    """The page; it shows nothing of anybody by itself, so no token is asked for."""
    return _answer(request, "index.html")


@get("/ui/{name:str}", include_in_schema=False, sync_to_thread=False)
def page_file(request: _Request, name: FromPath[str]) -> Response[bytes]:
    """A script, a style sheet or a picture of the page."""
    return _answer(request, name)


def _answer(request: _Request, name: str) -> Response[bytes]:
    file = page_files().get(name)
    if file is None:
        failure = Failure(FailureCode.MEDIA_NOT_FOUND, "the page has no such file")
        raise RequestFailed(failure, status=HTTPStatus.NOT_FOUND)
    headers = _HEADERS | {"etag": file.etag}
    if file.etag in _ETAG.findall(request.headers.get("if-none-match", "")):
        return Response(b"", status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(file.content, media_type=file.content_type, headers=headers)


routes = [page, page_file]
