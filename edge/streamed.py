"""One streamed body with the headers that go before it, whatever command follows from it."""

from functools import partial
from typing import Any

from litestar import Request, Response

from contracts.commands import AnyCommand
from contracts.failures import Failure, FailureCode
from edge import headers, resumption
from edge.auth import Caller
from edge.growing_body import UploadPlan
from edge.intake import Upload, VideoIntake
from edge.outcomes import Started
from edge.upload import UploadLimits, body_chunks

_Request = Request[Any, Any, Any]


async def take_streamed(
    request: _Request, command: AnyCommand, intake: VideoIntake, *, caller: Caller, limits: UploadLimits
) -> Response[Started | None]:
    """Store the body and have the command follow as soon as something of it is there.

    command: without an owner. With `Upload-Complete` the upload is resumable. Raises `Failure` as `VideoIntake.take`.
    """
    is_rest = resumption.is_rest(request)
    if is_rest is None:
        upload = Upload(command=command, plan=headers.upload_plan(request.headers), caller=caller)
        outcome = await intake.take(upload, body_chunks(request.receive))
        assert isinstance(outcome, Started)  # noqa: S101 - only a resumable upload comes in parts
        return Response(outcome, status_code=202, headers={"location": f"/tasks/{outcome.task_id}"})
    plan = _resumable_plan(request, is_rest=is_rest, limits=limits)
    upload = Upload(command=command, plan=plan, caller=caller, is_rest=is_rest)
    begun = partial(resumption.announce_resource, request, command.task_id, limits)
    with resumption.limits_told(limits):
        outcome = await intake.take(upload, body_chunks(request.receive), begun=begun)
    return resumption.answered(outcome, limits, part_status=201)


def _resumable_plan(request: _Request, *, is_rest: bool, limits: UploadLimits) -> UploadPlan:
    """Raises `Failure`: `malformed_request`, `length_required`, `upload_length_inconsistent`."""
    length_bytes, total_bytes = headers.content_length(request.headers), resumption.total_bytes(request)
    if is_rest and None not in (length_bytes, total_bytes) and length_bytes != total_bytes:
        detail = f"Content-Length says {length_bytes}, Upload-Length {total_bytes}"
        raise Failure(FailureCode.UPLOAD_LENGTH_INCONSISTENT, detail)
    if total_bytes is None and is_rest:
        total_bytes = length_bytes
    tail_bytes = headers.tail_bytes(request.headers, total_bytes=total_bytes)
    return UploadPlan(total_bytes=total_bytes, tail_bytes=tail_bytes, resume_s=limits.resume_s)
