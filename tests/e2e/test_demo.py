"""`make demo`: the whole system on one clip, and what it says and leaves behind."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import av
import pytest

from tests.conftest import REPOSITORY
from tests.media import Square, write_image, write_video
from tests.processes import wait_until, wait_until_nothing_lives_of
from tests.scripted import write_model

pytestmark = pytest.mark.e2e


def demo(folder: Path, *arguments: object, **environ: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "detections.demo", *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environ},
        capture_output=True,
        text=True,
        check=False,
    )


def detections_said(done: "subprocess.CompletedProcess[str]") -> int:
    assert done.returncode == 0, done.stderr
    match = re.search(r"(\d+) detections", done.stdout.splitlines()[-1])
    assert match is not None
    return int(match[1])


def frames(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def test_the_street_is_streamed_and_what_was_found_is_held_against_what_was_drawn(tmp_path: Path) -> None:
    done = demo(tmp_path, "--seconds", 4)

    assert detections_said(done) > 400
    lines = done.stdout.splitlines()
    before_end = [line for line in lines if re.match(r" +\d{1,2}% sent", line)]
    assert before_end, "nothing was detected before the upload had ended"
    [said] = [line for line in lines if line.startswith("found against drawn")]
    rates = [float(rate) for rate in re.findall(r"(?:recall|precision) (\d\.\d+)", said)]
    assert all(rate > 0.9 for rate in rates), said
    assert any(line.startswith("first detection: ") for line in lines)
    assert frames(tmp_path / "out" / "annotated.mp4") == 100
    assert (tmp_path / "out" / "annotated.png").stat().st_size > 10_000


def test_any_video_and_model_will_do(tmp_path: Path, new_host: Callable[[], dict[str, str]]) -> None:
    clip = write_video(tmp_path / "squares.mp4", frames=40, squares=(Square(dx=2),), noise=30)

    done = demo(tmp_path, clip, "--model", write_model(tmp_path / "squares.json"), **new_host())

    assert detections_said(done) == 10  # every 4th frame is looked at
    assert frames(tmp_path / "out" / "annotated.mp4") == 40


def test_a_picture_will_do(tmp_path: Path, new_host: Callable[[], dict[str, str]]) -> None:
    picture = write_image(tmp_path / "squares.png", squares=(Square(x=8), Square(x=80)))

    done = demo(tmp_path, picture, "--model", write_model(tmp_path / "squares.json"), **new_host())

    assert detections_said(done) == 2
    assert (tmp_path / "out" / "annotated.png").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_demo_that_is_ended_leaves_nothing_behind(number: signal.Signals, tmp_path: Path) -> None:
    storages = tmp_path / "tmp"
    storages.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "detections.demo", "--seconds", "1"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "TMPDIR": str(storages)},
        stderr=subprocess.PIPE,
    )
    # by then nothing is imported any more: of a Ctrl-C in a callback of the import system Python only says so and goes on
    wait_until(lambda: any(log.stat().st_size for log in storages.glob("*/logs/edge.log")))
    process.send_signal(number)
    _, said = process.communicate(timeout=60)

    assert (process.returncode, said) == (130, b"")
    assert list(storages.iterdir()) == []
    wait_until_nothing_lives_of(storages)


@pytest.mark.parametrize(
    ("name", "said"), [("missing.mp4", "missing.mp4"), ("empty.mp4", "empty_media"), ("pipe.mp4", "Not a regular file")]
)
def test_a_file_that_cannot_be_shown_is_one_line(name: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe.mp4")

    done = demo(tmp_path, tmp_path / name, "--model", write_model(tmp_path / "squares.json"))

    assert done.returncode == 1
    assert said in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
