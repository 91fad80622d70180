"""`GET /detect/stream`: the events, to everybody who listens, to each those that are theirs to see."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from http import HTTPStatus
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, get, post
from litestar.di import NamedDependency, Provide
from litestar.params import HeaderParameter, QueryParameter
from litestar.response import Stream

from contracts.commands import TASK_ID_PATTERN
from contracts.failures import Failure, FailureCode
from edge.auth import Auth, Caller
from edge.describing import problems
from edge.failures import RequestFailed
from edge.feed import Feed
from edge.listener import Listener
from edge.replay import Replay
from edge.ring import Wanted
from edge.settings import EdgeSettings
from edge.tickets import TICKET_CHARS_MAX, TicketIssued, Tickets

MEDIA_TYPE = "text/event-stream"
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}

_Request = Request[Any, Any, Any]

TaskFilter = Annotated[
    str | None, QueryParameter(name="taskId", pattern=TASK_ID_PATTERN, description="only this task, quiet or not")
]
MediaFilter = Annotated[str | None, QueryParameter(name="mediaId", max_length=128, description="only this medium")]
TicketText = Annotated[
    str | None,
    QueryParameter(
        name="ticket",
        max_length=TICKET_CHARS_MAX,
        description="of `POST /detect/stream/ticket`, where no Authorization can be set; lets one stream in",
    ),
]
LastEventId = Annotated[
    str | None, HeaderParameter(name="Last-Event-ID", max_length=64, description="go on after this id; none: live only")
]
LastEventIdAsked = Annotated[
    str | None,
    QueryParameter(name="lastEventId", max_length=64, description="as Last-Event-ID, where no header can be set"),
]


async def _listening(
    request: _Request, auth: NamedDependency[Auth], tickets: NamedDependency[Tickets], *, ticket: TicketText = None
) -> Caller:
    """Who listens. Raises `Failure` as `Auth.caller_of` and `Tickets.take`."""
    if ticket is None:
        return await auth.caller_of(request)
    address = request.client.host if request.client else None
    return msgspec.structs.replace(await tickets.take(ticket), address=address)


def _wanted(listening: NamedDependency[Caller], *, task_id: TaskFilter = None, media_id: MediaFilter = None) -> Wanted:
    return Wanted(task_id=task_id, media_id=media_id, owner=listening.sees_only)


def _resumed_after(*, last_event_id: LastEventId = None, asked: LastEventIdAsked = None) -> str | None:
    return last_event_id or asked


@get(
    "/detect/stream",
    media_type=MEDIA_TYPE,
    summary="Listen to detections",
    sync_to_thread=False,
    dependencies={
        "listening": Provide(_listening),
        "wanted": Provide(_wanted, sync_to_thread=False),
        "resumed_after": Provide(_resumed_after, sync_to_thread=False),
    },
    responses=problems(
        FailureCode.TOO_MANY_REQUESTS, also={HTTPStatus.SERVICE_UNAVAILABLE: (FailureCode.TOO_MANY_REQUESTS,)}
    ),
)
def listen(
    feed: NamedDependency[Feed],
    replay: NamedDependency[Replay],
    settings: NamedDependency[EdgeSettings],
    listening: NamedDependency[Caller],
    wanted: NamedDependency[Wanted],
    *,
    resumed_after: NamedDependency[str | None],
) -> Stream:
    """DetectionEvents as server-sent events, unnamed; two have a name: `gap` says that something is lost, `expired` that
    the stream ends here since its token does."""
    if feed.listeners >= settings.stream_listeners_max:
        failure = Failure(FailureCode.TOO_MANY_REQUESTS, f"{feed.listeners} listeners, which is the maximum")
        raise RequestFailed(failure, status=HTTPStatus.SERVICE_UNAVAILABLE)
    feed.quota.check(listening.client)
    until_s = listening.let_in_until_s
    listener = Listener(feed, replay, wanted, send_bytes_max=settings.stream_send_bytes_max, until_s=until_s)
    events = _counted(feed, listening.client, listener.events(resumed_after))
    return Stream(events, media_type=MEDIA_TYPE, headers=_HEADERS)


async def _counted(feed: Feed, client: str, events: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    with feed.quota.counted(client):
        async with aclosing(events):
            async for text in events:
                yield text


@post(
    "/detect/stream/ticket",
    operation_id="issueTicket",
    summary="A ticket for an EventSource",
    status_code=200,
    responses=problems(),
)
async def issue_ticket(caller: NamedDependency[Caller], tickets: NamedDependency[Tickets]) -> Response[TicketIssued]:
    """What a browser puts into the address of its EventSource, which cannot send a token: good once, for 30 s."""
    return Response(await tickets.issue(caller), headers={"cache-control": "no-store"})


routes = [listen, issue_ticket]
