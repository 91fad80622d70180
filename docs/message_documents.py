"""`messages.md` and `asyncapi.json`, from `contracts/`.

FastStream's own generator fails on msgspec structs, hence this one, over `msgspec.json.schema_components`.
"""

import ast
import inspect
import itertools
import uuid
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec

from contracts import commands, detections, events, failures, media, options, posts, shots, topology, wire
from contracts.failures import FailureCode

TASK_ID = str(uuid.UUID(int=0x1234))
AT = datetime(2026, 1, 1, tzinfo=UTC)

_UPLOADED = media.Medium(
    root="storage", path=f"uploads/{TASK_ID}/body", kind=media.MediumKind.VIDEO, name="street.mp4", is_growing=True
)
_STORED = media.Medium(root="images", path="2026/aerial.jpg", kind=media.MediumKind.IMAGE)
_SEEN = detections.Detection(
    center_x=0.5, center_y=0.25, width=0.1, height=0.05, class_num=0, label="vehicle", confidence=0.91
)
_COUNTS = detections.Counts(decoded=300, sampled=75, inferred=75, reported=12)

_ACTIVE = events.ActiveModel(
    file="yolox-nano-17b50ae1/yolox-nano.onnx",
    sha256="ac8e03a6d3a0089683a284f4f7131311020f703b38d6b912f1591184d338e20e",
    beside=("yolox-nano.json",),
    revision="5f0c6a1be2d34c97",
)

Message = type[msgspec.Struct]

EXAMPLES: dict[Message, wire.AnyMessage] = {
    commands.DetectImage: commands.DetectImage(task_id=TASK_ID, medium=_STORED),
    commands.DetectVideo: commands.DetectVideo(
        task_id=TASK_ID,
        medium=_UPLOADED,
        options=options.DetectionOptions(
            probability_threshold=0.4, camera_config=options.CameraConfig(current_height=120)
        ),
    ),
    commands.FindShots: commands.FindShots(
        task_id=TASK_ID, medium=_UPLOADED, options=options.DetectionOptions(shot_threshold=0.4, min_shot_frames=12)
    ),
    commands.CancelTask: commands.CancelTask(task_id=TASK_ID),
    events.FrameDetected: events.FrameDetected(
        task_id=TASK_ID,
        media_id=TASK_ID,
        percent=12,
        sequence=1,
        frame_index=48,
        video_time="00:00:01.920",
        annotations=[_SEEN],
        at=AT,
    ),
    events.TaskProgressed: events.TaskProgressed(
        task_id=TASK_ID, media_id=TASK_ID, percent=0, waiting_for="moov", at=AT
    ),
    events.TaskEnded: events.TaskEnded(
        task_id=TASK_ID, media_id="ee8cc684779efec3", percent=100, sequence=13, counts=_COUNTS, at=AT
    ),
    events.ConsumerSeen: events.ConsumerSeen(
        id="consumer@host:4711",
        host="host",
        engine_type="onnx",
        status=events.EngineStatus.ENABLED,
        model="aerial-vehicle",
        model_outcome=events.ModelOutcome(revision="5f0c6a1be2d34c97"),
        shots=events.EngineSeen(status=events.EngineStatus.ENABLED, engine_type="onnx", model="shots-small"),
        class_colours={0: "#ff0000"},
    ),
    events.ModelChanged: events.ModelChanged(active=_ACTIVE),
    posts.WakeUp: posts.WakeUp(task_id=TASK_ID),
    posts.DeadPost: posts.DeadPost(
        task_id=TASK_ID,
        media_id="ee8cc684779efec3",
        post=posts.Post(
            method="PUT",
            path="/api/media/ee8cc684779efec3/status",
            body=msgspec.Raw(b'{"status":3}'),
            key=f"{TASK_ID}:13",
        ),
        reason=failures.FailureRecord(code=FailureCode.ANNOTATIONS_REFUSED, detail="answered 400"),
        at=AT,
    ),
}

CHANNELS: dict[str, tuple[Message, ...]] = {
    topology.COMMANDS: (commands.DetectImage, commands.DetectVideo, commands.FindShots),
    topology.EVENTS: (events.FrameDetected, events.TaskProgressed, events.TaskEnded),
    topology.CONTROL: (commands.CancelTask, events.ModelChanged),
    topology.PRESENCE: (events.ConsumerSeen,),
    topology.OUTBOX: (posts.WakeUp, posts.DeadPost, events.FrameDetected, events.TaskEnded),
    topology.DEAD_LETTERS: (posts.DeadPost, commands.DetectImage, commands.DetectVideo, commands.FindShots),
}
"""Exchanges, and the two queues into which messages are also put straight."""
PARTS: tuple[Message, ...] = (
    media.Medium,
    options.DetectionOptions,
    options.CameraConfig,
    detections.Detection,
    detections.Counts,
    posts.Post,
    shots.Shot,
    events.EngineSeen,
    events.ActiveModel,
    events.ModelOutcome,
    failures.FailureRecord,
)


def messages() -> str:
    """`messages.md`: the topology, then every message with its fields and an example."""
    sections = [_INTRODUCTION, _topology_section()]
    described: set[Message] = set()
    for channel, kinds in CHANNELS.items():
        again = ", ".join(kind.__name__ for kind in kinds if kind in described)
        sections.append(f"## {_preposition(channel)} `{channel}`" + (f"\n\n{again}, as above.\n" if again else ""))
        new = [kind for kind in kinds if kind not in described]
        sections += [_message_section(kind) + _example(EXAMPLES[kind]) for kind in new]
        described.update(new)
    sections.append("## Parts of messages")
    sections += [_message_section(part) for part in PARTS]
    sections.append("## Failure codes\n\n" + ", ".join(f"`{code}`" for code in FailureCode) + "\n")
    return "\n".join(sections)


def asyncapi() -> str:
    """`asyncapi.json`, AsyncAPI 3.0."""
    kinds = list(dict.fromkeys(kind for group in CHANNELS.values() for kind in group))
    references, schemas = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    payloads = dict(zip(kinds, references, strict=True))
    document = {
        "asyncapi": "3.0.0",
        "info": {"title": "detections", "version": "1", "description": "Commands in, events out, over RabbitMQ."},
        "defaultContentType": wire.CONTENT_TYPE,
        "channels": {exchange: _channel(exchange, kinds_) for exchange, kinds_ in CHANNELS.items()},
        "operations": {f"receive-{exchange}": _operation(exchange) for exchange in CHANNELS},
        "components": {
            "messages": {kind.__name__: _asyncapi_message(kind, payloads[kind]) for kind in kinds},
            "schemas": schemas,
        },
    }
    return msgspec.json.format(msgspec.json.encode(document, order="deterministic"), indent=2).decode() + "\n"


_INTRODUCTION = """# Messages

Written by `python docs/generate.py` from `contracts/`; a test fails when it is stale.

Every message is JSON with a `type` and a `version`. An unknown field is ignored; an unknown type or version is a failure
with a name (`unknown_type`, `unknown_version`) and the message goes to the dead-letter queue. AMQP properties of what we
publish: `content_type` application/json, `type` = the message's type, `message_id` = `taskId:sequence` for numbered events,
`app_id` edge or consumer, `timestamp`, header `x-task-id`, delivery mode persistent; with `traceparent` (and `tracestate`) the
task goes on in that trace ([tracing.md](tracing.md)). Where to look at them, and as whom: [broker](broker.md).

Delivery is at least once. A report has the id `taskId:sequence`, equal on every run: a reader that remembers the last sequence
of a task sees each report once. `epoch` says which taker of the task speaks; ignore an older one than you have seen.

To ask for a detection from another service, publish a `DetectImage`, `DetectVideo` or `FindShots` to the exchange
`detections.commands` with the routing key `image`, `video` or `shots`, persistent, mandatory, and wait for the confirm. The
user `publisher` may do that and nothing else.

Between edges there are two more, put into a queue straight: a `WakeUp` into `detections.outbox` (one that has to wait lies
in `detections.outbox.later.<step>`), and a `DeadPost` into `detections.dead-letters`, from where an operator may put it into
`detections.outbox` again. Their `message_id` is none and the post's key.
"""


def _topology_section() -> str:
    parts = topology.topology()
    rows = [f"| `{exchange.name}` | {exchange.type} exchange | |" for exchange in parts.exchanges]
    rows += [
        f"| `{queue.name}` | {queue.arguments['x-queue-type']} queue | {_bindings(parts, queue.name)} |"
        for queue in parts.queues
    ]
    return "## Topology\n\n| name | kind | bound to |\n|---|---|---|\n" + "\n".join(rows) + "\n"


def _bindings(parts: topology.Topology, queue: str) -> str:
    bound = [binding for binding in parts.bindings if binding.queue == queue]
    return ", ".join(f"`{binding.exchange}` key `{binding.routing_key}`" for binding in bound)


def _message_section(kind: Message) -> str:
    prose = _field_prose(kind)
    rows = [_field_row(field, prose.get(field.name, "")) for field in msgspec.structs.fields(kind)]
    if kind.__struct_config__.tag is not None:
        rows.insert(0, f"| `type` | `{kind.__struct_config__.tag}` | | |")
    table = "| field | type | default | meaning |\n|---|---|---|---|\n" + "\n".join(rows)
    return f"### {kind.__name__}\n\n{inspect.getdoc(kind)}\n\n{table}\n"


def _field_row(field: msgspec.structs.FieldInfo, prose: str) -> str:
    schema = msgspec.json.schema(field.type)
    default = "" if field.required else f"`{_text(_default(field))}`"
    return f"| `{field.encode_name}` | {_type_name(schema)} | {default} | {prose or schema.get('description', '')} |"


def _default(field: msgspec.structs.FieldInfo) -> object:
    if field.default is not msgspec.NODEFAULT:
        return field.default
    factory: Callable[[], object] = field.default_factory
    return factory()


def _text(value: object) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) < 40 else "{...}"  # noqa: PLR2004 - a table cell


def _type_name(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_type_name(part) for part in schema["anyOf"])
    if "$ref" in schema:
        return schema["$ref"].rsplit("/", 1)[-1]
    if "enum" in schema:
        return " / ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_type_name(schema.get('items', {}))}"
    return schema.get("type", "any") + _range(schema)


def _range(schema: dict[str, Any]) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None:
        return f" {low}..{high}"
    if "exclusiveMinimum" in schema:
        return f" > {schema['exclusiveMinimum']}, <= {high}"
    return ""


def _field_prose(kind: Message) -> dict[str, str]:
    """The string below each field of the class and of its bases, first paragraph."""
    prose: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if base.__module__.startswith("contracts."):
            prose |= _prose_below(ast.parse(inspect.getsource(base)).body[0])
    return prose


def _prose_below(definition: ast.stmt) -> dict[str, str]:
    body = getattr(definition, "body", [])
    pairs = itertools.pairwise(body)
    return {
        field.target.id: " ".join(text.value.value.split())
        for field, text in pairs
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant) and isinstance(text.value.value, str)
    }


def _example(message: wire.AnyMessage) -> str:
    return "\n```json\n" + msgspec.json.format(wire.encode(message), indent=2).decode() + "\n```\n"


def _preposition(channel: str) -> str:
    return "In" if _is_queue(channel) else "On"


def _is_queue(channel: str) -> bool:
    return channel in {queue.name for queue in topology.topology().queues}


def _channel(name: str, kinds: Iterable[Message]) -> dict[str, Any]:
    return {
        "address": name,
        "messages": {kind.__name__: {"$ref": f"#/components/messages/{kind.__name__}"} for kind in kinds},
        "bindings": {"amqp": _binding(name)},
    }


def _binding(channel: str) -> dict[str, Any]:
    if _is_queue(channel):
        return {"is": "queue", "queue": {"name": channel, "durable": True}}
    (kind,) = [part.type for part in topology.topology().exchanges if part.name == channel]
    return {"is": "routingKey", "exchange": {"name": channel, "type": kind, "durable": True}}


def _operation(exchange: str) -> dict[str, Any]:
    return {"action": "receive", "channel": {"$ref": f"#/channels/{exchange}"}}


def _asyncapi_message(kind: Message, payload: dict[str, Any]) -> dict[str, Any]:
    example = msgspec.json.decode(wire.encode(EXAMPLES[kind]))
    return {
        "name": kind.__name__,
        "summary": inspect.getdoc(kind),
        "payload": payload,
        "examples": [{"payload": example}],
    }
