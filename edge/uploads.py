"""Uploads that have begun: where one stands, and the rest of it (draft-ietf-httpbis-resumable-upload)."""

from http import HTTPStatus
from typing import Any

from litestar import Request, Response, head, patch
from litestar.di import NamedDependency
from litestar.params import FromPath

from contracts.failures import FailureCode
from edge import resumption
from edge.auth import Caller
from edge.describing import FAILED_MEANWHILE, STANDING, TASK_AT, WHOLE, AppendedBytes, part_taken, problems
from edge.headers import check_single, is_task_id
from edge.intake import VideoIntake
from edge.outcomes import Started
from edge.resumable import no_upload
from edge.upload import UploadLimits, body_chunks

_Request = Request[Any, Any, Any]

_REFUSALS = (
    FailureCode.UPLOAD_NOT_FOUND,
    FailureCode.UPLOAD_GONE,
    FailureCode.UPLOAD_BUSY,
)


@head(
    "/uploads/{task_id:str}",
    operation_id="getUpload",
    summary="Where a resumable upload stands",
    status_code=204,
    response_headers=STANDING,
    responses=problems(*_REFUSALS),
)
async def get_upload(
    task_id: FromPath[str],
    video_intake: NamedDependency[VideoIntake],
    upload_limits: NamedDependency[UploadLimits],
    caller: NamedDependency[Caller],
) -> Response[None]:
    """`Upload-Offset` and `Upload-Complete`; a connection on which the upload still seems to arrive is cut first."""
    standing = await video_intake.standing(_checked(task_id), caller)
    location = {"location": f"/tasks/{task_id}"} if standing.is_complete else {}
    said = resumption.standing_headers(standing, upload_limits)
    return Response(None, status_code=204, headers=said | location)


@patch(
    "/uploads/{task_id:str}",
    operation_id="appendUpload",
    summary="Go on with a resumable upload",
    operation_class=AppendedBytes,
    status_code=202,
    response_headers=(TASK_AT, WHOLE),
    request_max_body_size=None,
    responses=part_taken(HTTPStatus.NO_CONTENT)
    | problems(
        *_REFUSALS,
        FailureCode.UPLOAD_OFFSET_MISMATCH,
        FailureCode.UPLOAD_COMPLETED,
        FailureCode.UPLOAD_LENGTH_INCONSISTENT,
        FailureCode.EMPTY_MEDIA,
        FailureCode.UPLOAD_STALLED,
        FailureCode.UNSUPPORTED_CONTENT_TYPE,
        FailureCode.TOO_LARGE,
        FailureCode.TOO_MANY_REQUESTS,
        FailureCode.STORAGE_FULL,
        FailureCode.BROKER_UNAVAILABLE,
        also=FAILED_MEANWHILE,
    ),
)
async def append_upload(
    request: _Request,
    task_id: FromPath[str],
    video_intake: NamedDependency[VideoIntake],
    upload_limits: NamedDependency[UploadLimits],
    caller: NamedDependency[Caller],
) -> Response[Started | None]:
    """The next bytes; answered as the request that began the upload would have been, once all are there."""
    check_single(request.headers)
    append = resumption.append(request, caller)
    with resumption.limits_told(upload_limits):
        outcome = await video_intake.go_on(_checked(task_id), append, body_chunks(request.receive))
    return resumption.answered(outcome, upload_limits, part_status=204)


def _checked(task_id: str) -> str:
    """Raises `Failure(upload_not_found)` for what is no task id: it would name a folder."""
    if not is_task_id(task_id):
        raise no_upload("by that name")
    return task_id


routes = [get_upload, append_upload]
