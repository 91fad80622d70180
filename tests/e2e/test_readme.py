"""The README tells the truth: its curl lines run against a live system, and every path it names exists."""

import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
import pytest

from detections import Client
from detections.local import LocalStack
from tests.conftest import REPOSITORY
from tests.media import write_image, write_video
from tests.processes import WAIT_S

README = (REPOSITORY / "README.md").read_text()
EXAMPLES = re.search(r"<!-- examples.*?```sh\n(.*?)```", README, re.DOTALL)


def test_every_path_of_the_follow_one_video_table_exists() -> None:
    table = README.split("### Follow one video", 1)[1].split("\n## ", 1)[0]
    paths = re.findall(r"`([a-z_]+/[a-z_/.]*)`", table)

    assert len(paths) >= 12
    assert [path for path in paths if not (REPOSITORY / path).exists()] == []


def test_every_link_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)

    assert [link for link in links if not (REPOSITORY / link).exists()] == []


@pytest.mark.e2e
def test_the_curl_examples_work_as_they_stand(stack: LocalStack, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not on this machine")
    assert EXAMPLES is not None
    write_image(tmp_path / "photo.jpg")
    write_video(tmp_path / "street.mp4")
    task = ""
    answers: list[str] = []
    for line in EXAMPLES[1].splitlines():
        if line.startswith("curl"):
            answers.append(run(line, stack.url, task, tmp_path))
            if found := re.search(r'"taskId":"([^"]+)"', answers[-1]):
                task = found[1]
                wait_for_end(stack.url, task)

    picture, stream, upload, status, results = answers
    assert [box["label"] for box in msgspec.json.decode(picture)] == ["red"]
    assert "id:" in stream
    assert msgspec.json.decode(upload)["status"] == "started"
    assert msgspec.json.decode(status)["taskId"] == task
    assert msgspec.json.decode(results.splitlines()[0])["annotations"]


def wait_for_end(url: str, task: str) -> None:
    """A reader types the next line later than a script does."""
    with Client(url) as client:
        list(client.events(task))


def run(line: str, url: str, task: str, folder: Path) -> str:
    """What one line of the README prints; of a stream, which has no end, the first lines."""
    command = ["bash", "-c", "exec " + line.replace("http://127.0.0.1:8000", url)]
    with subprocess.Popen(
        command,
        cwd=folder,
        env={"TASK": task, "PATH": "/usr/bin:/bin"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stdout is not None
        if "/detect/stream" in line:
            printed = "".join(until_an_id(running.stdout))
            running.kill()
            return printed
        printed, said = running.communicate(timeout=WAIT_S)
        assert running.returncode == 0, f"{line}: {said}"
        return printed


def until_an_id(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        yield line
        if line.startswith("id:"):
            return
