"""Who may do what on the broker: a user for each part, with the rights that it needs and no other (ADR 57).

A right is a regular expression over names: `configure` creates and deletes; `write` publishes to an exchange and binds a
queue; `read` consumes and purges a queue and binds to an exchange. Looking whether a name exists needs none.
"""

import base64
import hashlib
import re
import secrets
from collections.abc import Mapping

import msgspec

from contracts import topology

DEFAULT_EXCHANGE = "amq.default"
"""What the rights call the exchange without a name, which delivers to the queue that the routing key names."""
NOTHING = "^$"
_SALT_BYTES = 4


class User(msgspec.Struct, frozen=True, kw_only=True):
    """One user and its rights in our virtual host."""

    name: str
    tags: tuple[str, ...] = ()
    """`monitoring` lets in to the management, to see everything there."""
    configure: str = NOTHING
    write: str = NOTHING
    read: str = NOTHING

    @property
    def password_variable(self) -> str:
        """The environment variable from which its password is taken."""
        return f"BROKER_{self.name.upper()}_PASSWORD"


def _names(*names: str, below: str | None = None) -> str:
    """The expression for these names and for those of the queues that processes have below an exchange."""
    patterns = [re.escape(name) for name in names]
    if below is not None:
        patterns.append(rf"{re.escape(below)}\..+")
    return f"^({'|'.join(patterns)})$"


EDGE = User(
    name="edge",
    configure=_names(below=topology.PRESENCE),
    write=_names(DEFAULT_EXCHANGE, topology.COMMANDS, topology.EVENTS, topology.CONTROL, below=topology.PRESENCE),
    read=_names(
        topology.EVENTS_LOG, topology.OUTBOX, topology.DEAD_LETTER_NOTICES, topology.PRESENCE, below=topology.PRESENCE
    ),
)
CONSUMER = User(
    name="consumer",
    configure=_names(below=topology.CONTROL),
    write=_names(topology.COMMANDS, topology.EVENTS, topology.DEAD, topology.PRESENCE, below=topology.CONTROL),
    read=_names(
        topology.IMAGE_COMMANDS,
        topology.VIDEO_COMMANDS,
        topology.SHOTS_COMMANDS,
        topology.CONTROL,
        below=topology.CONTROL,
    ),
)
PUBLISHER = User(name="publisher", write=_names(topology.COMMANDS))
"""Another service that asks for detections; it hears of them over HTTP."""
OPERATOR = User(
    name="operator",
    tags=("monitoring",),
    configure=_names(below=topology.PRESENCE),
    write=_names(DEFAULT_EXCHANGE, topology.COMMANDS, topology.CONTROL, below=topology.PRESENCE),
    read=_names(topology.DEAD_LETTERS, topology.EVENTS, topology.PRESENCE, below=topology.PRESENCE),
)
"""A person: sees everything, sends dead letters on their way or purges them, chooses models."""
USERS = (EDGE, CONSUMER, PUBLISHER, OPERATOR)


def passwords_of(environ: Mapping[str, str]) -> dict[str, str]:
    """The password of each user that has one in the environment."""
    return {user.name: environ[user.password_variable] for user in USERS if environ.get(user.password_variable)}


def new_passwords() -> dict[str, str]:
    """A password for each user that nobody has had."""
    return {user.name: secrets.token_urlsafe(18) for user in USERS}


def password_hash(password: str | None) -> str:
    """As RabbitMQ keeps it: base64 of a salt and the SHA-256 of salt and password. None: a hash that no password has."""
    if password is None:
        return ""
    salt = secrets.token_bytes(_SALT_BYTES)
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()
