"""Makers of messages that mean harm: mutated, huge, deep and empty bodies, under headers that nobody sends."""

import random
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from contracts.commands import COMMANDS, AnyCommand, CancelTask, DetectImage
from contracts.media import Medium, MediumKind

HUGE_BYTES = 4 << 20
DEPTH = 200_000
_VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    1e308,
    2**63,
    "",
    "../../etc/passwd",
    "x" * 300,
    "\u0000\u202e",
    [],
    {},
    [[[]]],
    {"a": {"b": None}},
)
_PROPERTIES: tuple[dict[str, Any], ...] = (
    {},
    {"content_type": "text/plain"},
    {"content_type": "application/json; charset=utf-16"},
    {"content_type": "\u20ac" * 60, "content_encoding": "gzip"},
    {"content_encoding": "nothing-known", "type": "TaskEnded", "message_id": ""},
    {"headers": {"x-death": "none", "taskId": None, "number": 2**40, "time": datetime(2026, 1, 1, tzinfo=UTC)}},
    {"headers": {"deep": {"a": {"b": [1, [2, [3]]]}}, "bytes": bytearray(b"\xff\xfe"), "long": "x" * 60_000}},
    {"correlation_id": "x" * 255, "reply_to": "nobody.is.there", "priority": 9, "app_id": "\u0000"},
    {"timestamp": datetime(1970, 1, 1, tzinfo=UTC), "expiration": timedelta(days=1)},
)


def new_command(kind: type[AnyCommand]) -> AnyCommand:
    """One of a medium that is not there."""
    of = MediumKind.IMAGE if kind is DetectImage else MediumKind.VIDEO
    medium = Medium(root=f"{of.value}s", path="missing.bin", kind=of, media_id="m")
    return kind(task_id=str(uuid.uuid4()), medium=medium)


def commands(chance: random.Random, *, count: int) -> Iterator[bytes]:
    """Bodies for a queue of commands, none twice; a few are still commands."""
    for number in range(count):
        kind = chance.choice(list(COMMANDS.values()))
        yield _mutated(chance, msgspec.json.encode(new_command(kind)), number)


def controls(chance: random.Random, *, count: int) -> Iterator[bytes]:
    """Bodies for the control exchange; a few are still messages."""
    for number in range(count):
        yield _mutated(chance, msgspec.json.encode(CancelTask(task_id=str(uuid.uuid4()))), number)


def properties(chance: random.Random) -> dict[str, Any]:
    """What an AMQP message may carry beside its body."""
    return dict(chance.choice(_PROPERTIES))


def monsters() -> Iterator[bytes]:
    """Bodies that are too much of something."""
    deep = b"[" * DEPTH + b"]" * DEPTH
    yield b""
    yield bytes(HUGE_BYTES)
    yield b" " * HUGE_BYTES + b"{}"
    yield deep
    yield b'{"a":' * DEPTH + b"1" + b"}" * DEPTH
    yield b'{"type":"DetectVideo","version":1,"new":' + deep + b"}"
    yield b'{"type":"' + b"y" * HUGE_BYTES + b'","version":1}'
    yield b'{"type":"DetectImage","version":1,"taskId":"' + b"z" * HUGE_BYTES + b'"}'
    yield b'{"type":"DetectImage","version":1,"medium":{"kind":"' + b"k" * HUGE_BYTES + b'"}}'
    yield b'{"type":"DetectImage","version":' + b"9" * 5000 + b"}"
    yield b'{"type":"\\ud800","version":1}'
    yield b'{"type":"\\u0000\\n\\u202e","version":1}'
    yield '{"type":"DetectImage"}'.encode("utf-16")
    yield b"\xef\xbb\xbf" + b'{"type":"DetectImage"}'
    yield b'{"type":"DetectImage","type":"DetectVideo","version":1}'


def _mutated(chance: random.Random, body: bytes, number: int) -> bytes:
    """number: keeps bodies apart that would be the same."""
    ways: tuple[Callable[[random.Random, bytes], bytes], ...] = (_flipped, _cut, _with_another_value, _with_noise)
    return chance.choice(ways)(chance, body) + b" " * (number % 97)


def _flipped(chance: random.Random, body: bytes) -> bytes:
    changed = bytearray(body)
    for _ in range(chance.randint(1, 6)):
        changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed)


def _cut(chance: random.Random, body: bytes) -> bytes:
    return body[: chance.randrange(len(body))]


def _with_noise(chance: random.Random, body: bytes) -> bytes:
    place = chance.randrange(len(body))
    return body[:place] + chance.randbytes(chance.randint(1, 400)) + body[place:]


def _with_another_value(chance: random.Random, body: bytes) -> bytes:
    """One field, perhaps a deeper one, has a value of another kind, or is away."""
    message = msgspec.json.decode(body)
    part = message
    while chance.random() < 1 / 2 and (deeper := [each for each in part.values() if isinstance(each, dict) and each]):
        part = chance.choice(deeper)
    name = chance.choice(list(part))
    if chance.random() < 1 / 4:
        del part[name]
    else:
        part[name] = chance.choice(_VALUES)
    return msgspec.json.encode(message)
