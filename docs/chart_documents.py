"""The Helm chart's `values.schema.json`, with the names of the settings that its values may have."""

import json
import re
from pathlib import Path

import msgspec

from consumers import settings as consumer
from contracts.settings import variable_name
from edge import settings as edge

SCHEMA = Path(__file__).resolve().parent.parent / "compose" / "helm" / "values.schema.json"
SET_BY_THE_CHART = {
    "edge": {
        "AMQP_URL",
        "STORAGE_DIR",
        "EDGE_HOST",
        "EDGE_PORT",
        "EDGE_METRICS_ADDRESS",
        "EDGE_AUTH",
        "EDGE_JWT_KEY",
        "EDGE_SEAL_KEYS",
        "EDGE_STOP_TIMEOUT_S",
    },
    "consumer": {
        "AMQP_URL",
        "STORAGE_DIR",
        "MODELS_DIR",
        "CONSUMER_METRICS_ADDRESS",
        "CONSUMER_PROVIDER",
        "CONSUMER_STOP_S",
        "CONSUMER_WORKERS",
    },
}
"""What follows from other values of the chart, or from how it mounts things."""


def settings() -> dict[str, list[str]]:
    """Of each service, the variables that are left to whoever installs the chart."""
    written = {
        "edge": [variable_name(each, prefix=edge.PREFIX, shared=edge.SHARED) for each in _fields(edge.EdgeSettings)],
        "consumer": [
            variable_name(each, prefix=consumer.PREFIX, shared=consumer.SHARED)
            for each in _fields(consumer.ConsumerSettings)
        ],
    }
    return {
        service: [name for name in names if name not in SET_BY_THE_CHART[service]] for service, names in written.items()
    }


def values_schema() -> str:
    """The schema as it is written, its lists of settings made anew."""
    text = SCHEMA.read_text()
    for service, names in settings().items():
        pattern = rf'("\$comment": "settings of the {service}", "enum": )\[[^\]]*\]'
        text = re.sub(pattern, lambda match, names=names: match[1] + _lines(names), text)
    return text


def _lines(names: list[str]) -> str:
    return "[\n" + ",\n".join(f"            {json.dumps(name)}" for name in names) + "\n          ]"


def _fields(settings: type[msgspec.Struct]) -> tuple[str, ...]:
    return settings.__struct_fields__
