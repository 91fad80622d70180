"""Virtual hosts on one broker: to a system as good as a broker of its own, which takes 8 s of CPU to start."""

import secrets
from urllib.parse import urlsplit

import httpx

from detections.broker_definitions import definitions, document
from detections.broker_users import CONSUMER, EDGE, OPERATOR, USERS, User
from detections.rabbitmq import PrivateRabbit
from tests.processes import WAIT_S

EVERYTHING = {"configure": ".*", "write": ".*", "read": ".*"}
PASSWORDS = {user.name: f"{user.name}-of-the-tests" for user in USERS}


def new_virtual_host(rabbit: PrivateRabbit) -> str:
    """The AMQP URL, of the administrator, of one that was set up from the definitions."""
    name = f"host-{secrets.token_hex(4)}"
    auth = ("guest", "guest")
    described = document(definitions(name, passwords=PASSWORDS))
    with httpx.Client(base_url=rabbit.management_url or "", auth=auth, timeout=WAIT_S, trust_env=False) as management:
        json = {"Content-Type": "application/json"}
        management.post("/api/definitions", content=described, headers=json).raise_for_status()
        management.put(f"/api/permissions/{name}/guest", json=EVERYTHING).raise_for_status()
    return f"{rabbit.url}{name}"


def as_user(url: str, user: User) -> str:
    """The same URL for one of our users."""
    parts = urlsplit(url)
    address = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{user.name}:{PASSWORDS[user.name]}@{address}").geturl()


def as_administrator(url: str) -> str:
    """The same URL for somebody who may do everything."""
    parts = urlsplit(url)
    return parts._replace(netloc=f"guest:guest@{parts.netloc.rpartition('@')[2]}").geturl()


def environ_of(url: str) -> dict[str, str]:
    """What a system is told of a virtual host: each of its parts is its own user there."""
    return {
        "AMQP_URL": as_user(url, OPERATOR),
        "EDGE_AMQP_URL": as_user(url, EDGE),
        "CONSUMER_AMQP_URL": as_user(url, CONSUMER),
    }
