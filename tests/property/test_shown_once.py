"""Whatever is published again, late, or by somebody who lost the task: each listener sees one clean story."""

from hypothesis import given
from hypothesis import strategies as st

from contracts.events import AnyEvent, FrameDetected, TaskEnded
from edge.shown import Shown
from tests.events import end, progress, report

TASKS = ["a", "b", "c"]


@st.composite
def any_event(draw: st.DrawFn) -> AnyEvent:
    task, epoch, sequence = draw(st.sampled_from(TASKS)), draw(st.integers(1, 4)), draw(st.integers(1, 8))
    match draw(st.sampled_from(["report", "report", "progress", "end"])):
        case "report":
            return report(task, sequence, epoch=epoch)
        case "progress":
            return progress(task, epoch=epoch)
        case _:
            return end(task, sequence, epoch=epoch)


@given(st.lists(any_event(), max_size=60))
def test_of_each_task_a_sequence_comes_once_epochs_only_rise_and_nothing_follows_the_end(
    events: list[AnyEvent],
) -> None:
    shown = Shown(tasks_max=len(TASKS))
    seen = [event for event in events if shown.admit(event)]
    for task in TASKS:
        story = [event for event in seen if event.task_id == task]
        sequences = [event.sequence for event in story if isinstance(event, FrameDetected)]
        epochs = [event.epoch for event in story if not isinstance(event, TaskEnded)]
        assert len(sequences) == len(set(sequences))
        assert epochs == sorted(epochs)
        assert not any(isinstance(event, TaskEnded) for event in story[:-1])


@given(st.permutations(range(2, 20)))
def test_reports_that_overtake_each_other_all_come(order: list[int]) -> None:
    shown = Shown(tasks_max=1)
    assert all(shown.admit(report("a", sequence)) for sequence in [1, *order])
    assert not any(shown.admit(report("a", sequence)) for sequence in order)


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(0, 5)), max_size=5))
def test_takers_that_repeat_what_was_not_confirmed_add_up_to_the_whole_story(takers: list[tuple[int, int]]) -> None:
    """Each taker goes on some reports back from where the one before stopped; together they report 1 .. n."""
    shown, last, seen = Shown(tasks_max=1), 0, list[int]()
    for epoch, (count, back) in enumerate(takers, start=1):
        first = max(1, last + 1 - back)
        for sequence in range(first, first + count):
            event = report("a", sequence, epoch=epoch)
            if shown.admit(event):
                seen.append(sequence)
        last = max(last, first + count - 1)
    assert seen == list(range(1, last + 1))
