"""The SSE parser, rule by rule of the specification."""

import pytest

from detections import sse
from detections.sse import MalformedStreamError, SseEvent, SseParser


def test_an_event_is_its_data_with_the_id_it_came_with() -> None:
    assert SseParser().feed(b"id: 7\ndata: a\n\n") == [SseEvent("a", "message", "7")]


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_every_line_end_counts(end: bytes) -> None:
    parser = SseParser()

    events = parser.feed(b"event: gap" + end + b"data: a" + end + b"data: b" + end + end)

    assert events == [SseEvent("a\nb", "gap", "")]


def test_a_line_end_cut_in_two_is_one_line_end() -> None:
    parser = SseParser()

    assert parser.feed(b"data: a\r") == []
    assert parser.feed(b"\ndata: b\r") == []
    assert parser.feed(b"\n\r\n") == [SseEvent("a\nb", "message", "")]


def test_an_event_without_data_is_not_given_but_its_id_counts() -> None:
    parser = SseParser()

    assert parser.feed(b"id: 41\n\n") == []
    assert parser.last_event_id == "41"


def test_an_id_counts_only_once_its_event_is_whole() -> None:
    parser = SseParser(last_event_id="3")

    parser.feed(b"id: 4\ndata: cut here")

    assert parser.last_event_id == "3"


def test_an_event_without_an_id_keeps_the_one_before() -> None:
    parser = SseParser()

    events = parser.feed(b"id: 5\ndata: a\n\ndata: b\n\n")

    assert [event.last_event_id for event in events] == ["5", "5"]


def test_comments_unknown_fields_and_null_ids_are_ignored() -> None:
    parser = SseParser(last_event_id="1")

    assert parser.feed(b": alive\nfoo: bar\nid: a\0b\ndata\n\n") == [SseEvent("", "message", "1")]


def test_only_one_space_after_the_colon_is_taken() -> None:
    assert SseParser().feed(b"data:  a:b\n\n")[0].data == " a:b"


def test_a_byte_order_mark_at_the_start_is_not_data() -> None:
    parser = SseParser()

    assert parser.feed(b"\xef\xbb") == []
    assert parser.feed(b"\xbfdata: a\n\n") == [SseEvent("a", "message", "")]


def test_broken_utf8_becomes_replacement_characters() -> None:
    assert SseParser().feed(b"data: \xff\n\n")[0].data == "\ufffd"


def test_separators_of_other_standards_are_data() -> None:
    text = "a\u2028b\x0bc\x85d"

    assert SseParser().feed(f"data: {text}\n\n".encode())[0].data == text


@pytest.mark.parametrize(
    ("line", "retry_ms"), [(b"1500", 1500), (b"999999999999", sse.RETRY_MS_MAX), (b"-1", None), (b"soon", None)]
)
def test_the_server_may_ask_for_a_delay_within_bounds(line: bytes, retry_ms: int | None) -> None:
    parser = SseParser()

    parser.feed(b"retry: " + line + b"\n")

    assert parser.retry_ms == retry_ms


@pytest.mark.parametrize("chunk", [b"data: " + b"x" * 1000, (b"data: " + b"x" * 90 + b"\n") * 10])
def test_an_event_that_never_ends_is_refused(chunk: bytes) -> None:
    with pytest.raises(MalformedStreamError):
        SseParser(characters_max=500).feed(chunk)
