"""Reports as text: what a program, a person with a spreadsheet and an attacker with a label get."""

import csv
import io

import msgspec
import pytest

from contracts.detections import Detection
from contracts.events import DetectionEvent, MediaStatus
from contracts.formats import CONTENT_TYPES, CSV_COLUMNS, ResultFormat, render


def detection(label: str = "car", confidence: float = 0.75) -> Detection:
    return Detection(
        center_x=0.5, center_y=0.25, width=0.125, height=0.0625, class_num=2, label=label, confidence=confidence
    )


def report(sequence: int = 1, *, annotations: list[Detection] | None = None) -> DetectionEvent:
    return DetectionEvent(
        annotations=[detection()] if annotations is None else annotations,
        media_id="b",
        media_status=MediaStatus.AI_PROCESSING,
        media_percent=7,
        task_id="a",
        sequence=sequence,
        frame_index=8,
        video_time="00:00:00.320",
    )


def text(events: list[DetectionEvent], result_format: ResultFormat) -> str:
    return b"".join(render(events, result_format)).decode()


def rows(events: list[DetectionEvent]) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text(events, ResultFormat.CSV), newline="")))


def test_json_lines_hold_one_event_each() -> None:
    lines = text([report(1), report(2)], ResultFormat.JSONL).splitlines()

    assert [msgspec.json.decode(line, type=DetectionEvent) for line in lines] == [report(1), report(2)]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_json_is_one_array_of_any_length(count: int) -> None:
    events = [report(sequence) for sequence in range(count)]

    assert msgspec.json.decode(text(events, ResultFormat.JSON), type=list[DetectionEvent]) == events


def test_an_array_comes_piece_by_piece_as_events_do() -> None:
    def endless():
        while True:
            yield report()

    pieces = render(endless(), ResultFormat.JSON)

    assert next(pieces).startswith(b'[{"annotations":')
    assert next(pieces).startswith(b",")


def test_csv_has_a_row_for_each_detection() -> None:
    header, *found = rows([report(annotations=[detection("car"), detection("bus")]), report(2)])

    assert tuple(header) == CSV_COLUMNS
    assert [row[6] for row in found] == ["car", "bus", "car"]
    assert found[0] == ["a", "b", "1", "8", "00:00:00.320", "2", "car", "0.75", "0.5", "0.25", "0.125", "0.0625"]


def test_csv_without_detections_is_a_header() -> None:
    assert rows([]) == rows([report(annotations=[])]) == [list(CSV_COLUMNS)]


@pytest.mark.parametrize("label", ["=1+1", "+x", "-x", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "  =1"])
def test_no_label_is_a_formula_for_a_spreadsheet(label: str) -> None:
    [_, row] = rows([report(annotations=[detection(label)])])

    assert row[6] == f"'{label}"


@pytest.mark.parametrize("label", ['he said "car", twice', "two\nlines", "a;b", "Größe 車", ""])
def test_any_other_label_survives_as_it_is(label: str) -> None:
    [_, row] = rows([report(annotations=[detection(label)])])

    assert row[6] == label


def test_every_format_has_a_content_type() -> None:
    assert set(CONTENT_TYPES) == set(ResultFormat)
