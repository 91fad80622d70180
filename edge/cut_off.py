"""Requests that the server cuts off, because it stops, are answered all the same: what comes again can go on."""

import asyncio

import msgspec
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from contracts.failures import Failure, FailureCode
from edge.failures import PROBLEM_JSON, RETRY_AFTER_S, STATUS, problem_of
from edge.metrics import HTTP_FAILURES
from edge.request_end import note_problem

_STOPS = Failure(FailureCode.EDGE_STOPS, "the edge stops; another one, or this one in a moment, takes what comes again")


def cut_off(app: ASGIApp) -> ASGIApp:
    """The application; a request that is cancelled before its answer began gets 503 `edge_stops`, where servers say 500."""

    async def answered(scope: Scope, receive: Receive, send: Send) -> None:
        has_begun = False

        async def watched(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await app(scope, receive, watched)
        except asyncio.CancelledError:
            if has_begun or scope["type"] != "http":
                raise
            await _say_so(send)

    return answered


async def _say_so(send: Send) -> None:
    status = STATUS[_STOPS.code]
    HTTP_FAILURES.labels(_STOPS.code.value).inc()
    note_problem(_STOPS.code.value, _STOPS.detail, status)
    body = msgspec.json.encode(problem_of(_STOPS))
    said = {
        "content-type": PROBLEM_JSON,
        "content-length": str(len(body)),
        "retry-after": str(RETRY_AFTER_S),
        "connection": "close",
    }
    headers = [(name.encode(), value.encode()) for name, value in said.items()]
    await send({"type": "http.response.start", "status": int(status), "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
