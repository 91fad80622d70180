"""Media come in: a raw stream that is looked at while it arrives, or a form that is answered when it has been looked at."""

from functools import partial
from typing import Any
from uuid import uuid4

from litestar import Request, Response, post
from litestar.di import NamedDependency
from litestar.response import Stream

from contracts.failures import Failure
from contracts.options import read_options
from edge import headers
from edge.announce import Announcer
from edge.failures import RequestFailed
from edge.form_intake import FormUpload
from edge.forms import Forms
from edge.idempotency import checked_key
from edge.intake import VideoIntake, VideoUpload
from edge.outcomes import AnyOutcome, PictureSeen, Refused, Started, TaskStarted, VideoSeen
from edge.rendering import pieces, timed_detections
from edge.upload import body_chunks, client_gone

_Request = Request[Any, Any, Any]


@post("/detect/video", status_code=202, request_max_body_size=None)
async def detect_video(request: _Request, video_intake: NamedDependency[VideoIntake]) -> Response[Started]:
    """Store a video and look at it while it arrives; its detections are events of `GET /detect/stream`."""
    read = read_options(request.headers.get("x-config"))
    upload = VideoUpload(
        task_id=headers.task_id(request.headers.get("x-task-id")),
        name=headers.video_name(request.headers.get("x-filename")),
        options=read.options,
        plan=headers.upload_plan(request.headers),
    )
    started = await video_intake.take(upload, body_chunks(request.receive))
    return Response(started, headers=_location(started.task_id) | headers.warnings(read.unknown_fields))


@post("/detect", status_code=200, request_max_body_size=None)
async def detect(
    request: _Request, forms: NamedDependency[Forms], announcer: NamedDependency[Announcer]
) -> Response[Any]:
    """Look at a picture or a video and answer with what is seen; with `Prefer: respond-async` answer when it is stored."""
    form = FormUpload(
        task_id=str(uuid4()),
        content_type=request.headers.get("content-type"),
        content_length=headers.content_length(request.headers),
        is_answered_later=headers.prefers_async(request.headers.getall("prefer", [])),
    )
    key = checked_key(request.headers.get("idempotency-key"))
    outcome = await forms.answer(form, body_chunks(request.receive), partial(client_gone, request.receive), key)
    return _answer(outcome, announcer)


def _answer(outcome: AnyOutcome, announcer: Announcer) -> Response[Any]:
    warned = headers.warnings(outcome.unknown_fields)
    match outcome:
        case PictureSeen():
            return Response(outcome.detections, headers=warned)
        case VideoSeen():
            warned = headers.warnings(outcome.unknown_fields, is_partial=outcome.is_partial)
            timed = timed_detections(announcer.tasks.reports(outcome.task_id))
            return Stream(pieces(timed), media_type="application/json", headers=warned | _location(outcome.task_id))
        case TaskStarted(started=started):
            applied = {"preference-applied": "respond-async"}
            return Response(started, status_code=202, headers=warned | applied | _location(started.task_id))
        case Refused():
            raise RequestFailed(Failure(outcome.code, outcome.detail), task_id=outcome.task_id)


def _location(task_id: str) -> dict[str, str]:
    return {"location": f"/tasks/{task_id}"}


routes = [detect_video, detect]
