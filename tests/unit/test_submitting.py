"""`detections submit`: the upload and what is heard of it meanwhile, as one."""

from pathlib import Path

import pytest

from contracts.events import DetectionEvent
from detections.submitting import Submission, View, submit
from tests.fake_edge import FakeEdge


class GoneReader(View):
    """A stdout that nobody reads any more."""

    def saw(self, event: DetectionEvent) -> None:
        raise BrokenPipeError(event.task_id)


async def test_a_reader_that_has_seen_enough_ends_the_upload(tmp_path: Path) -> None:
    file = tmp_path / "long.ts"
    file.write_bytes(bytes(3_000_000))

    with FakeEdge() as edge, GoneReader(file.name, prints_events=True) as view:
        submission = Submission(file=file, url=edge.url, follow=True, bytes_per_s_max=300_000)
        with pytest.raises(BrokenPipeError) as caught:
            await submit(submission, view)

        assert edge.cancelled == list(caught.value.args), "the edge was told: the task need not wait for the rest"
        assert not any(received.is_whole for received in edge.uploads.values())
