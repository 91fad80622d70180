"""What an operator may tune, version by version."""

import pytest

from contracts.broker_nodes import without_users
from detections.broker_setup import difference, policies, virtual_host


@pytest.mark.parametrize(
    ("version", "knows_timeout"),
    [("3.10.8", False), ("3.11.28", False), ("3.12.0", True), ("3.13.7", True), ("4.0.5", True), ("4.1.0-rc.1", True)],
)
def test_the_consumer_timeout_is_a_policy_only_where_it_is_known(version: str, knows_timeout: bool) -> None:
    commands, _outbox, _dead_letters = policies(version)

    assert ("consumer-timeout" in commands.definition) == knows_timeout


def test_patterns_match_the_names_of_the_topology_alone() -> None:
    commands, outbox, dead_letters = policies("4.0.5")

    assert commands.pattern == r"^detections\.commands\."
    assert outbox.pattern == r"^detections\.outbox$"
    assert dead_letters.pattern == r"^detections\.dead\-letters"


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("amqp://guest:guest@127.0.0.1/", "/"),
        ("amqp://127.0.0.1", "/"),
        ("amqp://127.0.0.1/%2F", "/"),
        ("amqps://u:p@broker:5671/detect?heartbeat=10", "detect"),
    ],
)
def test_the_virtual_host_is_in_the_url(url: str, name: str) -> None:
    assert virtual_host(url) == name


def test_a_shown_url_has_no_password() -> None:
    assert without_users("amqp://ops:s@cret@broker:5671/x") == "amqp://broker:5671/x"


@pytest.mark.parametrize(
    ("refused", "said"),
    [
        (
            "arg 'x-overflow' for queue 'q' in vhost '/': received the value 'a' of type 'longstr' but current is none",
            "x-overflow: wanted 'a', is none",
        ),
        (
            "arg 'x' for queue 'q' in vhost '/': received the value '20' of type 'long' but current is the value '5' of type 'long'",
            "x: wanted '20', is '5'",
        ),
        (
            "arg 'type' for exchange 'e' in vhost '/': received 'topic' but current is 'fanout'",
            "type: wanted 'topic', is 'fanout'",
        ),
    ],
)
def test_of_a_refusal_is_shown_what_differs(refused: str, said: str) -> None:
    assert difference(f"PRECONDITION_FAILED - inequivalent {refused}") == said


def test_a_refusal_in_other_words_is_shown_as_it_is() -> None:
    assert difference("something new") == "something new"
