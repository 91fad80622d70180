"""What RabbitMQ's management says of the queues, over HTTP."""

from typing import TypeVar
from urllib.parse import quote, urlsplit

import httpx
import msgspec

from contracts.broker_nodes import check_nodes, nodes
from contracts.failures import Failure, FailureCode
from contracts.settings import ConfigurationError
from detections.web_addresses import is_web_address

_Said = TypeVar("_Said")

TIMEOUT_S = 5.0
PORT = 15672
_COLUMNS = (
    "name,messages_ready,messages_unacknowledged,consumers,"
    "message_stats.publish_details.rate,message_stats.deliver_get_details.rate"
)


class Rate(msgspec.Struct, frozen=True):
    """Messages a second, over the last few."""

    rate: float = 0.0


class Traffic(msgspec.Struct, frozen=True):
    publish_details: Rate = Rate()
    deliver_get_details: Rate = Rate()


class Overview(msgspec.Struct, frozen=True):
    """What the management says of itself."""

    disable_stats: bool = False


class QueueSeen(msgspec.Struct, frozen=True):
    """One queue; what the management has not counted yet is 0."""

    name: str
    messages_ready: int = 0
    messages_unacknowledged: int = 0
    consumers: int = 0
    message_stats: Traffic = Traffic()


def access(url: str) -> tuple[str, tuple[str, str]]:
    """A management URL without user and password, and those two; each is `guest` where the URL names none.

    Raises `ConfigurationError` for what can be none; it shows nothing of it, since a password is in there.
    """
    if not is_web_address(url):
        raise ConfigurationError("MANAGEMENT_URL is not of the form http://user:password@host:15672")
    parts = httpx.URL(url)
    return str(parts.copy_with(userinfo=b"")).rstrip("/"), (parts.username or "guest", parts.password or "guest")


class Management:
    """The management of one broker. The user needs the tag `monitoring` there."""

    def __init__(self, url: str, *, virtual_host: str, transport: httpx.AsyncBaseTransport | None = None) -> None:
        """url: with user and password, as `address_of` makes it."""
        self.address, auth = access(url)
        self._path = f"/api/queues/{quote(virtual_host, safe='')}"
        self._http = httpx.AsyncClient(
            base_url=self.address, auth=auth, timeout=TIMEOUT_S, trust_env=False, transport=transport
        )

    async def queues(self) -> list[QueueSeen]:
        """All queues of the virtual host. Raises `Failure(broker_unavailable)`, `Failure(forbidden)`."""
        if (await self._said("/api/overview", "disable_stats", Overview)).disable_stats:
            detail = (
                f"the management at {self.address} counts nothing: management_agent.disable_metrics_collector is set"
            )
            raise Failure(FailureCode.BROKER_UNAVAILABLE, detail)
        return await self._said(self._path, _COLUMNS, list[QueueSeen])

    async def _said(self, path: str, columns: str, said: type[_Said]) -> _Said:
        try:
            answer = await self._http.get(path, params={"columns": columns})
            if answer.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
                detail = f"the management at {self.address} refuses the user: it needs the tag `monitoring`"
                raise Failure(FailureCode.FORBIDDEN, detail)
            return msgspec.json.decode(answer.raise_for_status().content, type=said)
        except (httpx.HTTPError, httpx.InvalidURL, msgspec.DecodeError) as error:
            detail = f"the management at {self.address}: {error or type(error).__name__}"
            raise Failure(FailureCode.BROKER_UNAVAILABLE, detail) from error

    async def close(self) -> None:
        await self._http.aclose()


def address_of(amqp_url: str, management_url: str | None) -> str:
    """Where the management is, with the user of the AMQP URL unless it names another; by default on the broker's host.

    Of a cluster that is the first node's. Raises `ConfigurationError` for a broker that can be none, and as `access`.
    """
    check_nodes(amqp_url)
    if management_url is not None:
        access(management_url)
    amqp = urlsplit(nodes(amqp_url)[0])
    host = f"[{amqp.hostname}]" if ":" in (amqp.hostname or "") else amqp.hostname
    parts = urlsplit(management_url or f"http://{host}:{PORT}")
    if parts.username is None and amqp.username is not None:
        parts = parts._replace(netloc=f"{amqp.netloc.rpartition('@')[0]}@{parts.netloc}")
    return parts.geturl()
