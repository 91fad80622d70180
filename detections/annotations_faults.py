"""What can be wrong with a service that is called: the faults of the Annotations double, switched while it runs."""

import asyncio
import os
from collections.abc import Callable
from typing import Literal

import msgspec
from litestar.types import ASGIApp, Receive, Scope, Send

DRIP_S = 0.5
"""Between two bytes of a dripping answer."""
HANG_S = 3600.0


class Faults(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with the service."""

    mode: Literal["none", "500", "400", "401", "slow", "drip", "garbage", "hang", "redirect"] = "none"
    slow_s: float = 1.0
    """Before an answer, while `slow`."""
    only: str = "/"
    """Calls whose path begins so."""
    token_life_s: float = 3600.0
    """Of a token that is issued or refreshed."""
    does_refresh: bool = True
    refresh_s: float = 0.0
    """How long a refresh takes."""


def with_faults(app: ASGIApp, fault_of: Callable[[str], Faults]) -> ASGIApp:
    """The application, with what is wrong with a call's path at its moment."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await app(scope, receive, send)
        faults = fault_of(scope["path"])
        match faults.mode:
            case "none":
                return await app(scope, receive, send)
            case "slow":
                await asyncio.sleep(faults.slow_s)
                return await app(scope, receive, send)
            case "hang":
                return await asyncio.sleep(HANG_S)
            case "drip":
                return await _drip(send)
            case "garbage":
                return await _answer(send, 200, os.urandom(512))
            case "redirect":
                return await _answer(send, 302, b"", (b"location", b"http://127.0.0.1:9/"))
            case status:
                return await _answer(send, int(status), b"{}")

    return answer


async def _answer(send: Send, status: int, body: bytes, *headers: tuple[bytes, bytes]) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def _drip(send: Send) -> None:
    """A good answer of which a byte comes now and then."""
    await send({"type": "http.response.start", "status": 200, "headers": ()})
    for _ in range(round(HANG_S / DRIP_S)):
        await send({"type": "http.response.body", "body": b" ", "more_body": True})
        await asyncio.sleep(DRIP_S)
