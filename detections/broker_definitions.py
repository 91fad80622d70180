"""The broker as a file of definitions, which RabbitMQ takes at its start (`load_definitions`) or from its management.

It suits RabbitMQ 3.10 to 4.x alike, so it has no policy that 3.10 does not know: `consumer_timeout` belongs in rabbitmq.conf.
"""

from collections.abc import Mapping

import msgspec

from contracts import topology
from detections.broker_setup import policies
from detections.broker_users import USERS, password_hash

OLDEST = "3.10"
HASHING = "rabbit_password_hashing_sha256"
VIRTUAL_HOST_DEFAULT = "/"


class VirtualHost(msgspec.Struct, frozen=True):
    name: str


class Account(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    tags: tuple[str, ...]
    password_hash: str
    hashing_algorithm: str = HASHING


class Permission(msgspec.Struct, frozen=True, kw_only=True):
    user: str
    vhost: str
    configure: str
    write: str
    read: str


class AppliedPolicy(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    vhost: str
    name: str
    pattern: str
    apply_to: str = "queues"
    priority: int = 0
    definition: Mapping[str, str | int]


class DeclaredExchange(msgspec.Struct, frozen=True, kw_only=True):
    vhost: str
    name: str
    type: str
    durable: bool = True
    auto_delete: bool = False
    internal: bool = False
    arguments: Mapping[str, str | int] = {}


class DeclaredQueue(msgspec.Struct, frozen=True, kw_only=True):
    vhost: str
    name: str
    durable: bool = True
    auto_delete: bool = False
    arguments: Mapping[str, str | int]


class DeclaredBinding(msgspec.Struct, frozen=True, kw_only=True):
    vhost: str
    source: str
    destination: str
    destination_type: str = "queue"
    routing_key: str
    arguments: Mapping[str, str | int] = {}


class Definitions(msgspec.Struct, frozen=True, kw_only=True):
    """Everything of ours on a broker, in the order in which it is created."""

    vhosts: tuple[VirtualHost, ...]
    users: tuple[Account, ...]
    permissions: tuple[Permission, ...]
    policies: tuple[AppliedPolicy, ...]
    exchanges: tuple[DeclaredExchange, ...]
    queues: tuple[DeclaredQueue, ...]
    bindings: tuple[DeclaredBinding, ...]


def definitions(
    virtual_host: str = VIRTUAL_HOST_DEFAULT, *, passwords: Mapping[str, str] | None = None, version: str = OLDEST
) -> Definitions:
    """Our virtual host, the users, and all that is there before the first message.

    passwords: by user; one without a password is created, and can't log in. version: the oldest broker that takes it.
    """
    known = passwords or {}
    parts = topology.topology()
    return Definitions(
        vhosts=(VirtualHost(virtual_host),),
        users=tuple(
            Account(name=user.name, tags=user.tags, password_hash=password_hash(known.get(user.name))) for user in USERS
        ),
        permissions=tuple(
            Permission(user=user.name, vhost=virtual_host, configure=user.configure, write=user.write, read=user.read)
            for user in USERS
        ),
        policies=tuple(
            AppliedPolicy(vhost=virtual_host, name=policy.name, pattern=policy.pattern, definition=policy.definition)
            for policy in policies(version)
        ),
        exchanges=tuple(
            DeclaredExchange(vhost=virtual_host, name=each.name, type=each.type) for each in parts.exchanges
        ),
        queues=tuple(
            DeclaredQueue(vhost=virtual_host, name=each.name, arguments=each.arguments) for each in parts.queues
        ),
        bindings=tuple(
            DeclaredBinding(
                vhost=virtual_host, source=each.exchange, destination=each.queue, routing_key=each.routing_key
            )
            for each in parts.bindings
        ),
    )


def document(described: Definitions) -> str:
    """The definitions as the file that RabbitMQ reads."""
    return msgspec.json.format(msgspec.json.encode(described), indent=2).decode() + "\n"
