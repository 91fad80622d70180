"""`GET /detect/stream`: the events, to everybody who listens."""

from http import HTTPStatus
from typing import Annotated

from litestar import get
from litestar.di import NamedDependency
from litestar.params import HeaderParameter, QueryParameter
from litestar.response import Stream

from contracts.commands import TASK_ID_PATTERN
from contracts.failures import Failure, FailureCode
from edge.failures import RequestFailed
from edge.feed import Feed
from edge.listener import Listener
from edge.replay import Replay
from edge.ring import Wanted
from edge.settings import EdgeSettings

MEDIA_TYPE = "text/event-stream"
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}

TaskFilter = Annotated[
    str | None, QueryParameter(name="taskId", pattern=TASK_ID_PATTERN, description="only this task, quiet or not")
]
MediaFilter = Annotated[str | None, QueryParameter(name="mediaId", max_length=128, description="only this medium")]
LastEventId = Annotated[
    str | None, HeaderParameter(name="Last-Event-ID", max_length=64, description="go on after this id; none: live only")
]


@get("/detect/stream", media_type=MEDIA_TYPE, summary="Listen to detections", sync_to_thread=False)
def listen(
    feed: NamedDependency[Feed],
    replay: NamedDependency[Replay],
    settings: NamedDependency[EdgeSettings],
    *,
    task_id: TaskFilter = None,
    media_id: MediaFilter = None,
    last_event_id: LastEventId = None,
) -> Stream:
    """DetectionEvents as server-sent events, unnamed; `gap` alone has a name and says that something is lost."""
    if feed.listeners >= settings.stream_listeners_max:
        failure = Failure(FailureCode.TOO_MANY_REQUESTS, f"{feed.listeners} listeners, which is the maximum")
        raise RequestFailed(failure, status=HTTPStatus.SERVICE_UNAVAILABLE)
    wanted = Wanted(task_id=task_id, media_id=media_id)
    listener = Listener(feed, replay, wanted, send_bytes_max=settings.stream_send_bytes_max)
    return Stream(listener.events(last_event_id), media_type=MEDIA_TYPE, headers=_HEADERS)


routes = [listen]
