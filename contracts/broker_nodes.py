"""Where the broker is: `AMQP_URL` names one node, or each node of a cluster, separated by commas."""

import re
from urllib.parse import urlsplit

_NEXT = re.compile(r"\s*,\s*(?=amqps?://)")  # a comma alone may be part of a password


def nodes(amqp_url: str) -> tuple[str, ...]:
    """The URL of each node, in the order in which they are named."""
    return tuple(_NEXT.split(amqp_url.strip()))


def without_password(url: str) -> str:
    """The URL, or those of all nodes, as it may be shown."""
    parts = [urlsplit(node) for node in nodes(url)]
    return ",".join(node._replace(netloc=node.netloc.rpartition("@")[2]).geturl() for node in parts)
