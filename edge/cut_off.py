"""Requests that the server cuts off, because it stops, are answered all the same: what comes again can go on."""

import asyncio

from litestar.types import ASGIApp, Message, Receive, Scope, Send

from contracts.failures import Failure, FailureCode
from edge.failures import RETRY_AFTER_S, STATUS, send_problem
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
    HTTP_FAILURES.labels(_STOPS.code.value).inc()
    note_problem(_STOPS.code.value, _STOPS.detail, STATUS[_STOPS.code])
    await send_problem(send, _STOPS, headers={"retry-after": str(RETRY_AFTER_S)})
