"""How messages become bytes and come back: JSON, a `type`, a `version`, and named failures for everything else."""

from typing import TypeVar

import msgspec

from contracts.commands import AnyCommand, CancelTask
from contracts.events import AnyEvent, ConsumerSeen, ModelChanged
from contracts.failures import NOT_READ, Failure, FailureCode
from contracts.posts import DeadPost, WakeUp

CONTENT_TYPE = "application/json"
VERSION = 1

NAMED_CHARACTERS_MAX = 200
"""Of what a refused message says, where its refusal says it again: it travels in a header, and no header may be long."""

AnyControl = CancelTask | ModelChanged
AnyMessage = AnyCommand | AnyControl | AnyEvent | ConsumerSeen | WakeUp | DeadPost
OutboxMessage = AnyEvent | WakeUp | DeadPost
"""What lies in the outbox."""

_Message = TypeVar("_Message")


class _Envelope(msgspec.Struct, frozen=True):
    type: str
    version: int = VERSION


_encoder = msgspec.json.Encoder()
_envelopes = msgspec.json.Decoder(_Envelope)
_commands: msgspec.json.Decoder[AnyCommand] = msgspec.json.Decoder(AnyCommand)
_events: msgspec.json.Decoder[AnyEvent] = msgspec.json.Decoder(AnyEvent)
_controls: msgspec.json.Decoder[AnyControl] = msgspec.json.Decoder(AnyControl)
_outgoing: msgspec.json.Decoder[OutboxMessage] = msgspec.json.Decoder(OutboxMessage)
_presences = msgspec.json.Decoder(ConsumerSeen)


def encode(message: AnyMessage) -> bytes:
    """The message as JSON, ready for the broker."""
    return _encoder.encode(message)


def decode_command(body: bytes) -> AnyCommand:
    """The command in `body`; unknown fields are tolerated.

    Raises `Failure`: `malformed_message` naming the field, `unknown_type`, `unknown_version`.
    """
    return _decode(body, _commands, types=("DetectImage", "DetectVideo", "FindShots"))


def decode_event(body: bytes) -> AnyEvent:
    """The event in `body`. Raises `Failure` as `decode_command`."""
    return _decode(body, _events, types=("FrameDetected", "TaskProgressed", "TaskEnded"))


def decode_outgoing(body: bytes) -> OutboxMessage:
    """What lies in the outbox in `body`. Raises `Failure` as `decode_command`."""
    return _decode(body, _outgoing, types=("FrameDetected", "TaskProgressed", "TaskEnded", "WakeUp", "DeadPost"))


def decode_control(body: bytes) -> AnyControl:
    """The control message in `body`. Raises `Failure` as `decode_command`."""
    return _decode(body, _controls, types=("CancelTask", "ModelChanged"))


def decode_presence(body: bytes) -> ConsumerSeen:
    """The heartbeat in `body`. Raises `Failure` as `decode_command`."""
    return _decode(body, _presences, types=("ConsumerSeen",))


def _decode(body: bytes, decoder: "msgspec.json.Decoder[_Message]", *, types: tuple[str, ...]) -> _Message:
    try:
        return decoder.decode(body)
    except NOT_READ as error:
        raise _named(body, error, types) from error


def _named(body: bytes, error: Exception, types: tuple[str, ...]) -> Failure:
    """The failure that says why `body` was not understood: asked only after decoding failed."""
    try:
        envelope = _envelopes.decode(body)
    except NOT_READ:
        return Failure(FailureCode.MALFORMED_MESSAGE, _shortened(str(error)))
    if envelope.type not in types:
        named = envelope.type[:NAMED_CHARACTERS_MAX]
        return Failure(FailureCode.UNKNOWN_TYPE, f"type {named!r}, known: {', '.join(types)}")
    if envelope.version != VERSION:
        return Failure(FailureCode.UNKNOWN_VERSION, f"version {envelope.version} of {envelope.type}, known: {VERSION}")
    return Failure(FailureCode.MALFORMED_MESSAGE, _shortened(str(error)))


def _shortened(text: str) -> str:
    """Its begin and its end, which names the field."""
    if len(text) <= 2 * NAMED_CHARACTERS_MAX:
        return text
    return f"{text[:NAMED_CHARACTERS_MAX]} ... {text[-NAMED_CHARACTERS_MAX:]}"
