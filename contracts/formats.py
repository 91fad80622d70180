"""How reports leave the product as text: JSON lines, one JSON array, or CSV; the same on the command line and over HTTP.

The CSV of a task that looks for shots is a scene list in PySceneDetect's columns: its frames count from 1 and are inclusive.
"""

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import StrEnum

import msgspec

from contracts.detections import seconds_of, video_time
from contracts.events import DetectionEvent
from contracts.shots import Shot

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
SCENE_COLUMNS = (
    "Scene Number",
    "Start Frame",
    "Start Timecode",
    "Start Time (seconds)",
    "End Frame",
    "End Timecode",
    "End Time (seconds)",
    "Length (frames)",
    "Length (timecode)",
    "Length (seconds)",
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
    ResultFormat.CSV: "text/csv",
}


def render(
    events: Iterable[DetectionEvent], result_format: ResultFormat, *, is_scene_list: bool = False
) -> Iterator[bytes]:
    """The events as text, one piece per event as soon as it is there, so that both ends hold one event at a time.

    is_scene_list: whether a CSV has a row for each shot, or one for each detection.
    """
    renderers: dict[ResultFormat, Callable[[Iterable[DetectionEvent]], Iterator[bytes]]] = {
        ResultFormat.JSONL: as_json_lines,
        ResultFormat.JSON: as_json_array,
        ResultFormat.CSV: as_scene_list if is_scene_list else as_csv,
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


def as_scene_list(events: Iterable[DetectionEvent]) -> Iterator[bytes]:
    """A header, then one row per shot."""
    yield _csv_lines([SCENE_COLUMNS])
    number = 0
    for event in events:
        for shot in event.shots or ():
            number += 1
            yield _csv_lines([_scene_row(number, shot)])


def _scene_row(number: int, shot: Shot) -> tuple[object, ...]:
    start_s, end_s = seconds_of(shot.start_time), seconds_of(shot.end_time)
    return (
        number,
        shot.start_frame + 1,
        shot.start_time,
        f"{start_s:.3f}",
        shot.end_frame + 1,
        shot.end_time,
        f"{end_s:.3f}",
        shot.end_frame - shot.start_frame + 1,
        video_time(end_s - start_s),
        f"{end_s - start_s:.3f}",
    )


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
