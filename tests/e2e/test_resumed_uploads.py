"""An upload over a line that breaks: the same task looks at all of it, and nothing tells it from an undisturbed one."""

import asyncio
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from contracts.events import DetectionEvent
from detections import Client
from detections.answers import TaskStatus
from detections.local import LocalStack
from tests.cutting import line_to
from tests.e2e.up import NO_BOX_TIME, clip, port_of
from tests.media import Container
from tests.processes import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

WAIT_S = 60.0


def seen(events: list[DetectionEvent]) -> list[tuple[object, ...]]:
    """What reports say, without whose they are."""
    return [(event.sequence, event.frame_index, event.video_time, event.annotations) for event in events]


def ended(client: Client, task_id: str) -> None:
    wait_until(lambda: client.task(task_id).status.is_end, timeout_s=WAIT_S)
    assert client.task(task_id).status is TaskStatus.SUCCEEDED


@pytest.mark.parametrize("container", [Container.MP4_FRONT, Container.MP4_END])
async def test_three_cuts_cost_no_report_and_no_second_task(
    stack: LocalStack, client: Client, tmp_path: Path, container: Container
) -> None:
    path = clip(tmp_path, frames=200, container=container)
    size_bytes = path.stat().st_size
    task_id = str(uuid4())
    async with line_to(port_of(stack.url)) as line:
        line.cut_after = [size_bytes // 2, size_bytes // 4, size_bytes // 8]
        with Client(f"http://127.0.0.1:{line.port}") as cut:
            started = await asyncio.to_thread(
                cut.submit, path, task_id=task_id, config=NO_BOX_TIME, bytes_per_s_max=size_bytes
            )
    undisturbed = await asyncio.to_thread(client.submit, path, config=NO_BOX_TIME)
    await asyncio.to_thread(ended, client, task_id)
    await asyncio.to_thread(ended, client, undisturbed.task_id)

    assert line.cuts == 3
    assert (started.task_id, started.media_id) == (task_id, undisturbed.media_id)
    assert len(client.results(task_id)) > 100
    assert seen(client.results(task_id)) == seen(client.results(undisturbed.task_id))
    assert client.task(task_id).counts == client.task(undisturbed.task_id).counts


def test_the_draft_by_hand(stack: LocalStack, client: Client, tmp_path: Path) -> None:
    """As docs/uploads.md has it with curl: create, ask, append, ask."""
    content = clip(tmp_path).read_bytes()
    task_id = str(uuid4())
    version = {"Upload-Draft-Interop-Version": "8"}
    with httpx.Client(base_url=stack.url, headers=version, trust_env=False, timeout=WAIT_S) as http:
        headers = {"X-Filename": "clip.mp4", "X-Task-Id": task_id, "Upload-Complete": "?0"}
        created = http.post(
            "/detect/video", content=content[:1000], headers=headers | {"Upload-Length": str(len(content))}
        )
        assert created.status_code == 201
        upload = created.headers["location"]
        asked = http.head(upload)
        assert (asked.status_code, asked.headers["upload-offset"]) == (204, "1000")
        rest = {"Content-Type": "application/partial-upload", "Upload-Offset": "1000", "Upload-Complete": "?1"}
        wrong = http.patch(upload, content=content, headers=rest | {"Upload-Offset": "0"})
        assert (wrong.status_code, wrong.json()["expected-offset"]) == (409, 1000)
        finished = http.patch(upload, content=content[1000:], headers=rest)
        assert finished.status_code == 202
        assert http.head(upload).headers["upload-complete"] == "?1"
    ended(client, task_id)
