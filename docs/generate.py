"""Writes the documents that follow from the code: messages, AsyncAPI, OpenAPI, configuration, metrics, what compose/ needs.

`python docs/generate.py` writes them, `--check` only says whether they are up to date (exit code 1 if not).
"""

import sys
from collections.abc import Callable
from pathlib import Path

import chart_documents
import configuration_documents
import dashboard_documents
import message_documents
import metric_documents
import msgspec

from detections.broker_definitions import definitions, document
from edge.app import build
from edge.settings import EdgeSettings

DOCS = Path(__file__).resolve().parent


def openapi() -> str:
    """`openapi.json`: the same that the edge serves at `/schema/openapi.json`."""
    schema = build(EdgeSettings()).openapi_schema.to_schema()
    return msgspec.json.format(msgspec.json.encode(schema, order="deterministic"), indent=2).decode() + "\n"


DOCUMENTS: dict[Path, Callable[[], str]] = {
    DOCS / "messages.md": message_documents.messages,
    DOCS / "asyncapi.json": message_documents.asyncapi,
    DOCS / "openapi.json": openapi,
    DOCS / "configuration.md": configuration_documents.configuration,
    chart_documents.SCHEMA: chart_documents.values_schema,
    DOCS.parent / "compose" / "definitions.json": lambda: document(definitions()),
    DOCS / "metrics.md": metric_documents.metrics,
    dashboard_documents.DASHBOARD: dashboard_documents.dashboard,
    configuration_documents.README: configuration_documents.readme,
}


def main() -> int:
    written = {path: write() for path, write in DOCUMENTS.items()}
    stale = [path.name for path, text in written.items() if not path.exists() or path.read_text() != text]
    if "--check" in sys.argv:
        print("stale: " + ", ".join(stale) + " (run python docs/generate.py)" if stale else "up to date")
        return 1 if stale else 0
    for path, text in written.items():
        path.write_text(text)
    print("written: " + (", ".join(stale) or "nothing new"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
