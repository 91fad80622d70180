"""How a listener resumes, catches up, waits and gives up."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.events import DetectionEvent, MediaStatus
from contracts.failures import FailureCode, FailureRecord
from detections import following
from detections.answers import ServiceError, Task, TaskStatus, UnreachableError
from detections.following import Following
from tests.fake_edge import report

NOT_FOUND = ServiceError(status=404, code="task_not_found", detail="no task t")
GONE = UnreachableError("http://edge", "connection refused")


def as_bytes(offset: int, event: DetectionEvent) -> bytes:
    return b"id: %d\ndata: %b\n\n" % (offset, msgspec.json.encode(event))


def end(sequence: int) -> DetectionEvent:
    return msgspec.structs.replace(report("t", sequence), annotations=[], media_status=MediaStatus.AI_PROCESSED)


def sequences(events: list[DetectionEvent]) -> list[int | None]:
    return [event.sequence for event in events]


def listening(**options: object) -> Following:
    """A listener of task `t` that knew of nothing stored."""
    listener = Following(task_id="t", must_exist=False, **options)
    listener.receive(b"id: 0\n\n")
    listener.begin_without(NOT_FOUND)
    return listener


def test_a_first_connection_asks_for_the_task_and_from_now_on() -> None:
    listener = Following(task_id="t")

    assert listener.params() == {"taskId": "t"}
    assert "Last-Event-ID" not in listener.headers()


def test_the_next_connection_asks_after_the_last_whole_event() -> None:
    listener = listening()
    listener.receive(as_bytes(1, report("t", 1)) + as_bytes(2, report("t", 2))[:20])

    assert listener.headers()["Last-Event-ID"] == "1"
    assert sequences(listener.take()) == [1]


def test_a_task_that_falls_silent_is_asked_for_what_is_stored_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 0.0
    monkeypatch.setattr(following, "clock_s", lambda: now_s)
    listener = listening()
    asked_at_s = []
    for now_s in range(0, 100, 5):
        listener.receive(b": heartbeat\nid: 1\n\n" if now_s != 40 else as_bytes(1, report("t", 1)))
        if listener.wants_stored:
            asked_at_s.append(now_s)
            listener.restore(Task(task_id="t", status=TaskStatus.RUNNING), [])

    assert asked_at_s == [35, 75]
    listener.take()
    now_s = 200
    listener.receive(b": heartbeat\n\n")
    listener.restore(Task(task_id="t", status=TaskStatus.SUCCEEDED), [report("t", 1), report("t", 2)])
    assert sequences(listener.take()) == [2, 3]
    assert listener.is_over


def test_half_an_event_is_forgotten_with_its_connection() -> None:
    listener = listening()
    listener.receive(as_bytes(1, report("t", 1))[:-20])
    listener.headers()

    listener.receive(as_bytes(1, report("t", 1)))

    assert sequences(listener.take()) == [1]


def test_a_task_s_listener_ends_with_its_last_event() -> None:
    listener = listening()

    listener.receive(as_bytes(1, report("t", 1)) + as_bytes(2, end(2)))

    assert sequences(listener.take()) == [1, 2]
    assert listener.is_over


def test_a_listener_of_everything_never_ends() -> None:
    listener = Following()

    listener.receive(as_bytes(1, end(1)))

    assert sequences(listener.take()) == [1]
    assert not listener.is_over


def test_what_comes_twice_is_given_once() -> None:
    listener = listening()

    listener.receive(as_bytes(1, report("t", 1)) + as_bytes(2, report("t", 1)) + as_bytes(3, report("t", 2)))

    assert sequences(listener.take()) == [1, 2]


def test_progress_has_no_number_and_is_always_given() -> None:
    progress = msgspec.structs.replace(report("t", 1), sequence=None, annotations=[])
    listener = listening()

    listener.receive(as_bytes(1, progress) + as_bytes(2, progress))

    assert sequences(listener.take()) == [None, None]


def test_stored_reports_come_before_what_the_stream_brought() -> None:
    listener = Following(task_id="t")
    listener.receive(b"id: 7\n\n" + as_bytes(8, report("t", 3)))

    before = listener.take()
    listener.restore(Task(task_id="t", status=TaskStatus.RUNNING), [report("t", n) for n in (1, 2, 3)])

    assert before == []
    assert sequences(listener.take()) == [1, 2, 3]
    assert not listener.is_over


def test_a_task_that_has_ended_long_ago_is_told_to_its_end() -> None:
    failure = FailureRecord(code=FailureCode.NO_FRAMES, detail="no frames")
    listener = Following(task_id="t")

    listener.receive(b"id: 7\n\n")
    listener.restore(Task(task_id="t", status=TaskStatus.FAILED, media_id="m", error=failure), [report("t", 1)])
    last = listener.take()[-1]

    assert (last.sequence, last.media_status, last.error, last.media_id) == (2, MediaStatus.ERROR, failure, "m")
    assert listener.is_over


def test_a_stored_end_says_that_the_medium_was_cut() -> None:
    stored = msgspec.json.decode(
        b'{"taskId": "t", "status": "Succeeded", "percent": 100, "isPartial": true}', type=Task
    )
    listener = Following(task_id="t")
    listener.receive(b"id: 9\n\n")

    listener.restore(stored, [])

    assert [event.partial for event in listener.take()] == [True]


def test_a_task_that_must_exist_is_missed() -> None:
    with pytest.raises(ServiceError, match="task_not_found"):
        Following(task_id="t").begin_without(NOT_FOUND)


def test_another_refusal_is_never_taken_for_a_task_that_is_to_come() -> None:
    with pytest.raises(ServiceError, match="not yours"):
        Following(task_id="t", must_exist=False).begin_without(
            ServiceError(status=403, code="forbidden", detail="not yours")
        )


def test_a_gap_in_a_task_is_filled_from_what_is_stored() -> None:
    listener = listening()
    listener.receive(as_bytes(1, report("t", 1)) + b"event: gap\ndata: {}\n\n" + as_bytes(9, report("t", 5)))

    before = listener.take()
    wants_stored = listener.wants_stored
    listener.restore(Task(task_id="t", status=TaskStatus.RUNNING), [report("t", n) for n in range(1, 5)])

    assert (sequences(before), wants_stored) == ([1], True)
    assert sequences(listener.take()) == [2, 3, 4, 5]


def test_a_report_that_the_stream_left_out_is_read_from_what_is_stored() -> None:
    listener = listening()
    listener.receive(as_bytes(1, report("t", 1)) + as_bytes(2, report("t", 4)) + as_bytes(3, report("t", 5)))

    before = listener.take()
    listener.restore(Task(task_id="t", status=TaskStatus.RUNNING), [report("t", n) for n in (1, 2, 3, 4)])

    assert sequences(before) == [1]
    assert sequences(listener.take()) == [2, 3, 4, 5]


def test_a_report_that_nobody_has_is_not_waited_for() -> None:
    listener = listening()
    listener.receive(as_bytes(1, report("t", 3)) + as_bytes(2, end(4)))

    listener.take()
    listener.restore(Task(task_id="t", status=TaskStatus.RUNNING), [])

    assert sequences(listener.take()) == [3, 4]
    assert listener.is_over


def test_whoever_resumes_has_what_came_before() -> None:
    listener = Following(task_id="t", last_event_id="7")

    listener.receive(as_bytes(8, report("t", 5)) + as_bytes(9, report("t", 6)))

    assert sequences(listener.take()) == [5, 6]


def test_whoever_resumes_is_not_given_again_what_came_before_because_the_task_is_silent() -> None:
    listener = Following(task_id="t", last_event_id="7")
    listener.receive(b"id: 7\n\n")

    listener.restore(Task(task_id="t", status=TaskStatus.QUEUED), [report("t", 1), report("t", 2)])
    listener.receive(as_bytes(8, report("t", 3)))

    assert sequences(listener.take()) == [3]


def test_whoever_resumes_behind_a_gap_is_given_everything_that_is_stored() -> None:
    listener = Following(task_id="t", last_event_id="7")
    listener.receive(b"event: gap\nid: 9\ndata: {}\n\n")
    assert listener.take() == []
    assert listener.wants_stored

    listener.restore(Task(task_id="t", status=TaskStatus.RUNNING), [report("t", 1), report("t", 2)])

    assert sequences(listener.take()) == [1, 2]


def test_a_gap_without_a_task_is_told() -> None:
    told: list[str] = []
    listener = Following(on_gap=lambda: told.append("gap"))

    listener.receive(b"event: gap\ndata: {}\n\n" + as_bytes(9, report("t", 5)))

    assert sequences(listener.take()) == [5]
    assert told == ["gap"]


def test_an_event_of_a_later_version_is_skipped() -> None:
    listener = listening()

    listener.receive(b"event: news\ndata: 1\n\n" + as_bytes(1, report("t", 1)))

    assert sequences(listener.take()) == [1]


def test_delays_grow_and_end() -> None:
    listener = listening()

    delays_s = [listener.delay_s(GONE) for _ in range(following.RETRIES_MAX)]

    assert all(
        0.5 * least <= delay <= least for delay, least in zip(delays_s, (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5), strict=False)
    )
    assert max(delays_s) <= 5
    with pytest.raises(UnreachableError):
        listener.delay_s(GONE)


def test_whatever_is_received_gives_new_patience() -> None:
    listener = listening()
    for _ in range(following.RETRIES_MAX):
        listener.delay_s(None)

    listener.receive(b": alive\n\n")

    assert listener.delay_s(None) <= 0.1


def test_an_edge_that_never_answered_is_given_up_soon() -> None:
    listener = Following(task_id="t")

    total_s = sum(listener.delay_s(GONE) for _ in range(following.OPENING_RETRIES_MAX))

    assert total_s < 1
    with pytest.raises(UnreachableError):
        listener.delay_s(GONE)


def test_streams_that_end_again_and_again_are_given_up() -> None:
    listener = Following(retries_max=1)
    listener.receive(b": alive\n\n")
    listener.delay_s(None)

    with pytest.raises(ServiceError, match="stream_ended"):
        listener.delay_s(None)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 500])
def test_a_refusal_that_will_not_change_is_raised_at_once(status: int) -> None:
    refused = ServiceError(status=status, code="no", detail="no")

    with pytest.raises(ServiceError) as raised:
        Following().delay_s(refused)

    assert raised.value is refused


def test_a_busy_edge_is_asked_again_no_sooner_than_it_says() -> None:
    listener = Following()
    listener.receive(b"retry: 3000\n\n")

    assert 1.5 <= listener.delay_s(ServiceError(status=503, code="too_many_requests", detail="busy")) <= 3


@given(cuts=st.lists(st.integers(min_value=1, max_value=2000), max_size=12), resends=st.integers(0, 4))
def test_however_connections_break_every_report_is_given_once(cuts: list[int], resends: int) -> None:
    log = [report("t", n) for n in range(1, 8)] + [end(8)]
    listener, got = listening(), []

    for cut in [*cuts, 10**6]:
        if listener.is_over:
            break
        last = int(listener.headers().get("Last-Event-ID", "0"))
        first = max(0, last - resends)  # an edge may show again what it does not know to be shown
        listener.receive(b"".join(as_bytes(n, log[n - 1]) for n in range(first + 1, 9))[:cut])
        got += listener.take()

    assert sequences(got) == list(range(1, 9))
    assert listener.is_over
