"""Media come in: a raw stream that is looked at while it arrives, or a form that is answered when it has been looked at."""

from typing import Any

from litestar import Request, Response, post
from litestar.di import NamedDependency

from contracts.options import read_options
from edge import headers
from edge.intake import Started, VideoIntake, VideoUpload
from edge.upload import body_chunks

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
    return Response(started, headers={"location": f"/tasks/{started.task_id}"} | headers.warnings(read))


routes = [detect_video]
