"""What a person touches: the command line, the local stack, the Python client.

Read in this order: `client` (with `calls`, `answers`, `uploading`, `boxes`, `following`, `sse`), `cli` (the commands),
`local` (everything on one machine, with `rabbitmq`, `supervision`, `processes`, `guard`).
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from detections.client import AsyncClient as AsyncClient
    from detections.client import Client as Client

__all__ = ["AsyncClient", "Client"]


def __getattr__(name: str) -> Any:
    if name in __all__:  # only now: whoever asks for no client loads no httpx
        from detections import client

        return getattr(client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
