"""The end of a results file is found from behind, whatever lies before it."""

import itertools
from pathlib import Path
from tempfile import TemporaryDirectory

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
from contracts.wire import encode

TASK = "0b8b8a2e-0000-4000-8000-000000000001"


def record(number: int, *, is_report: bool, padding: int) -> AnyRecord:
    """A record whose line has about `padding` bytes more than it must."""
    if not is_report:
        return Checkpoint(frame_index=number, at_s=float(number), counts=Counts(), sequence=number)
    medium = "m" * padding
    return Reported(event=FrameDetected(task_id=TASK, media_id=medium, percent=0, sequence=number, annotations=[]))


lines = st.lists(st.tuples(st.booleans(), st.sampled_from([0, 100, BLOCK_BYTES - 200, 2 * BLOCK_BYTES])), max_size=12)


@settings(max_examples=60, deadline=None)
@given(shapes=lines, torn=st.integers(0, 3 * BLOCK_BYTES))
def test_backwards_is_forwards_from_behind(shapes: list[tuple[bool, int]], torn: int) -> None:
    written = [
        record(n, is_report=is_report, padding=padding) for n, (is_report, padding) in enumerate(shapes, start=1)
    ]
    encoded = [encode(one) + b"\n" for one in written]
    ends = list(itertools.accumulate(map(len, encoded)))
    with TemporaryDirectory() as folder:
        layout = Layout(Path(folder))
        layout.task(TASK).mkdir(parents=True)
        path = layout.results(TASK, epoch=1)
        path.write_bytes(b"".join(encoded) + b"{" * torn)

        assert list(records_backwards(path)) == list(zip(written, ends, strict=True))[::-1]
        for end in ends:
            assert [place for _, place in records_backwards(path, bytes_max=end)] == ends[: ends.index(end) + 1][::-1]
        checkpoints = [one for one in written if isinstance(one, Checkpoint)]
        assert last_checkpoint(layout, TASK) == (checkpoints[-1] if checkpoints else None)
        assert last_reports(layout, TASK, at_most=3) == tuple(reports(layout, TASK))[-3:]
