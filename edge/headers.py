"""What a client says of its upload in headers, read strictly: a wrong value is refused with the name of its header."""

import re
from collections.abc import Mapping, Sequence
from typing import Protocol
from urllib.parse import quote, unquote_to_bytes
from uuid import uuid4

from contracts.commands import TASK_ID_PATTERN
from contracts.failures import Failure, FailureCode
from contracts.media import TAIL_BYTES_MAX, VIDEO_EXTENSIONS, MediumKind, kind_by_extension
from edge.growing_body import UploadPlan

NAME_CHARS_MAX = 255
WARNED_FIELDS_MAX = 10
WARNED_CHARS_MAX = 64

_TASK_ID = re.compile(TASK_ID_PATTERN)
_DIGITS = re.compile(r"[0-9]{1,18}")
_CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f]")

Headers = Mapping[str, str]

SINGLE = (
    "content-type",
    "idempotency-key",
    "upload-complete",
    "upload-length",
    "upload-offset",
    "x-config",
    "x-filename",
    "x-tail-bytes",
    "x-task-id",
)
"""What can be meant once only: of two, a proxy may believe the one and we the other."""


class RepeatableHeaders(Protocol):
    """Headers that know that one may come more than once."""

    def getall(self, key: str, default: list[str], /) -> list[str]: ...


def check_single(headers: RepeatableHeaders) -> None:
    """Raises `Failure(malformed_request)` for a header of ours that comes more than once."""
    for name in SINGLE:
        if len(headers.getall(name, [])) > 1:
            raise Failure(FailureCode.MALFORMED_REQUEST, f"{name} comes more than once")


def file_name(header: str | None) -> str:
    """The client's file name: data, never a path.

    header: percent-encoded or raw UTF-8, as the server decoded it (Latin-1). Raises `Failure(malformed_request)`.
    """
    if not header:
        raise Failure(FailureCode.MALFORMED_REQUEST, "X-Filename is missing")
    try:
        name = unquote_to_bytes(header.encode("latin-1")).decode("utf-8")
    except UnicodeError as error:
        raise Failure(FailureCode.MALFORMED_REQUEST, "X-Filename is not UTF-8") from error
    return checked_name(name, where="X-Filename")


def config(header: str | None) -> bytes | None:
    """The bytes of `X-Config`, as the client sent them: raw UTF-8, which the server decoded as Latin-1."""
    return None if header is None else header.encode("latin-1")


def checked_name(name: str, *, where: str) -> str:
    """The name itself. Raises `Failure(malformed_request)` for one that nobody can have meant."""
    if len(name) > NAME_CHARS_MAX:
        raise Failure(FailureCode.MALFORMED_REQUEST, f"{where} has {len(name)} characters, {NAME_CHARS_MAX} at most")
    if _CONTROL_CHARACTERS.search(name):
        raise Failure(FailureCode.MALFORMED_REQUEST, f"{where} has a control character")
    return name


def video_name(header: str | None) -> str:
    """As `file_name`. Raises `Failure(unsupported_media)` too, if the extension is not one of a video."""
    name = file_name(header)
    if kind_by_extension(name) is not MediumKind.VIDEO:
        known = ", ".join(sorted(VIDEO_EXTENSIONS))
        raise Failure(FailureCode.UNSUPPORTED_MEDIA, f"X-Filename has not the extension of a video: {known}")
    return name


def is_task_id(text: str) -> bool:
    """False for what could name anything but the folder of a task."""
    return _TASK_ID.fullmatch(text) is not None


def task_id(header: str | None) -> str:
    """The client's task id, or a new one. Raises `Failure(malformed_request)`."""
    if header is None:
        return str(uuid4())
    if not is_task_id(header):
        raise Failure(FailureCode.MALFORMED_REQUEST, "X-Task-Id is not a UUID in lower case")
    return header


def upload_plan(headers: Headers) -> UploadPlan:
    """What the headers announce. Raises `Failure`: `malformed_request`, `length_required`."""
    total_bytes = content_length(headers)
    return UploadPlan(total_bytes=total_bytes, tail_bytes=tail_bytes(headers, total_bytes=total_bytes))


def tail_bytes(headers: Headers, *, total_bytes: int | None) -> int:
    """`X-Tail-Bytes` of an upload of that length, 0 without it. Raises `Failure`: `malformed_request`, `length_required`."""
    if "x-tail-bytes" not in headers:
        return 0
    tail = _number(headers.get("x-tail-bytes"), "X-Tail-Bytes") or 0
    if total_bytes is None:
        raise Failure(FailureCode.LENGTH_REQUIRED, "X-Tail-Bytes needs Content-Length, or Upload-Length")
    if not 1 <= tail <= min(TAIL_BYTES_MAX, total_bytes - 1):
        allowed = f"1..{TAIL_BYTES_MAX} and less than Content-Length"
        raise Failure(FailureCode.MALFORMED_REQUEST, f"X-Tail-Bytes is {tail}, not {allowed}")
    return tail


def content_length(headers: Headers) -> int | None:
    """None for a chunked body. Raises `Failure(malformed_request)`."""
    return _number(headers.get("content-length"), "Content-Length")


def is_form(content_type: str | None) -> bool:
    """Whether a body is a form, and not the file itself."""
    return (content_type or "").partition(";")[0].strip().lower() == "multipart/form-data"


def prefers_async(values: Sequence[str]) -> bool:
    """Whether the `Prefer` headers (RFC 7240) ask for an answer before the work is done."""
    preferences = (part.partition(";")[0].strip().lower() for value in values for part in value.split(","))
    return "respond-async" in preferences


def warnings(unknown_fields: Sequence[str], *, is_partial: bool = False) -> dict[str, str]:
    """The `warnings` header: fields that were ignored, a medium that was cut; no header if there is nothing to say."""
    said: list[str] = []
    if unknown_fields:
        named = [quote(name[:WARNED_CHARS_MAX], safe="") for name in unknown_fields[:WARNED_FIELDS_MAX]]
        more = len(unknown_fields) - len(named)
        said.append(f"unknown config fields ignored: {', '.join(named)}" + (f" and {more} more" if more else ""))
    if is_partial:
        said.append("the medium is cut or damaged: these are the detections of what could be decoded")
    return {"warnings": "; ".join(said)} if said else {}


def _number(text: str | None, name: str) -> int | None:
    if text is None:
        return None
    if not _DIGITS.fullmatch(text):
        raise Failure(FailureCode.MALFORMED_REQUEST, f"{name} is not a number of bytes")
    return int(text)
