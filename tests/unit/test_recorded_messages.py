"""While a service is upgraded its old and new processes talk to each other: what a version said is recorded here for good.

Each type twice: with everything it can say, and with the least that it must say. A file is never changed; a new version gets
a file of its own.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from contracts import wire
from contracts.failures import FailureCode
from docs.message_documents import EXAMPLES

FOLDER = Path(__file__).parent.parent / "messages"
RECORDED = [line for file in sorted(FOLDER.glob("*.jsonl")) for line in file.read_bytes().splitlines()]
READERS: dict[str, Callable[[bytes], wire.AnyMessage]] = {
    "CancelTask": wire.decode_control,
    "ConsumerSeen": wire.decode_presence,
    "DeadPost": wire.decode_outgoing,
    "DetectImage": wire.decode_command,
    "DetectVideo": wire.decode_command,
    "FindShots": wire.decode_command,
    "FrameDetected": wire.decode_event,
    "ModelChanged": wire.decode_control,
    "TaskEnded": wire.decode_event,
    "TaskProgressed": wire.decode_event,
    "WakeUp": wire.decode_outgoing,
}

FAILURES = {"TaskEnded": "failure", "DeadPost": "reason"}
"""Where a message has one."""

Said = dict[str, Any]


def said_in(line: bytes) -> Said:
    return msgspec.json.decode(line)


def names(said: object, at: str = "") -> set[str]:
    """Every field that is said, by its path."""
    match said:
        case dict():
            return {path for name, value in said.items() for path in {f"{at}.{name}", *names(value, f"{at}.{name}")}}
        case list():
            return {path for value in said for path in names(value, f"{at}[]")}
        case _:
            return set()


@pytest.mark.parametrize("line", RECORDED, ids=lambda line: f"{said_in(line)['type']}-{len(line)}")
def test_what_a_version_said_is_still_understood_to_the_last_field(line: bytes) -> None:
    said = said_in(line)

    again = said_in(wire.encode(READERS[said["type"]](line)))

    assert held(said, again) == said


def held(said: Any, again: Any) -> Any:
    """What is left of `said` in `again`: what is there besides are defaults."""
    if isinstance(said, dict) and isinstance(again, dict):
        return {name: held(value, again[name]) for name, value in said.items() if name in again}
    if isinstance(said, list) and isinstance(again, list) and len(said) == len(again):
        return [held(*pair) for pair in zip(said, again, strict=True)]
    return again


@pytest.mark.parametrize("name", ["TaskEnded", "DeadPost"])
def test_a_failure_that_only_newer_processes_know_is_one_all_the_same(name: str) -> None:
    said = next(said for line in RECORDED if (said := said_in(line))["type"] == name and FAILURES[name] in said)
    said[FAILURES[name]]["code"] = "of_tomorrow"

    failure = getattr(READERS[name](msgspec.json.encode(said)), FAILURES[name])

    assert (failure.code, failure.detail) == (FailureCode.INTERNAL, said[FAILURES[name]]["detail"])


@pytest.mark.parametrize("message", EXAMPLES.values(), ids=lambda message: type(message).__name__)
def test_what_is_said_now_has_all_that_a_version_cannot_do_without(message: wire.AnyMessage) -> None:
    said = said_in(wire.encode(message))
    least = min((line for line in RECORDED if said_in(line)["type"] == said["type"]), key=len)

    assert names(said_in(least)) <= names(said)


def test_each_type_of_message_is_recorded() -> None:
    assert {said_in(line)["type"] for line in RECORDED} == set(READERS) == {kind.__name__ for kind in EXAMPLES}
