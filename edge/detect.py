"""Media come in: a raw stream that is looked at while it arrives, or a form that is answered when it has been looked at."""

from collections.abc import Mapping
from functools import partial
from http import HTTPStatus
from typing import Any
from uuid import uuid4

from litestar import Request, Response, post
from litestar.di import NamedDependency
from litestar.response import Stream

from contracts.commands import COMMANDS, TaskKind
from contracts.detections import Detection, TimedDetection
from contracts.failures import Failure, FailureCode
from contracts.media import MediumKind
from contracts.options import read_options
from contracts.storage import upload_medium
from edge import headers
from edge.announce import Announcer
from edge.auth import Caller
from edge.describing import (
    FAILED_MEANWHILE,
    TASK_AT,
    TASK_FAILURES,
    WARNED,
    WHOLE,
    DetectForm,
    StreamedOrForm,
    StreamedVideo,
    answer,
    part_taken,
    problems,
)
from edge.failures import RequestFailed
from edge.form_intake import FormUpload
from edge.forms import Forms
from edge.idempotency import checked_key
from edge.intake import VideoIntake
from edge.outcomes import AnyOutcome, PictureSeen, Refused, Started, TaskStarted, VideoSeen
from edge.rendering import pieces, timed_detections
from edge.streamed import take_streamed
from edge.upload import UploadLimits, body_chunks, client_gone

_Request = Request[Any, Any, Any]

_REFUSALS = (
    FailureCode.MALFORMED_OPTIONS,
    FailureCode.EMPTY_MEDIA,
    FailureCode.UNSUPPORTED_MEDIA,
    FailureCode.LENGTH_MISMATCH,
    FailureCode.UPLOAD_STALLED,
    FailureCode.TOO_LARGE,
    FailureCode.TOO_MANY_REQUESTS,
    FailureCode.OPTIONS_OUT_OF_RANGE,
    FailureCode.STORAGE_FULL,
)
"""What may be wrong with any medium that comes in."""
_STREAMED_REFUSALS = (
    *_REFUSALS,
    FailureCode.LENGTH_REQUIRED,
    FailureCode.UPLOAD_LENGTH_INCONSISTENT,
    FailureCode.TASK_ID_IN_USE,
    FailureCode.BROKER_UNAVAILABLE,
)


@post(
    "/detect/video",
    operation_id="detectVideo",
    operation_class=StreamedVideo,
    summary="Detect in a video while it is uploaded",
    status_code=202,
    response_headers=(TASK_AT, WARNED, WHOLE),
    request_max_body_size=None,
    responses=part_taken(HTTPStatus.CREATED)
    | problems(*_STREAMED_REFUSALS, FailureCode.UNSUPPORTED_CONTENT_TYPE, also=FAILED_MEANWHILE),
)
async def detect_video(
    request: _Request,
    video_intake: NamedDependency[VideoIntake],
    upload_limits: NamedDependency[UploadLimits],
    caller: NamedDependency[Caller],
) -> Response[Started | None]:
    """Store a video and look at it while it arrives; its detections are events of `GET /detect/stream`."""
    if headers.is_form(request.headers.get("content-type")):
        detail = "the body of POST /detect/video is the file itself, not a form: POST /detect takes forms"
        raise Failure(FailureCode.UNSUPPORTED_CONTENT_TYPE, detail)
    return await _streamed(request, video_intake, caller, upload_limits, kind=TaskKind.VIDEO)


@post(
    "/shots",
    operation_id="findShots",
    operation_class=StreamedOrForm,
    summary="Find the shots of a video while it is uploaded",
    status_code=202,
    response_headers=(TASK_AT, WARNED, WHOLE),
    request_max_body_size=None,
    responses=part_taken(HTTPStatus.CREATED)
    | problems(
        *_STREAMED_REFUSALS,
        FailureCode.IDEMPOTENCY_KEY_IN_USE,
        FailureCode.IDEMPOTENCY_KEY_REUSED,
        also=FAILED_MEANWHILE,
    ),
)
async def find_shots(
    request: _Request,
    video_intake: NamedDependency[VideoIntake],
    forms: NamedDependency[Forms],
    announcer: NamedDependency[Announcer],
    *,
    upload_limits: NamedDependency[UploadLimits],
    caller: NamedDependency[Caller],
) -> Response[Any]:
    """Store a video and find its shots while it arrives; each is an event of `GET /detect/stream` once it is certain.

    The body is the file itself, or a form, whose task starts when it is stored.
    """
    if not headers.is_form(request.headers.get("content-type")):
        return await _streamed(request, video_intake, caller, upload_limits, kind=TaskKind.SHOTS)
    form = FormUpload(
        task_id=headers.task_id(request.headers.get("x-task-id")),
        content_type=request.headers.get("content-type"),
        content_length=headers.content_length(request.headers),
        caller=caller,
        is_answered_later=True,
        kind=TaskKind.SHOTS,
    )
    return _answer(await _outcome(request, forms, form), announcer)


@post(
    "/detect",
    operation_id="detect",
    operation_class=DetectForm,
    summary="Detect in a picture or a video and wait for it",
    status_code=200,
    response_headers=(TASK_AT, WARNED),
    request_max_body_size=None,
    responses={
        200: answer(
            list[Detection | TimedDetection],
            "what is seen, perhaps nothing; of a video every reported frame's detections, each with its videoTime",
        ),
        202: answer(Started, "stored, its task has started (`Prefer: respond-async`)"),
    }
    | problems(
        *_REFUSALS,
        *TASK_FAILURES,
        FailureCode.UNSUPPORTED_CONTENT_TYPE,
        FailureCode.IDEMPOTENCY_KEY_IN_USE,
        FailureCode.IDEMPOTENCY_KEY_REUSED,
        FailureCode.BROKER_UNAVAILABLE,
        FailureCode.NO_ANSWER,
    ),
)
async def detect(
    request: _Request,
    forms: NamedDependency[Forms],
    announcer: NamedDependency[Announcer],
    caller: NamedDependency[Caller],
) -> Response[Any]:
    """Look at a picture or a video and answer with what is seen; with `Prefer: respond-async` answer when it is stored."""
    form = FormUpload(
        task_id=str(uuid4()),
        content_type=request.headers.get("content-type"),
        content_length=headers.content_length(request.headers),
        caller=caller,
        is_answered_later=headers.prefers_async(request.headers.getall("prefer", [])),
    )
    applied = {"preference-applied": "respond-async"} if form.is_answered_later else {}
    return _answer(await _outcome(request, forms, form), announcer, applied=applied)


async def _streamed(
    request: _Request, video_intake: VideoIntake, caller: Caller, limits: UploadLimits, *, kind: TaskKind
) -> Response[Started | None]:
    """Take a raw body in, whatever is to be done with the video."""
    headers.check_single(request.headers)
    read = read_options(headers.config(request.headers.get("x-config")))
    task_id = headers.task_id(request.headers.get("x-task-id"))
    name = headers.video_name(request.headers.get("x-filename"))
    medium = upload_medium(task_id, kind=MediumKind.VIDEO, name=name, is_growing=True)
    command = COMMANDS[kind](task_id=task_id, medium=medium, options=read.options)
    response = await take_streamed(request, command, video_intake, caller=caller, limits=limits)
    response.headers.update(headers.warnings(read.unknown_fields))
    return response


async def _outcome(request: _Request, forms: Forms, form: FormUpload) -> AnyOutcome:
    """Take a form in, and what came of it."""
    headers.check_single(request.headers)
    key = checked_key(request.headers.get("idempotency-key"), user_id=form.caller.user_id)
    return await forms.answer(form, body_chunks(request.receive), partial(client_gone, request.receive), key)


def _answer(outcome: AnyOutcome, announcer: Announcer, *, applied: Mapping[str, str] = {}) -> Response[Any]:
    warned = headers.warnings(outcome.unknown_fields)
    match outcome:
        case PictureSeen():
            return Response(outcome.detections, headers=warned)
        case VideoSeen():
            warned = headers.warnings(outcome.unknown_fields, is_partial=outcome.is_partial)
            timed = timed_detections(announcer.tasks.reports(outcome.task_id))
            return Stream(pieces(timed), media_type="application/json", headers=warned | _location(outcome.task_id))
        case TaskStarted(started=started):
            return Response(started, status_code=202, headers=warned | dict(applied) | _location(started.task_id))
        case Refused():
            raise RequestFailed(Failure(outcome.code, outcome.detail), task_id=outcome.task_id)


def _location(task_id: str) -> dict[str, str]:
    return {"location": f"/tasks/{task_id}"}


routes = [detect_video, find_shots, detect]
