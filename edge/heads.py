"""HEAD: what a GET would be answered, without its body (RFC 9110, 9.3.2). Checks of who watches a service often ask so."""

from litestar.types import ASGIApp, Receive, Scope, Send

_NOT_AS_GET = ("/uploads/", "/detect/stream")
"""How the paths begin where HEAD has a meaning of its own, and where a GET would never end."""


def answering_heads(app: ASGIApp) -> ASGIApp:
    """The application, which sees a GET; the server, which has seen the HEAD, leaves the body out."""

    async def answered(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "HEAD" and not scope["path"].startswith(_NOT_AS_GET):
            scope = {**scope, "method": "GET"}
        await app(scope, receive, send)

    return answered
