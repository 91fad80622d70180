"""Every failure as a client meets it: `application/problem+json` (RFC 9457) with a code that never changes."""

import errno
import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from uuid import uuid4

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException
from litestar.exceptions.http_exceptions import ValidationException
from litestar.types import Send

from contracts.failures import Failure, FailureCode
from edge.metrics import HTTP_FAILURES
from edge.request_end import note_problem, tell_unmatched

PROBLEM_JSON = "application/problem+json"
RETRY_AFTER_S = 5
"""What a client is told to wait when something that comes back by itself is missing."""

_Request = Request[Any, Any, Any]

STATUS: dict[FailureCode, HTTPStatus] = {
    FailureCode.MALFORMED_MESSAGE: HTTPStatus.BAD_REQUEST,
    FailureCode.UNKNOWN_TYPE: HTTPStatus.BAD_REQUEST,
    FailureCode.UNKNOWN_VERSION: HTTPStatus.BAD_REQUEST,
    FailureCode.MALFORMED_OPTIONS: HTTPStatus.BAD_REQUEST,
    FailureCode.OPTIONS_OUT_OF_RANGE: HTTPStatus.UNPROCESSABLE_ENTITY,
    FailureCode.MALFORMED_REQUEST: HTTPStatus.BAD_REQUEST,
    FailureCode.UNSUPPORTED_CONTENT_TYPE: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    FailureCode.FORBIDDEN_PATH: HTTPStatus.BAD_REQUEST,
    FailureCode.TASK_ID_IN_USE: HTTPStatus.CONFLICT,
    FailureCode.IDEMPOTENCY_KEY_IN_USE: HTTPStatus.CONFLICT,
    FailureCode.IDEMPOTENCY_KEY_REUSED: HTTPStatus.UNPROCESSABLE_ENTITY,
    FailureCode.LENGTH_REQUIRED: HTTPStatus.LENGTH_REQUIRED,
    FailureCode.TOO_LARGE: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    FailureCode.HEADERS_TOO_LARGE: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    FailureCode.HEADERS_STALLED: HTTPStatus.REQUEST_TIMEOUT,
    FailureCode.UNAUTHENTICATED: HTTPStatus.UNAUTHORIZED,
    FailureCode.FORBIDDEN: HTTPStatus.FORBIDDEN,
    FailureCode.EMPTY_MEDIA: HTTPStatus.BAD_REQUEST,
    FailureCode.UNSUPPORTED_MEDIA: HTTPStatus.BAD_REQUEST,
    FailureCode.UNREADABLE_MEDIA: HTTPStatus.BAD_REQUEST,
    FailureCode.NO_VIDEO_STREAM: HTTPStatus.BAD_REQUEST,
    FailureCode.NO_FRAMES: HTTPStatus.BAD_REQUEST,
    FailureCode.TOO_MANY_PIXELS: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    FailureCode.MEDIUM_MISSING: HTTPStatus.NOT_FOUND,
    FailureCode.DECODER_CRASHED: HTTPStatus.UNPROCESSABLE_ENTITY,
    FailureCode.DECODER_HUNG: HTTPStatus.UNPROCESSABLE_ENTITY,
    FailureCode.UPLOAD_ABORTED: HTTPStatus.BAD_REQUEST,
    FailureCode.UPLOAD_ABANDONED: HTTPStatus.BAD_REQUEST,
    FailureCode.UPLOAD_STALLED: HTTPStatus.REQUEST_TIMEOUT,
    FailureCode.LENGTH_MISMATCH: HTTPStatus.BAD_REQUEST,
    FailureCode.UPLOAD_NOT_FOUND: HTTPStatus.NOT_FOUND,
    FailureCode.UPLOAD_GONE: HTTPStatus.GONE,
    FailureCode.UPLOAD_BUSY: HTTPStatus.CONFLICT,
    FailureCode.UPLOAD_COMPLETED: HTTPStatus.BAD_REQUEST,
    FailureCode.UPLOAD_OFFSET_MISMATCH: HTTPStatus.CONFLICT,
    FailureCode.UPLOAD_LENGTH_INCONSISTENT: HTTPStatus.BAD_REQUEST,
    FailureCode.CANCELLED: HTTPStatus.CONFLICT,
    FailureCode.TASK_NOT_FOUND: HTTPStatus.NOT_FOUND,
    FailureCode.TASK_ENDED: HTTPStatus.CONFLICT,
    FailureCode.TASK_ABANDONED: HTTPStatus.GONE,
    FailureCode.TASK_NOT_FAILED: HTTPStatus.CONFLICT,
    FailureCode.MEDIA_NOT_FOUND: HTTPStatus.NOT_FOUND,
    FailureCode.MEDIA_BUSY: HTTPStatus.CONFLICT,
    FailureCode.INFERENCE_FAILED: HTTPStatus.UNPROCESSABLE_ENTITY,
    FailureCode.DURATION_LIMIT: HTTPStatus.UNPROCESSABLE_ENTITY,
    FailureCode.POISON: HTTPStatus.UNPROCESSABLE_ENTITY,
    FailureCode.DELIVERED_TOO_OFTEN: HTTPStatus.UNPROCESSABLE_ENTITY,
    FailureCode.ENGINE_UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    FailureCode.MODEL_MISSING: HTTPStatus.SERVICE_UNAVAILABLE,
    FailureCode.MODEL_CORRUPT: HTTPStatus.SERVICE_UNAVAILABLE,
    FailureCode.MODEL_NOT_A_DETECTOR: HTTPStatus.SERVICE_UNAVAILABLE,
    FailureCode.EDGE_STOPS: HTTPStatus.SERVICE_UNAVAILABLE,
    FailureCode.BROKER_UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    FailureCode.STORAGE_FULL: HTTPStatus.INSUFFICIENT_STORAGE,
    FailureCode.STORAGE_UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    FailureCode.IDENTITY_UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    FailureCode.NO_ANSWER: HTTPStatus.GATEWAY_TIMEOUT,
    FailureCode.ANNOTATIONS_UNAVAILABLE: HTTPStatus.BAD_GATEWAY,
    FailureCode.ANNOTATIONS_TIMEOUT: HTTPStatus.GATEWAY_TIMEOUT,
    FailureCode.ANNOTATIONS_REFUSED: HTTPStatus.BAD_GATEWAY,
    FailureCode.TOO_MANY_REQUESTS: HTTPStatus.TOO_MANY_REQUESTS,
    FailureCode.INTERNAL: HTTPStatus.INTERNAL_SERVER_ERROR,
}

_OF_THE_FRAMEWORK = {
    HTTPStatus.BAD_REQUEST: FailureCode.MALFORMED_REQUEST,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: FailureCode.TOO_LARGE,
}
"""What the framework refuses by itself and we refuse too: one code for a client."""

_REFUSED_BY_STORAGE = frozenset((errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.ESTALE))

_IANA = "https://iana.org/assignments/http-problem-types#"
TYPES: dict[FailureCode, str] = {
    FailureCode.UPLOAD_COMPLETED: f"{_IANA}completed-upload",
    FailureCode.UPLOAD_OFFSET_MISMATCH: f"{_IANA}mismatching-upload-offset",
    FailureCode.UPLOAD_LENGTH_INCONSISTENT: f"{_IANA}inconsistent-upload-length",
}
"""Types that a standard names (draft-ietf-httpbis-resumable-upload, section 8); others are ours."""


class Problem(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """An error in the form of RFC 9457."""

    type: str
    """`/problems/<code>`, relative to the service, or a registered one."""
    title: str
    status: int
    code: str
    """Stable: a client may branch on it."""
    detail: str
    """For people: names the value at fault."""
    instance: str | None = None
    """The path that was asked for."""
    task_id: str | None = None
    """The task that the failed request had already made, if any."""
    expected_offset: int | None = msgspec.field(default=None, name="expected-offset")
    """Where the upload stands, and with `provided-offset` what the client believed."""
    provided_offset: int | None = msgspec.field(default=None, name="provided-offset")


class RequestFailed(Exception):
    """A failure that knows more than its code: the status of the route's contract, or the task it belongs to."""

    def __init__(
        self,
        failure: Failure,
        *,
        status: HTTPStatus | None = None,
        task_id: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(str(failure))
        self.failure = failure
        self.status = status or STATUS[failure.code]
        self.task_id = task_id
        self.headers = headers or {}


class OffsetMismatch(RequestFailed):
    """An append at another place than the upload's end; it knows both."""

    def __init__(self, *, expected: int, provided: int) -> None:
        failure = Failure(
            FailureCode.UPLOAD_OFFSET_MISMATCH, f"the upload stands at byte {expected}, these begin at byte {provided}"
        )
        super().__init__(failure, headers={"upload-offset": str(expected), "upload-complete": "?0"})
        self.expected = expected
        self.provided = provided


def problem_type(code: FailureCode) -> str:
    """The `type` of a problem with this code."""
    return TYPES.get(code, f"/problems/{code}")


def title(code: FailureCode) -> str:
    """The code in words."""
    return code.replace("_", " ").capitalize()


def problem_of(failure: Failure) -> Problem:
    """What is said of a failure where nothing is known of the request."""
    code = failure.code
    return Problem(type=problem_type(code), title=title(code), status=STATUS[code], code=code, detail=failure.detail)


async def send_problem(send: Send, failure: Failure, *, headers: Mapping[str, str] = {}) -> None:
    """Answer with a failure where the framework does not, and end the connection with it."""
    problem = problem_of(failure)
    body = msgspec.json.encode(problem)
    said = [(name.encode(), value.encode()) for name, value in (closing_headers(body) | dict(headers)).items()]
    await send({"type": "http.response.start", "status": problem.status, "headers": said})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def closing_headers(body: bytes) -> dict[str, str]:
    """Of a problem after which the connection ends."""
    return {"content-type": PROBLEM_JSON, "content-length": str(len(body)), "connection": "close"}


def problem_response(problem: Problem, *, headers: dict[str, str] | None = None) -> "Response[Problem]":
    return Response(problem, status_code=problem.status, media_type=PROBLEM_JSON, headers=headers)


def _on_failure(request: _Request, failure: Failure) -> "Response[Problem]":
    return _on_request_failed(request, RequestFailed(failure))


def _on_request_failed(request: _Request, failed: RequestFailed) -> "Response[Problem]":
    HTTP_FAILURES.labels(failed.failure.code.value).inc()
    note_problem(failed.failure.code.value, failed.failure.detail, failed.status)
    offsets = failed if isinstance(failed, OffsetMismatch) else None
    problem = Problem(
        type=problem_type(failed.failure.code),
        title=title(failed.failure.code),
        status=failed.status,
        code=failed.failure.code,
        detail=failed.failure.detail,
        instance=request.url.path,
        task_id=failed.task_id,
        expected_offset=offsets and offsets.expected,
        provided_offset=offsets and offsets.provided,
    )
    headers = _closing(request) | _challenge(request, failed.status) | dict(failed.headers)
    if failed.status in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS):
        headers["retry-after"] = str(RETRY_AFTER_S)
    if failed.task_id is not None:
        headers["location"] = f"/tasks/{failed.task_id}"
    return problem_response(problem, headers=headers)


def _on_http_exception(request: _Request, error: HTTPException) -> "Response[Problem]":
    """What the framework refused: unknown paths and methods, parameters that do not fit."""
    status = HTTPStatus(error.status_code)
    if status in _OF_THE_FRAMEWORK:
        return _on_failure(request, Failure(_OF_THE_FRAMEWORK[status], _with_places(error)))
    code = status.phrase.lower().replace(" ", "_").replace("-", "_")
    HTTP_FAILURES.labels(code).inc()
    if "path_template" not in request.scope:
        structlog.contextvars.clear_contextvars()  # of the request before it on its connection
        tell_unmatched(request.method, request.url.path, status)
    else:
        note_problem(code, error.detail, status)
    problem = Problem(
        type=f"/problems/{code}",
        title=status.phrase,
        status=status,
        code=code,
        detail=_with_places(error),
        instance=request.url.path,
    )
    return problem_response(problem, headers=_closing(request) | (error.headers or {}))


def _on_os_error(request: _Request, error: OSError) -> "Response[Problem]":
    """A storage that is there and refuses: read-only, somebody else's, broken."""
    if error.errno not in _REFUSED_BY_STORAGE:
        return _on_anything_else(request, error)
    logging.getLogger(__name__).error("the storage refuses: %s %s", request.method, request.url.path, exc_info=error)
    return _on_failure(request, Failure(FailureCode.STORAGE_UNAVAILABLE, f"the storage refuses: {error.strerror}"))


def _on_anything_else(request: _Request, error: Exception) -> "Response[Problem]":
    """A defect of ours: the client gets a number to name, the log gets the rest."""
    incident = uuid4().hex[:12]
    logging.getLogger(__name__).error("incident %s: %s %s", incident, request.method, request.url.path, exc_info=error)
    return _on_failure(request, Failure(FailureCode.INTERNAL, f"incident {incident}: see the log of the edge"))


def _challenge(request: _Request, status: HTTPStatus) -> dict[str, str]:
    """What a token would have to be (RFC 6750); who sent none is told no error, as the RFC wants it."""
    match status:
        case HTTPStatus.UNAUTHORIZED if "authorization" in request.headers:
            return {"www-authenticate": 'Bearer error="invalid_token"'}
        case HTTPStatus.UNAUTHORIZED:
            return {"www-authenticate": "Bearer"}
        case HTTPStatus.FORBIDDEN:
            return {"www-authenticate": 'Bearer error="insufficient_scope"'}
        case _:
            return {}


def _closing(request: _Request) -> dict[str, str]:
    """A refused body is not read to its end, so its connection cannot carry another request."""
    return {} if request.method in ("GET", "HEAD", "DELETE", "OPTIONS") else {"connection": "close"}


def _with_places(error: HTTPException) -> str:
    if not isinstance(error, ValidationException) or not isinstance(error.extra, list):
        return error.detail
    places = [f"{place.get('key')}: {place.get('message')}" for place in error.extra if isinstance(place, dict)]
    return "; ".join([error.detail, *places])


EXCEPTION_HANDLERS: dict[int | type[Exception], Any] = {
    Failure: _on_failure,
    RequestFailed: _on_request_failed,
    HTTPException: _on_http_exception,
    OSError: _on_os_error,
    Exception: _on_anything_else,
}
