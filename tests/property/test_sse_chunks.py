"""However a stream is cut, the same events come out."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from detections.sse import SseEvent, SseParser

LINE = st.one_of(
    st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=12),
    st.sampled_from(("data: x", "data", "id: 1", "id", "event: gap", ": c", "retry: 5", "", "", "")),
    st.text(alphabet="añ語🚗\u2028", max_size=6).map(lambda text: f"data: {text}"),
)
STREAM = st.lists(st.tuples(LINE, st.sampled_from(("\n", "\r", "\r\n"))), max_size=40).map(
    lambda lines: "".join(line + end for line, end in lines).encode()
)


@given(stream=STREAM, cuts=st.lists(st.integers(min_value=0, max_value=400), max_size=30))
def test_any_chunking_gives_the_events_of_the_whole(stream: bytes, cuts: list[int]) -> None:
    edges = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    chunks = [stream[a:b] for a, b in itertools.pairwise(edges)]
    whole, cut = SseParser(), SseParser()

    expected = whole.feed(stream)
    got = [event for chunk in chunks for event in cut.feed(chunk)]

    assert got == expected
    assert (cut.last_event_id, cut.retry_ms) == (whole.last_event_id, whole.retry_ms)


@given(stream=STREAM)
def test_byte_by_byte_is_no_different(stream: bytes) -> None:
    parser = SseParser()

    got = [event for at in range(len(stream)) for event in parser.feed(stream[at : at + 1])]

    assert got == SseParser().feed(stream)


@given(sent=st.lists(st.tuples(st.integers(min_value=0), st.text(alphabet="ab ñ\n", max_size=20)), max_size=20))
def test_what_was_written_as_events_is_read_as_them(sent: list[tuple[int, str]]) -> None:
    def written(offset: int, data: str) -> str:
        lines = "".join(f"data: {line}\n" for line in data.split("\n"))
        return f"id: {offset}\n{lines}\n"

    stream = "".join(written(offset, data) for offset, data in sent).encode()

    assert SseParser().feed(stream) == [SseEvent(data, "message", str(offset)) for offset, data in sent]
