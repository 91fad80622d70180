"""The headers of resumable uploads, as draft-ietf-httpbis-resumable-upload-12 has them (interop version 8)."""

import contextlib
import re
from collections.abc import Callable, Generator, Mapping
from typing import Any

from litestar import Request, Response

from contracts.failures import Failure, FailureCode
from edge import headers
from edge.auth import Caller
from edge.failures import RequestFailed
from edge.outcomes import Appended, Started
from edge.resumable import Append, Standing
from edge.upload import UploadLimits

INTEROP_VERSION = "8"
"""The draft's own number of what clients and servers must agree on."""
PARTIAL_UPLOAD = "application/partial-upload"

_INTEGER = re.compile(r"[0-9]{1,15}")  # RFC 9651, an Item that is not negative
_BOOLEANS = {"?0": False, "?1": True}

_Request = Request[Any, Any, Any]
Interim = Callable[[int, Mapping[str, str]], None]
"""Sends a response that is not the last one of its request."""


def resource(task_id: str) -> str:
    """Where an upload is asked for and gone on with."""
    return f"/uploads/{task_id}"


def is_rest(request: _Request) -> bool | None:
    """`Upload-Complete`: whether this body ends the upload; None without the header, then the upload is not resumable.

    Raises `Failure(malformed_request)`.
    """
    value = request.headers.get("upload-complete")
    if value is not None and value not in _BOOLEANS:
        raise Failure(FailureCode.MALFORMED_REQUEST, "Upload-Complete is neither ?0 nor ?1")
    return None if value is None else _BOOLEANS[value]


def total_bytes(request: _Request) -> int | None:
    """`Upload-Length`. Raises `Failure(malformed_request)`."""
    return _integer(request, "Upload-Length")


def append(request: _Request, caller: Caller) -> Append:
    """What a PATCH says. Raises `Failure`: `malformed_request`, `unsupported_content_type`."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != PARTIAL_UPLOAD:
        raise Failure(FailureCode.UNSUPPORTED_CONTENT_TYPE, f"the Content-Type is not {PARTIAL_UPLOAD}")
    offset_bytes = _integer(request, "Upload-Offset")
    rest = is_rest(request)
    if offset_bytes is None or rest is None:
        raise Failure(FailureCode.MALFORMED_REQUEST, "Upload-Offset or Upload-Complete is missing")
    return Append(
        caller=caller,
        offset_bytes=offset_bytes,
        is_rest=rest,
        length_bytes=headers.content_length(request.headers),
        total_bytes=total_bytes(request),
    )


def limits_header(limits: UploadLimits) -> dict[str, str]:
    """`Upload-Limit`: the largest upload, and how long it waits for its client."""
    return {"upload-limit": f"max-size={limits.bytes_max}, max-age={limits.resume_s}"}


@contextlib.contextmanager
def limits_told(limits: UploadLimits) -> Generator[None]:
    """Around an upload: what is too large is told how large it may be."""
    try:
        yield
    except Failure as failure:
        if failure.code is not FailureCode.TOO_LARGE:
            raise
        raise RequestFailed(failure, headers=limits_header(limits)) from failure


def standing_headers(standing: Standing, limits: UploadLimits) -> dict[str, str]:
    """What is answered to a HEAD."""
    said = {
        "upload-offset": str(standing.offset_bytes),
        "upload-complete": "?1" if standing.is_complete else "?0",
        "cache-control": "no-store",
    }
    if standing.total_bytes is not None:
        said["upload-length"] = str(standing.total_bytes)
    return said | limits_header(limits)


def announce_resource(request: _Request, task_id: str, limits: UploadLimits) -> None:
    """104 Upload Resumption Supported, to a client that speaks this version, where the server can send it."""
    interim: Interim | None = request.scope.get("state", {}).get("interim")
    if interim is not None and request.headers.get("upload-draft-interop-version") == INTEROP_VERSION:
        version = {"upload-draft-interop-version": INTEROP_VERSION}
        interim(104, {"location": resource(task_id)} | version | limits_header(limits))


def answered(outcome: Started | Appended, limits: UploadLimits, *, part_status: int) -> Response[Started | None]:
    """The last response to a part of an upload. part_status: of one that more must follow."""
    match outcome:
        case Started():
            said = {"location": f"/tasks/{outcome.task_id}", "upload-complete": "?1"}
            return Response(outcome, status_code=202, headers=said)
        case Appended():
            said = {"location": resource(outcome.task_id), "upload-complete": "?0"} | limits_header(limits)
            said["upload-offset"] = str(outcome.offset_bytes)
            return Response(None, status_code=part_status, headers=said)


def _integer(request: _Request, name: str) -> int | None:
    text = request.headers.get(name.lower())
    if text is None:
        return None
    if not _INTEGER.fullmatch(text):
        raise Failure(FailureCode.MALFORMED_REQUEST, f"{name} is not a number of bytes")
    return int(text)
