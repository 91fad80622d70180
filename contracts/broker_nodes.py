"""Where the broker is: `AMQP_URL` names one node, or each node of a cluster, separated by commas."""

import re

from contracts.settings import ConfigurationError, is_address, without_user

_NEXT = re.compile(r"\s*,\s*(?=amqps?://)")  # a comma alone may be part of a password


def nodes(amqp_url: str) -> tuple[str, ...]:
    """The URL of each node, in the order in which they are named."""
    return tuple(_NEXT.split(amqp_url.strip()))


def check_nodes(amqp_url: str) -> None:
    """Raises `ConfigurationError` where a node is named wrongly; it shows none of it, since a password is in there."""
    for number, node in enumerate(nodes(amqp_url), start=1):
        if not is_address(node, "amqp", "amqps"):
            raise ConfigurationError(
                f"AMQP_URL: node {number} is not of the form amqp://user:password@host:5672/ (or amqps://); "
                "what means something in an address (/ ? # @ : %) is written as %2F, ... in a password"
            )


def without_users(amqp_url: str) -> str:
    """The URLs of all nodes, as they may be shown."""
    return ",".join(without_user(node) for node in nodes(amqp_url))
