"""The course of an upload: which share had left when."""

import pytest

from detections.streaming import Course, Sent


def course() -> Course:
    made = Course(total_bytes=1000)
    made.sent += [Sent(10.0, 100), Sent(11.0, 400), Sent(12.0, 1000)]
    return made


@pytest.mark.parametrize(("at_s", "share"), [(9.9, 0.0), (10.0, 0.1), (11.5, 0.4), (12.0, 1.0), (99.0, 1.0)])
def test_the_share_is_what_had_left_by_then(at_s: float, share: float) -> None:
    assert course().share_sent(at_s) == share


@pytest.mark.parametrize(("sent_bytes", "at_s"), [(1, 10.0), (100, 10.0), (101, 11.0), (1000, 12.0), (1001, None)])
def test_bytes_had_left_with_the_first_chunk_that_holds_them(sent_bytes: int, at_s: float | None) -> None:
    assert course().left_at_s(sent_bytes) == at_s
