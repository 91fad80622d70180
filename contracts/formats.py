"""How reports leave the product as text: JSON lines, one JSON array, or CSV; the same on the command line and over HTTP."""

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import StrEnum

import msgspec

from contracts.events import DetectionEvent

CSV_COLUMNS = (
    "task_id",
    "media_id",
    "sequence",
    "frame_index",
    "video_time",
    "class_num",
    "label",
    "confidence",
    "center_x",
    "center_y",
    "width",
    "height",
)
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")


class ResultFormat(StrEnum):
    """What `--format` takes."""

    JSONL = "jsonl"
    JSON = "json"
    CSV = "csv"


CONTENT_TYPES: Mapping[ResultFormat, str] = {
    ResultFormat.JSONL: "application/x-ndjson",
    ResultFormat.JSON: "application/json",
    ResultFormat.CSV: "text/csv; charset=utf-8",
}


def render(events: Iterable[DetectionEvent], result_format: ResultFormat) -> Iterator[bytes]:
    """The events as text, one piece per event as soon as it is there, so that both ends hold one event at a time."""
    renderers: dict[ResultFormat, Callable[[Iterable[DetectionEvent]], Iterator[bytes]]] = {
        ResultFormat.JSONL: as_json_lines,
        ResultFormat.JSON: as_json_array,
        ResultFormat.CSV: as_csv,
    }
    return renderers[result_format](events)


def as_json_lines(events: Iterable[DetectionEvent]) -> Iterator[bytes]:
    """One JSON object a line."""
    return (msgspec.json.encode(event) + b"\n" for event in events)


def as_json_array(events: Iterable[DetectionEvent]) -> Iterator[bytes]:
    """One JSON array, an event a line; `[]` when there is none."""
    separator = b"["
    for event in events:
        yield separator + msgspec.json.encode(event)
        separator = b",\n "
    yield b"[]\n" if separator == b"[" else b"]\n"


def as_csv(events: Iterable[DetectionEvent]) -> Iterator[bytes]:
    """A header, then one row per detection; an event that saw nothing has no row.

    A label is the operator's text: one that a spreadsheet would run as a formula is led by an apostrophe.
    """
    yield _csv_lines([CSV_COLUMNS])
    for event in events:
        if event.annotations:
            yield _csv_lines(_csv_rows(event))


def _csv_rows(event: DetectionEvent) -> Iterator[tuple[object, ...]]:
    for seen in event.annotations:
        yield (
            event.task_id,
            event.media_id,
            event.sequence,
            event.frame_index,
            event.video_time,
            seen.class_num,
            _harmless(seen.label),
            seen.confidence,
            seen.center_x,
            seen.center_y,
            seen.width,
            seen.height,
        )


def _csv_lines(rows: Iterable[Iterable[object]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerows(rows)  # RFC 4180
    return text.getvalue().encode()


def _harmless(label: str) -> str:
    return f"'{label}" if label.lstrip(" ").startswith(_FORMULA_STARTS) else label
