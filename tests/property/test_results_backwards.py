"""The end of a results file is found from behind, whatever lies before it."""

import itertools
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.detections import Counts
from contracts.events import FrameDetected
from contracts.results import (
    BLOCK_BYTES,
    AnyRecord,
    Checkpoint,
    Reported,
    last_checkpoint,
    last_reports,
    records_backwards,
    reports,
)
from contracts.storage import Layout

TASK = "0b8b8a2e-0000-4000-8000-000000000001"


def up_to(number: int) -> Checkpoint:
    return Checkpoint(frame_index=number, at_s=float(number), counts=Counts(), sequence=number)


def report(number: int, *, padding: int = 0) -> Reported:
    """A report whose line has about `padding` bytes more than it must."""
    return Reported(event=FrameDetected(task_id=TASK, media_id="m" * padding, sequence=number))


paddings = st.lists(st.sampled_from([None, 0, 100, BLOCK_BYTES - 200, 2 * BLOCK_BYTES]), max_size=10)


@settings(max_examples=60)
@given(paddings=paddings, has_torn_report=st.booleans(), torn=st.integers(0, 3 * BLOCK_BYTES))
def test_backwards_is_forwards_from_behind(paddings: list[int | None], has_torn_report: bool, torn: int) -> None:
    """A number is a report of that padding with its checkpoint, None a checkpoint alone."""
    written: list[AnyRecord] = []
    for number, padding in enumerate(paddings, start=1):
        written += [up_to(number)] if padding is None else [report(number, padding=padding), up_to(number)]
    written += [report(99)] * has_torn_report
    encoded = [msgspec.json.encode(one) + b"\n" for one in written]
    ends = list(itertools.accumulate(map(len, encoded)))
    with TemporaryDirectory() as folder:
        layout = Layout(Path(folder))
        layout.task(TASK).mkdir(parents=True)
        path = layout.results(TASK, epoch=1)
        path.write_bytes(b"".join(encoded) + b"{" * torn)

        assert list(records_backwards(path)) == list(zip(written, ends, strict=True))[::-1]
        for at, end in enumerate(ends):
            assert [place for _, place in records_backwards(path, bytes_max=end)] == ends[: at + 1][::-1]
        counting = [number for number, padding in enumerate(paddings, start=1) if padding is not None]
        assert [one.sequence for one in reports(layout, TASK)] == counting, (
            "a report without its checkpoint does not count"
        )
        assert last_reports(layout, TASK, at_most=3) == tuple(reports(layout, TASK))[-3:]
        assert last_checkpoint(layout, TASK) == (up_to(len(paddings)) if paddings else None)
