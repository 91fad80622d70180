"""`configuration.md` and the short table of the README, from the settings of the edge and of the consumers."""

import re
from pathlib import Path
from typing import Any

import msgspec

from consumers import settings as consumer
from contracts.settings import variable_name
from edge import settings as edge

README = Path(__file__).resolve().parent.parent / "README.md"
BEGIN, END = "<!-- configuration: written by docs/generate.py -->", "<!-- end of configuration -->"
MAIN = (
    "AMQP_URL",
    "STORAGE_DIR",
    "MODELS_DIR",
    "LOADER_URL",
    "EDGE_HOST",
    "EDGE_PORT",
    "EDGE_AUTH",
    "EDGE_UPLOAD_BYTES_MAX",
    "ANNOTATIONS_URL",
    "CONSUMER_MODEL",
    "CONSUMER_WORKERS",
    "CONSUMER_VIDEOS_MAX",
    "CONSUMER_WARM_UP",
)
"""What an operator sets first."""


_INTRODUCTION = """# Configuration

Written by `python docs/generate.py` from `edge/settings.py` and `consumers/settings.py`. Everything is read from the
environment; a value outside its range stops the process at its start and is named; a variable that is named like a setting
(`EDGE_...`, `CONSUMER_...`) and is none is a warning in the log. A secret need not be in the environment:
`<VARIABLE>_FILE` names a file that holds the value (`EDGE_JWT_KEY_FILE=/run/secrets/edge_jwt_key`).
"""


class Row(msgspec.Struct, frozen=True):
    variable: str
    default: str
    allowed: str
    meaning: str

    def __str__(self) -> str:
        return f"| `{self.variable}` | {self.default} | {self.allowed} | {self.meaning} |"


def configuration() -> str:
    """Every setting of every process."""
    sections = [_INTRODUCTION]
    for title, rows in (("The edge", _edge_rows()), ("A consumer", _consumer_rows())):
        sections.append(f"## {title}\n\n{_table(rows)}\n")
    return "\n".join(sections)


def readme() -> str:
    """The README with its table of the settings that matter first."""
    rows = {row.variable: row for row in _edge_rows() + _consumer_rows()}
    text = README.read_text()
    before, rest = text.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    table = _table([rows[variable] for variable in MAIN])
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def _edge_rows() -> list[Row]:
    return [_row(field, edge.PREFIX, edge.SHARED) for field in msgspec.structs.fields(edge.EdgeSettings)]


def _consumer_rows() -> list[Row]:
    return [
        _row(field, consumer.PREFIX, consumer.SHARED) for field in msgspec.structs.fields(consumer.ConsumerSettings)
    ]


def _table(rows: list[Row]) -> str:
    return "\n".join(["| variable | default | allowed | meaning |", "|---|---|---|---|", *map(str, rows)])


def _row(field: msgspec.structs.FieldInfo, prefix: str, shared: frozenset[str]) -> Row:
    schema = msgspec.json.schema(field.type)
    return Row(
        variable=variable_name(field.name, prefix=prefix, shared=shared),
        default=_default(field.default),
        allowed=_allowed(schema),
        meaning=schema.get("description", "")
        or next((part.get("description", "") for part in schema.get("anyOf", ())), ""),
    )


def _default(value: object) -> str:
    match value:
        case None | "" | msgspec.UnsetType() | msgspec.NODEFAULT:
            return ""
        case float() | int() if not isinstance(value, bool):
            return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"
        case _:
            return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _allowed(schema: dict[str, Any]) -> str:
    if schema.get("type") == "boolean":
        return "true, false"
    if "enum" in schema:
        return ", ".join(schema["enum"])
    if words := re.fullmatch(r"\^\((.*)\)\$", schema.get("pattern", "")):
        return ", ".join(words[1].split("|"))
    low, above, high = schema.get("minimum"), schema.get("exclusiveMinimum"), schema.get("maximum")
    if low is None and above is None:
        return "text"
    start = f"{low}" if low is not None else f"above {above:g}"
    return f"{start}..{high}" if high is not None else f"{start}.."
