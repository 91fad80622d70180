"""The file of definitions: complete, without a secret, the same wherever it is imported."""

import base64
import hashlib
import re

import msgspec
import pytest

from contracts import topology
from detections.broker_definitions import Definitions, definitions, document
from detections.broker_setup import policies
from detections.broker_users import CONSUMER, EDGE, OPERATOR, PUBLISHER, USERS, User, password_hash, passwords_of
from tests.conftest import REPOSITORY


def test_the_file_of_the_repository_lets_nobody_in() -> None:
    text = (REPOSITORY / "compose" / "definitions.json").read_bytes()
    kept = msgspec.json.decode(text, type=Definitions)

    assert [user.name for user in kept.users] == ["edge", "consumer", "publisher", "operator"]
    assert {user.password_hash for user in kept.users} == {""}
    assert kept == msgspec.json.decode(document(definitions()), type=Definitions)


def test_a_hash_is_a_salt_and_the_digest_of_salt_and_password() -> None:
    salted = base64.b64decode(password_hash("s@cret"))

    assert salted[4:] == hashlib.sha256(salted[:4] + b"s@cret").digest()
    assert password_hash("s@cret") != password_hash("s@cret")


def test_passwords_come_from_the_environment_and_only_their_hashes_are_written() -> None:
    passwords = passwords_of({"BROKER_EDGE_PASSWORD": "s@cret", "BROKER_CONSUMER_PASSWORD": ""})
    described = definitions("detect", passwords=passwords)

    assert passwords == {"edge": "s@cret"}
    assert [bool(user.password_hash) for user in described.users] == [True, False, False, False]
    assert "s@cret" not in document(described)
    assert {each.vhost for each in (*described.queues, *described.permissions, *described.policies)} == {"detect"}


def test_the_policies_suit_the_oldest_broker_unless_a_newer_one_is_named() -> None:
    assert [policy.definition for policy in definitions().policies] == [each.definition for each in policies("3.10")]
    assert "consumer-timeout" in definitions(version="4.1").policies[0].definition


@pytest.mark.parametrize("user", USERS, ids=lambda user: user.name)
def test_nobody_may_create_or_delete_what_is_durable(user: User) -> None:
    parts = topology.topology()

    for part in (*parts.exchanges, *parts.queues):
        assert not re.match(user.configure, part.name)


@pytest.mark.parametrize(
    ("user", "right", "of"),
    [
        (EDGE, "configure", topology.PRESENCE),
        (CONSUMER, "configure", topology.CONTROL),
        (OPERATOR, "read", topology.PRESENCE),
    ],
)
def test_rights_below_an_exchange_are_for_the_queues_of_processes(user: User, right: str, of: str) -> None:
    pattern = getattr(user, right)

    assert re.match(pattern, topology.own_queue(of, "edge host:1"))
    assert not re.match(pattern, f"x.{topology.own_queue(of, 'edge')}")
    assert not re.match(pattern, f"{of}.")


def test_a_publisher_may_publish_commands_and_nothing_else() -> None:
    names = [part.name for part in (*topology.topology().exchanges, *topology.topology().queues)]

    assert [name for name in (*names, "amq.default") if re.match(PUBLISHER.write, name)] == [topology.COMMANDS]
    assert (PUBLISHER.configure, PUBLISHER.read) == ("^$", "^$")
