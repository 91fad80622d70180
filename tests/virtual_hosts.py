"""Virtual hosts on one broker: to a system as good as a broker of its own, which takes 8 s of CPU to start."""

import secrets

import httpx

from detections.rabbitmq import PrivateRabbit
from tests.processes import WAIT_S

EVERYTHING = {"configure": ".*", "write": ".*", "read": ".*"}


def new_virtual_host(rabbit: PrivateRabbit) -> str:
    """The AMQP URL of an empty one."""
    name = f"host-{secrets.token_hex(4)}"
    auth = ("guest", "guest")
    with httpx.Client(base_url=rabbit.management_url or "", auth=auth, timeout=WAIT_S, trust_env=False) as management:
        management.put(f"/api/vhosts/{name}", json={}).raise_for_status()
        management.put(f"/api/permissions/{name}/guest", json=EVERYTHING).raise_for_status()
    return f"{rabbit.url}{name}"
