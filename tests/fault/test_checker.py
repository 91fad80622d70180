"""The checker finds what was planted, and nothing else."""

import msgspec
import pytest

from contracts.events import AnyEvent
from contracts.failures import FailureCode, FailureRecord
from contracts.shots import Shot
from tests.events import end, progress, report
from tests.fault.checker import Accepted, Posted, Seen, Verdict, check, shown

TASK = "00000000-0000-4000-8000-000000000001"
KEYS = (f"{TASK}:media", f"{TASK}:1", f"{TASK}:2", f"{TASK}:3")


def said(*sequences: int, epoch: int = 1) -> list[AnyEvent]:
    """Reports, each of the frame before its number."""
    return [
        msgspec.structs.replace(report(TASK, sequence, epoch=epoch), frame_index=sequence - 1) for sequence in sequences
    ]


def verdict(events: list[AnyEvent], *, reports: int | None = None, dead: tuple[str, ...] = ()) -> Verdict:
    return check(Seen(accepted=[Accepted(task_id=TASK, reports=reports)], events=events, dead_letters=dead))


def told(*keys: str, bodies: dict[str, bytes] | None = None) -> Verdict:
    posts = [Posted(task_id=TASK, key=key, body=(bodies or {}).get(key, b"")) for key in keys]
    return check(Seen(accepted=[Accepted(task_id=TASK, posts=KEYS)], events=[*said(1), end(TASK, 2)], posts=posts))


def test_an_undisturbed_run_is_clean() -> None:
    assert verdict([*said(1, 2, 3), progress(TASK), end(TASK, 4)], reports=3).is_clean


def test_what_at_least_once_allows_is_clean() -> None:
    again = [*said(1, 2), *said(1, 2, 3, epoch=2), *said(3, 4), *said(4, epoch=2), end(TASK, 5, epoch=2)]

    assert verdict([*again, end(TASK, 5, epoch=2)], reports=4).is_clean
    assert [each.sequence for each in shown(again)] == [1, 2, 3, 4]


def test_a_missing_report_is_lost() -> None:
    assert verdict([*said(1, 3), end(TASK, 4)]).lost == (f"{TASK}: report 2",)


def test_a_report_that_only_an_outdated_taker_says_is_lost() -> None:
    events = [*said(1), *said(1, epoch=2), *said(2), *said(3, epoch=2), end(TASK, 4, epoch=2)]

    assert verdict(events).lost == (f"{TASK}: report 2",)


def test_a_task_that_ends_early_has_lost_reports() -> None:
    assert verdict([*said(1, 2), end(TASK, 3)], reports=5).lost == (f"{TASK}: 3 of 5 reports",)


def test_one_number_for_two_frames_is_a_duplicate() -> None:
    other = msgspec.structs.replace(said(2, epoch=2)[0], frame_index=7)

    assert verdict([*said(1, 2), other, end(TASK, 3)]).duplicated == (f"{TASK}: report 2 says two things",)


def test_one_frame_under_two_numbers_is_a_duplicate() -> None:
    other = msgspec.structs.replace(said(3)[0], frame_index=1)

    assert verdict([*said(1, 2), other, end(TASK, 4)]).duplicated == (f"{TASK}: frame 1 twice",)


def test_two_ends_are_a_duplicate() -> None:
    failure = FailureRecord(code=FailureCode.CANCELLED, detail="")
    other = msgspec.structs.replace(end(TASK, 2), failure=failure)

    assert verdict([*said(1), end(TASK, 2), other]).duplicated == (f"{TASK}: two ends",)


def test_a_number_that_appears_after_a_later_one_is_unordered_and_lost_to_readers() -> None:
    found = verdict([*said(1, 3, 2), end(TASK, 4)])

    assert found.unordered == (f"{TASK}: report 2 after 3",)
    assert found.lost == (f"{TASK}: report 2",)


def test_a_report_after_the_end_is_unordered() -> None:
    assert verdict([*said(1), end(TASK, 3), *said(2)]).unordered == (f"{TASK}: report 2 after the end",)


def with_shots(sequence: int, *shots: tuple[int, int]) -> AnyEvent:
    told = [
        Shot(start_frame=first, end_frame=last, start_time="", end_time="", confidence=None, transition=None)
        for first, last in shots
    ]
    return msgspec.structs.replace(said(sequence)[0], shots=told)


def shots_verdict(*events: AnyEvent) -> Verdict:
    promise = Accepted(task_id=TASK, shots=((0, 19), (20, 39), (40, 59)))
    return check(Seen(accepted=[promise], events=[*events, end(TASK, len(events) + 1)]))


def test_shots_in_order_are_clean_however_many_a_report_tells_of() -> None:
    assert shots_verdict(with_shots(1, (0, 19)), with_shots(2, (20, 39), (40, 59))).is_clean


def test_the_last_shots_may_be_told_with_a_frame_that_was_reported() -> None:
    last = msgspec.structs.replace(with_shots(2, (20, 39), (40, 59)), frame_index=0)

    assert shots_verdict(with_shots(1, (0, 19)), last).is_clean


def test_a_missing_shot_is_lost() -> None:
    assert shots_verdict(with_shots(1, (0, 19)), with_shots(2, (40, 59))).lost == (f"{TASK}: shot 20..39",)


def test_a_shot_under_two_numbers_is_a_duplicate() -> None:
    found = shots_verdict(with_shots(1, (0, 19)), with_shots(2, (0, 19), (20, 39), (40, 59)))

    assert found.duplicated == (f"{TASK}: shot 0..19 twice",)


def test_one_number_for_two_shots_is_a_duplicate() -> None:
    other = msgspec.structs.replace(with_shots(2, (20, 38)), epoch=2)

    assert shots_verdict(with_shots(1, (0, 19)), with_shots(2, (20, 39), (40, 59)), other).duplicated == (
        f"{TASK}: report 2 says two things",
    )


def test_a_shot_that_begins_before_the_one_before_ends_is_unordered() -> None:
    found = shots_verdict(with_shots(1, (20, 39)), with_shots(2, (0, 19), (40, 59)))

    assert found.unordered == (f"{TASK}: shot 0..19 after 20..39",)


def test_frames_that_go_back_are_unordered() -> None:
    back = msgspec.structs.replace(said(3)[0], frame_index=0)

    assert verdict([*said(2), back, end(TASK, 4)]).unordered == (f"{TASK}: frame 0 after 1",)


@pytest.mark.parametrize("events", [[], said(1, 2)])
def test_a_task_without_an_end_is_stuck(events: list[AnyEvent]) -> None:
    assert verdict(events).stuck == (f"{TASK}: no end",)


def test_a_task_that_lies_with_the_dead_letters_is_not_stuck() -> None:
    assert verdict([], dead=(TASK,)).is_clean


def test_a_task_that_nobody_was_promised_needs_no_end_but_may_not_lose_reports() -> None:
    assert check(Seen(accepted=[], events=said(1))).is_clean
    assert check(Seen(accepted=[], events=[*said(2), end(TASK, 3)])).lost == (f"{TASK}: report 1",)


def test_posts_in_order_are_clean_also_twice() -> None:
    assert told(*KEYS).is_clean
    assert told(KEYS[0], KEYS[0], KEYS[1], KEYS[2], KEYS[1], KEYS[3]).is_clean


def test_a_missing_post_is_lost() -> None:
    assert told(KEYS[0], KEYS[1], KEYS[3]).lost == (f"{TASK}: post {KEYS[2]}",)


def test_a_post_that_comes_after_a_later_one_is_unordered() -> None:
    assert told(KEYS[0], KEYS[2], KEYS[1], KEYS[3]).unordered == (f"{TASK}: post {KEYS[1]} too late",)


def test_one_key_for_two_posts_is_a_duplicate() -> None:
    posts = [Posted(task_id=TASK, key=KEYS[1], body=body) for body in (b"a", b"b")]
    found = check(Seen(accepted=[Accepted(task_id=TASK)], events=[end(TASK, 1)], posts=posts))

    assert found.duplicated == (f"{TASK}: post {KEYS[1]} says two things",)
