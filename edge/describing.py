"""What `/schema` says beyond the signatures: bodies that are streams, their headers, and every failure by its code."""

from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import msgspec
from litestar.datastructures import ResponseHeader
from litestar.openapi import ResponseSpec
from litestar.openapi.spec import Example, OpenAPIMediaType, Operation, Parameter, RequestBody, Schema
from litestar.openapi.spec.enums import OpenAPIFormat, OpenAPIType

from contracts.commands import TASK_ID_PATTERN
from contracts.failures import FailureCode
from contracts.media import TAIL_BYTES_MAX
from contracts.options import DetectionOptions
from edge.failures import PROBLEM_JSON, STATUS, Problem, problem_type, title
from edge.headers import NAME_CHARS_MAX
from edge.resumption import PARTIAL_UPLOAD

_EVERYWHERE = (
    FailureCode.MALFORMED_REQUEST,
    FailureCode.UNAUTHENTICATED,
    FailureCode.FORBIDDEN,
    FailureCode.IDENTITY_UNAVAILABLE,
    FailureCode.STORAGE_UNAVAILABLE,
    FailureCode.EDGE_STOPS,
)
"""What may be wrong on every route that wants to know who asks."""
TASK_FAILURES: tuple[FailureCode, ...] = (
    FailureCode.UNSUPPORTED_MEDIA,
    FailureCode.UNREADABLE_MEDIA,
    FailureCode.NO_VIDEO_STREAM,
    FailureCode.NO_FRAMES,
    FailureCode.TOO_MANY_PIXELS,
    FailureCode.DECODER_CRASHED,
    FailureCode.DECODER_HUNG,
    FailureCode.DURATION_LIMIT,
    FailureCode.INFERENCE_FAILED,
    FailureCode.ENGINE_UNAVAILABLE,
    FailureCode.MODEL_MISSING,
    FailureCode.MODEL_CORRUPT,
    FailureCode.MODEL_NOT_A_DETECTOR,
    FailureCode.MEDIUM_MISSING,
    FailureCode.STORAGE_FULL,
    FailureCode.CANCELLED,
    FailureCode.POISON,
    FailureCode.DELIVERED_TOO_OFTEN,
    FailureCode.INTERNAL,
)
"""What a task may end of."""
FAILED_MEANWHILE: dict[HTTPStatus, tuple[FailureCode, ...]] = {HTTPStatus.UNPROCESSABLE_ENTITY: TASK_FAILURES}
"""The same while its upload still arrives."""
_TEXT = Schema(type=OpenAPIType.STRING)
_FLAG = Schema(type=OpenAPIType.STRING, enum=["?0", "?1"])
_BYTES = Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.BINARY)
_OCTETS = {"application/octet-stream": OpenAPIMediaType(schema=_BYTES)}
_STREAM = "the file's bytes; with X-Tail-Bytes the last N of them first, then the rest"
_KEY = "the same request with the same key gets the first answer again for 24 h"
_REFRESH = "trades in for another token when the bearer has ended, to go on telling the Annotations service"


def _said(name: str, description: str) -> ResponseHeader:
    return ResponseHeader(name=name, documentation_only=True, description=description)


TASK_AT = _said("Location", "the task")
WARNED = _said("warnings", "config fields that were ignored; that the medium is cut or damaged")
WHOLE = _said("Upload-Complete", "`?1`: all bytes are there")
STANDING = (
    _said("Upload-Offset", "bytes that are stored: where to go on"),
    _said("Upload-Complete", "`?1`: all bytes are there, and Location is the task"),
    _said("Upload-Length", "bytes of the whole upload, once they are known"),
    _said("Upload-Limit", "`max-size` in bytes, `max-age` in s: how long it waits for its client"),
    TASK_AT,
)


def _self_contained(struct: type[msgspec.Struct]) -> Any:
    """The JSON schema of a struct with the structs in it in their places: it may stand anywhere in a document."""
    _, components = msgspec.json.schema_components([struct], ref_template="{name}")

    def inlined(part: Any) -> Any:
        match part:
            case {"$ref": name}:
                return inlined(components[name])
            case dict():
                return {key: inlined(value) for key, value in part.items()}
            case list():
                return [inlined(value) for value in part]
            case _:
                return part

    return inlined(components[struct.__name__])


_CONFIG = Schema(
    type=OpenAPIType.STRING,
    content_media_type="application/json",
    content_schema=_self_contained(DetectionOptions),
    description="DetectionOptions",
)


def problems(
    *codes: FailureCode, also: dict[HTTPStatus, tuple[FailureCode, ...]] | None = None, is_for_all: bool = False
) -> dict[int, ResponseSpec]:
    """The failures of a route, by status; `also` for those whose status is the route's own.

    is_for_all: nobody is asked who they are, so what may be wrong with that is left out.
    """
    by_status: dict[int, list[FailureCode]] = {}
    for code in dict.fromkeys(codes if is_for_all else (*_EVERYWHERE, *codes)):
        by_status.setdefault(STATUS[code], []).append(code)
    for status, more in (also or {}).items():
        by_status.setdefault(status, []).extend(more)
    return {status: _problem(status, codes) for status, codes in sorted(by_status.items())}


def answer(content: Any, description: str, *, media_type: str = "application/json") -> ResponseSpec:
    """A success that the signature does not tell."""
    return ResponseSpec(content, generate_examples=False, description=description, media_type=media_type)


def part_taken(status: HTTPStatus) -> dict[int, ResponseSpec]:
    """The answer to a part of an upload that is not its last one."""
    return {status: ResponseSpec(None, description="these bytes are stored; more must follow")}


@dataclass
class ForUser(Operation):
    """Something that the Annotations service may be told of, with its caller's tokens."""

    def __post_init__(self) -> None:
        self.parameters = [*(self.parameters or []), _header("X-Refresh-Token", _TEXT, _REFRESH)]


@dataclass
class StreamedVideo(ForUser):
    """A raw body with the headers of `POST /detect/video`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.request_body = RequestBody(required=True, description=_STREAM, content=dict(_OCTETS))
        name = Schema(type=OpenAPIType.STRING, max_length=NAME_CHARS_MAX)
        tail = Schema(type=OpenAPIType.INTEGER, minimum=1, maximum=TAIL_BYTES_MAX)
        task_id = Schema(type=OpenAPIType.STRING, pattern=TASK_ID_PATTERN)
        self.parameters = [
            *(self.parameters or []),
            _header("X-Filename", name, "the file's name, percent-encoded UTF-8; never a path", is_required=True),
            _header("X-Config", _CONFIG, "what to look for and how"),
            _header(
                "X-Task-Id",
                task_id,
                "a UUID of the client's choice, to listen before it sends; sent again it is refused",
            ),
            _header("X-Tail-Bytes", tail, "the body begins with the file's last N bytes; needs Content-Length"),
            _header("Upload-Complete", _FLAG, "makes the upload resumable; `?0`: more will follow (`PATCH /uploads`)"),
            _UPLOAD_LENGTH,
        ]


@dataclass
class AppendedBytes(ForUser):
    """The body and the headers of `PATCH /uploads/{task_id}`, beside what its signature tells."""

    def __post_init__(self) -> None:
        super().__post_init__()
        content = {PARTIAL_UPLOAD: OpenAPIMediaType(schema=_BYTES)}
        self.request_body = RequestBody(required=True, description="the next bytes", content=content)
        offset = Schema(type=OpenAPIType.INTEGER, minimum=0)
        self.parameters = [
            *(self.parameters or []),
            _header("Upload-Offset", offset, "where these bytes begin: where the upload stands", is_required=True),
            _header("Upload-Complete", _FLAG, "`?1`: these are the last ones", is_required=True),
            _UPLOAD_LENGTH,
        ]


@dataclass
class DetectForm(ForUser):
    """The form of `POST /detect`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.request_body = RequestBody(required=True, content=_form())
        prefer = _header("Prefer", _TEXT, "`respond-async`: answer 202 as soon as the medium is stored")
        self.parameters = [*(self.parameters or []), prefer, _header("Idempotency-Key", _TEXT, _KEY)]


@dataclass
class StoredMedium(ForUser):
    """The headers of `POST /detect/{media_id}` and `POST /shots/{media_id}`, beside what their signatures tell."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.parameters = [*(self.parameters or []), _header("Idempotency-Key", _TEXT, _KEY)]


@dataclass
class StreamedOrForm(StreamedVideo):
    """A raw body as that of `POST /detect/video`, or a form as that of `POST /detect`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.request_body = RequestBody(required=True, description=_STREAM, content=_OCTETS | _form())
        self.parameters = [*(self.parameters or []), _header("Idempotency-Key", _TEXT, f"of a form: {_KEY}")]


def _form() -> dict[str, OpenAPIMediaType]:
    fields = {"file": _BYTES, "config": _CONFIG}
    form = Schema(type=OpenAPIType.OBJECT, properties=dict(fields), required=["file"])
    return {"multipart/form-data": OpenAPIMediaType(schema=form)}


def _header(name: str, schema: Schema, description: str, *, is_required: bool = False) -> Parameter:
    return Parameter(name=name, param_in="header", schema=schema, description=description, required=is_required)


_UPLOAD_LENGTH = _header(
    "Upload-Length",
    Schema(type=OpenAPIType.INTEGER, minimum=0),
    "bytes of the whole of a resumable upload, where no Content-Length tells it",
)


def _problem(status: int, codes: Iterable[FailureCode]) -> ResponseSpec:
    examples = [
        Example(
            summary=code.value,
            value={"type": problem_type(code), "title": title(code), "status": status, "code": code, "detail": "..."},
        )
        for code in codes
    ]
    return ResponseSpec(
        Problem,
        generate_examples=False,
        description=f"{HTTPStatus(status).phrase}: {', '.join(codes)}",
        media_type=PROBLEM_JSON,
        examples=examples,
    )
