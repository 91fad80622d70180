"""However the takers of a task die, its reports are one sequence without a gap and without a repetition."""

import tempfile
from collections.abc import Generator
from pathlib import Path

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.checkpoints import Journal, Superseded, Told, Watched, recorded, stand_on
from consumers.narrator import Narrator
from contracts.detections import Counts
from contracts.events import FrameDetected
from contracts.results import Checkpoint, last_checkpoint, reports
from contracts.storage import Layout
from engine.account import FrameReport

TASK = "0b8b8a2e-0000-4000-8000-000000000001"
NARRATOR = Narrator(task_id=TASK, media_id=TASK)
FRAMES = 12


class Life(msgspec.Struct, frozen=True):
    """How one taker fares until it is replaced."""

    reports: int
    """Reports that it publishes."""
    speaks: bool = True
    """False: it dies between its claim and its first word."""
    torn: bytes | None = b""
    """What a crash leaves of the line that was being written; None: it is only slow, and writes on when it wakes up."""


lives = st.builds(
    Life,
    reports=st.integers(0, 5),
    speaks=st.booleans(),
    torn=st.sampled_from([None, b"", b"{", b'{"record":"reported","event":{"type":"Fra']),
)


def watching(resume: Checkpoint | None) -> Generator[Watched, None, None]:
    first = resume.sequence + 1 if resume else 1
    for number in range(first, FRAMES + 1):
        yield FrameReport(sequence=number, frame_index=number, at_s=float(number), detections=[], percent=0)
        yield Checkpoint(frame_index=number, at_s=float(number), counts=Counts(), sequence=number)


@given(st.lists(lives, max_size=8))
@settings(max_examples=150)
def test_every_report_is_there_once_and_told_by_somebody(fates: list[Life]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        layout = Layout(Path(folder))
        layout.task(TASK).mkdir(parents=True)
        told: set[int] = set()
        slow: list[Generator[Told, None, None]] = []
        for epoch, fate in enumerate([*fates, Life(reports=FRAMES)], start=1):
            live(layout, epoch, fate, told=told, slow=slow)

        assert [report.sequence for report in reports(layout, TASK)] == list(range(1, FRAMES + 1))
        checkpoint = last_checkpoint(layout, TASK)
        assert checkpoint is not None
        assert checkpoint.sequence == FRAMES
        assert told == set(range(1, FRAMES + 1))


def live(layout: Layout, epoch: int, fate: Life, *, told: set[int], slow: list[Generator[Told, None, None]]) -> None:
    """One taker, from its claim to its crash; `told` gets what it published, `slow` those that will wake up again."""
    layout.results(TASK, epoch=epoch).touch(exist_ok=False)
    wake_up(slow)
    if not fate.speaks:
        return
    standing = stand_on(layout, TASK, epoch=epoch)
    told.update(report.sequence for report in standing.unconfirmed)
    journal = Journal(layout, TASK, epoch=epoch, standing=standing)
    seen = recorded(watching(standing.checkpoint), journal, lambda: NARRATOR)
    for _ in range(fate.reports):
        event = next(seen, None)
        if isinstance(event, FrameDetected):
            told.add(event.sequence)
    if fate.torn is None and fate.reports:
        slow.append(seen)
        return
    seen.close()
    with layout.results(TASK, epoch=epoch).open("ab") as file:
        file.write(fate.torn or b"")


def wake_up(slow: list[Generator[Told, None, None]]) -> None:
    """Each writes once more, finds that it is superseded, and publishes nothing."""
    while slow:
        try:
            event = next(slow.pop(), None)
        except Superseded:
            continue
        assert event is None, "it had nothing left to say"
