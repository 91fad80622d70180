"""`detections broker setup`: the topology over AMQP, and what an operator may tune as policies over the management HTTP."""

import asyncio
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

import httpx
import msgspec

from contracts import topology
from contracts.broker_nodes import nodes
from contracts.failures import Failure, FailureCode
from detections.broker_connection import broker_failures, connect
from detections.management import access

if TYPE_CHECKING:
    from aio_pika.abc import AbstractConnection

AMQP_URL_DEFAULT = "amqp://guest:guest@127.0.0.1:5672/"
TIMEOUT_S = 15.0
COMMANDS_MAX = 100_000
"""Waiting commands of a kind; one more is refused to its publisher (503 at the edge), none is dropped."""
DEAD_LETTERS_MAX = 100_000
"""Kept for the operator; the oldest go first."""
CONSUMER_TIMEOUT_MS = 24 * 3600 * 1000
"""A video may take a day; the broker's default would start it again after 30 minutes."""
WAKE_UPS_MAX = 100_000
"""Wake-ups while no edge runs; what is dropped is found again by looking through the storage."""
_CONSUMER_TIMEOUT_SINCE = (3, 12)
_INEQUIVALENT = re.compile(
    r"inequivalent arg '(?P<argument>[^']+)'"
    r".*: received (the value )?(?P<wanted>.+?)( of type '\w+')?"
    r" but current is (the value )?(?P<there>.+?)( of type '\w+')?$"
)


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """A policy as RabbitMQ's management takes it."""

    name: str
    pattern: str
    definition: Mapping[str, str | int]


def policies(version: str) -> tuple[Policy, ...]:
    """What suits this version of RabbitMQ: one unknown key, and it refuses the whole policy."""
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
    timeout = {"consumer-timeout": CONSUMER_TIMEOUT_MS} if numbers >= _CONSUMER_TIMEOUT_SINCE else {}
    commands = re.escape(topology.COMMANDS)
    dead_letters = re.escape(topology.DEAD_LETTERS)
    return (
        Policy(
            name=topology.COMMANDS,
            pattern=rf"^{commands}\.",
            definition={"max-length": COMMANDS_MAX, "overflow": "reject-publish", **timeout},
        ),
        Policy(
            name=topology.OUTBOX,
            pattern=rf"^{re.escape(topology.OUTBOX)}$",
            definition={"max-length": WAKE_UPS_MAX, "overflow": "drop-head"},
        ),
        Policy(
            name=topology.DEAD_LETTERS,
            pattern=rf"^{dead_letters}",
            definition={"max-length": DEAD_LETTERS_MAX, "overflow": "drop-head"},
        ),
    )


def declare(amqp_url: str) -> None:
    """Create the topology.

    Raises `Failure(broker_unavailable)` if there is no broker, this user may not create, or something is there already that
    differs; what is missing is created all the same.
    """

    async def declared() -> list[str]:
        connection = await connect(amqp_url, name="detections broker setup", timeout_s=TIMEOUT_S)
        async with connection:
            return await _created(connection)

    with broker_failures(amqp_url):
        differing = asyncio.run(asyncio.wait_for(declared(), TIMEOUT_S * len(nodes(amqp_url))))
    if differing:
        advice = "these came from an older version; how to drain and replace them is in docs/broker.md"
        raise Failure(FailureCode.BROKER_UNAVAILABLE, f"{'; '.join(differing)}; {advice}")


async def _created(connection: "AbstractConnection") -> list[str]:
    """What is there already with other arguments, one text for each; all else is there now."""
    from aio_pika.exceptions import ChannelNotFoundEntity, ChannelPreconditionFailed

    await topology.complete(connection.channel, absent=ChannelNotFoundEntity)
    differing: list[str] = []
    parts = topology.topology()
    for part in (*parts.exchanges, *parts.queues):
        channel = await connection.channel()
        try:
            await topology.create(channel, {part.name})
        except ChannelPreconditionFailed as error:  # it has closed the channel
            differing.append(f"{part.name} is not as it should be ({difference(str(error))})")
        else:
            await channel.close()
    return differing


def difference(refusal: str) -> str:
    """What a broker says that differs, without the rest of its sentence."""
    said = _INEQUIVALENT.search(refusal)
    return f"{said['argument']}: wanted {said['wanted']}, is {said['there']}" if said else refusal


def set_policies(management_url: str, *, virtual_host: str) -> str:
    """Set the policies; returns the broker's version. Raises `Failure(broker_unavailable)`."""
    address, auth = access(management_url)
    try:
        with httpx.Client(base_url=address, auth=auth, timeout=TIMEOUT_S, trust_env=False) as client:
            version = _version(client.get("/api/overview").raise_for_status().content)
            for policy in policies(version):
                path = f"/api/policies/{quote(virtual_host, safe='')}/{policy.name}"
                body = {"pattern": policy.pattern, "definition": policy.definition, "apply-to": "queues"}
                client.put(path, json=body).raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL, msgspec.DecodeError) as error:
        raise Failure(FailureCode.BROKER_UNAVAILABLE, f"{address}: {error}") from error
    return version


def virtual_host(amqp_url: str) -> str:
    """The virtual host that an AMQP URL names: `/` if none. Every node of a cluster has the same."""
    return unquote(urlsplit(nodes(amqp_url)[0]).path.removeprefix("/")) or "/"


class _Overview(msgspec.Struct, frozen=True):
    rabbitmq_version: str


def _version(overview: bytes) -> str:
    return msgspec.json.decode(overview, type=_Overview).rabbitmq_version
