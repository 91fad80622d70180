"""The broker of a stack on this machine: with our users, each with a password that is new at every start."""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from detections import broker_users
from detections.broker_definitions import definitions, document
from detections.rabbitmq import PrivateRabbit


class BrokerUrls(msgspec.Struct, frozen=True, kw_only=True):
    """A broker's AMQP URL, with the user and the password of each part in it."""

    edge: str
    consumer: str
    operator: str


def urls_of(environ: Mapping[str, str]) -> BrokerUrls:
    """Of a broker that is not ours: `AMQP_URL` for everybody, unless `EDGE_AMQP_URL` or `CONSUMER_AMQP_URL` says another."""
    url = environ["AMQP_URL"]
    return BrokerUrls(
        edge=environ.get("EDGE_AMQP_URL", url), consumer=environ.get("CONSUMER_AMQP_URL", url), operator=url
    )


def private_broker(folder: Path, *, logs: Path) -> tuple[PrivateRabbit, BrokerUrls]:
    """A broker of our own below `folder`, which takes its users and queues from a file before it lets anybody in."""
    passwords = broker_users.new_passwords()
    path = folder.absolute() / "definitions.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(document(definitions(passwords=passwords)))
    rabbit = PrivateRabbit(folder, conf=f"load_definitions = {path}\n", logs=logs)

    def url(user: broker_users.User) -> str:
        return f"amqp://{user.name}:{passwords[user.name]}@127.0.0.1:{rabbit.port}/"

    return rabbit, BrokerUrls(
        edge=url(broker_users.EDGE), consumer=url(broker_users.CONSUMER), operator=url(broker_users.OPERATOR)
    )
